"""What a message suggests for folders whose names say nothing."""

from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import save

from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import find_pairs
from dinoseg.data.suggestion import suggest_globs

COLOUR, GREY = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)


def test_two_folders_that_pair(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"sky/{name}.png", COLOUR)
        save(tmp_path / f"drawn/{name}.png", GREY)
    suggested = suggest_globs(tmp_path)
    assert suggested == "datasets.images='sky/*' datasets.masks='drawn/*'"
    with pytest.raises(ValueError, match=r"give globs, for instance datasets\.images='sky/\*' datasets\.masks='drawn"):
        find_pairs(DatasetsConfig(root=str(tmp_path)), "train")
    pool = DatasetsConfig(root=str(tmp_path), images="sky/*", masks="drawn/*", train="[ab]")
    assert len(find_pairs(pool, "train").pairs) == 2


def test_folders_of_splits_become_a_pattern(tmp_path: Path) -> None:
    for split in ("train", "holdout", "valid"):
        save(tmp_path / f"{split}/sky/{split}.png", COLOUR)
        save(tmp_path / f"{split}/drawn/{split}.png", GREY)
    suggested = suggest_globs(tmp_path)
    assert suggested == "datasets.images='{split}/sky/*' datasets.masks='{split}/drawn/*' datasets.val=valid"
    datasets = DatasetsConfig(root=str(tmp_path), images="{split}/sky/*", masks="{split}/drawn/*", val="valid")
    assert [pair.name for pair in find_pairs(datasets, "val").pairs] == ["valid"]


def test_nothing_is_suggested_that_does_not_fit(tmp_path: Path) -> None:
    save(tmp_path / "sky/a.png", COLOUR)
    save(tmp_path / "drawn/b.png", GREY)
    save(tmp_path / "more/a.png", COLOUR)
    assert suggest_globs(tmp_path) == ""
