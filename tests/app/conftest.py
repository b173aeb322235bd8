"""One tiny run for all tests of the page."""

from pathlib import Path

import pytest
from helpers.tiny import train_tiny_run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and run: classes ``background``, ``red`` and ``green`` at label ids 0, 1 and 2."""
    classes = "datasets.classes={0: background, 1: red, 2: green}"
    return train_tiny_run(tmp_path_factory, {"train": 2, "val": 1, "test": 3}, classes, "eval.num_visualizations=0")
