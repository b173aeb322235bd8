"""Checkpoints: whole or not at all, compared with their hashes, and never code from a file."""

import json
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from dinoseg.run_folder.checkpoint import MODEL_FILE, TRAINER_FILE, Checkpoint, write_checkpoint
from dinoseg.run_folder.checkpoint_manifest import CONTENTS_FILE, write_contents
from dinoseg.run_folder.folder import RunFolder


def _write(folder: Path, step: int, weights: int = 10, state: int = 10) -> None:
    optimizer = {"optimizer": {"momentum": torch.full((state,), float(step))}}
    write_checkpoint(folder, {"weight": torch.full((weights,), float(step))}, {}, optimizer, {"step": step})


def _steps(folder: Path) -> tuple[int, float, float]:
    opened = Checkpoint.open(folder)
    weights, state = opened.weights()["weight"], opened.trainer_state()
    return opened.progress["step"], float(weights[0]), float(state["optimizer"]["momentum"][0])


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: writing fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_last_becomes_previous_and_best_is_replaced(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _write(tmp_path / "last", step)
        _write(tmp_path / "best", step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "previous"]
    assert _steps(tmp_path / "last") == _steps(tmp_path / "best") == (3, 3.0, 3.0)
    assert _steps(tmp_path / "previous") == (2, 2.0, 2.0)


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_kill_between_the_renames_leaves_the_one_before(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / name, 1)
    rename, calls = Path.rename, []

    def killed_at_the_second(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed_at_the_second)
        _write(tmp_path / name, 2)
    assert _steps(tmp_path / name) == (1, 1.0, 1.0)
    _write(tmp_path / name, 3)
    assert _steps(tmp_path / name) == (3, 3.0, 3.0)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("weights", "state", "parts"),
    [
        (100_000, 10, ["model.safetensors: cannot be written", "File too large", "needs 0.4 MB"]),
        (10, 200_000, ["trainer.pt: cannot be written (File too large)", "needs 0.8 MB"]),
    ],
)
def test_a_full_disk_is_named_and_the_checkpoint_before_loads(
    weights: int, state: int, parts: list[str], tmp_path: Path
) -> None:
    _write(tmp_path / "last", 1)
    with _largest_file(50_000), pytest.raises(ValueError) as met:
        _write(tmp_path / "last", 2, weights, state)
    for part in [*parts, "MB are free", "make room", "--resume"]:
        assert part in str(met.value)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert _steps(tmp_path / "last") == (1, 1.0, 1.0)


def test_damage_is_named_with_what_was_found_and_expected(tmp_path: Path) -> None:
    _write(tmp_path / "last", 1)
    weights, contents = tmp_path / "last" / MODEL_FILE, tmp_path / "last" / CONTENTS_FILE
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(
        ValueError, match=r"last/model.safetensors: damaged: SHA-256 \w{12}\.\.\. found, \w{12}\.\.\. exp"
    ):
        _ = Checkpoint(tmp_path / "last").weights_sha256
    weights.write_bytes(good[:-1])
    with pytest.raises(
        ValueError, match=rf"damaged: {len(good) - 1} bytes found, {len(good)} expected; .*--resume prev"
    ):
        _ = Checkpoint(tmp_path / "last").weights_sha256
    weights.unlink()
    with pytest.raises(ValueError, match=r"model.safetensors: cannot be read"):
        _ = Checkpoint(tmp_path / "last").weights_sha256
    changed = json.loads(contents.read_text())
    changed["progress"]["step"] = 7
    contents.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"last/checkpoint.json: damaged: SHA-256"):
        _ = Checkpoint(tmp_path / "last").progress
    contents.write_text("{")
    with pytest.raises(ValueError, match=r"last/checkpoint.json: damaged .cut short"):
        _ = Checkpoint(tmp_path / "last").progress


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("open('trapped', 'w').close()",)


def test_code_in_an_optimiser_state_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "last", 1)
    (tmp_path / "last" / TRAINER_FILE).write_bytes(pickle.dumps({"optimizer": _Trap()}, protocol=2))
    with pytest.raises(ValueError, match=r"trainer.pt: damaged"):
        Checkpoint(tmp_path / "last").trainer_state()
    # Whoever can change one file can change the other.
    write_contents(tmp_path / "last", (MODEL_FILE, TRAINER_FILE), {"step": 1})
    with pytest.raises(
        ValueError, match=r"trainer.pt: refused, it holds more than tensors .*, and code in it is not run"
    ):
        Checkpoint(tmp_path / "last").trainer_state()
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("name", ["../../other/checkpoints/best", "", ".best.previous"])
def test_a_checkpoint_outside_the_run_is_not_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no checkpoint .* choose best, last, previous"):
        RunFolder(tmp_path).open_checkpoint(name)
