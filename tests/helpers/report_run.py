"""A finished tiny run to report on: a class that never occurs, ignored pixels, five validation images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset


def make_run(base: Path, name: str = "run") -> Path:
    """Trains and evaluates; the run folder is ``base/<name>``, the data ``base/data``."""
    data = write_tiny_dataset(base / "data", {"train": 4, "val": 5, "test": 2})
    for path in (data / "val" / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        mask[:6, :20] = 3
        Image.fromarray(mask).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        settings = tiny_settings(
            data,
            base / name,
            "datasets.classes={0: back, 1: red, 2: green, 7: <b>never</b>}",
            "datasets.ignore=[3, 255]",
        )
        assert run_cli(["train", *settings], patch) == 0
    return base / name
