"""Files of tensors: the same contents are the same bytes, and the library reads them as its own."""

import os
import stat
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dinoseg.system.tensor_files import save_tensors

TENSORS = {"weight": torch.arange(3.0), "count": torch.tensor(7), "half": torch.ones(2, 2, dtype=torch.bfloat16)}


def test_the_same_contents_are_the_same_bytes(tmp_path: Path) -> None:
    metadata = {f"key {number}": 'a "word"\n\t\x01 é   😀 /' for number in range(12)}
    written = set()
    for order in (1, -1, 1, -1):
        save_tensors(dict(list(TENSORS.items())[::order]), tmp_path / "a", dict(list(metadata.items())[::order]))
        written.add((tmp_path / "a").read_bytes())
    assert len(written) == 1
    loaded = load_file(tmp_path / "a")
    assert loaded.keys() == TENSORS.keys() and all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)
    with safe_open(tmp_path / "a", framework="pt") as opened:
        assert opened.metadata() == metadata


def test_no_metadata_is_fine(tmp_path: Path) -> None:
    save_tensors(TENSORS, tmp_path / "a", {})
    assert load_file(tmp_path / "a").keys() == TENSORS.keys()


def test_others_read_it_as_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_tensors(TENSORS, tmp_path / "a", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
