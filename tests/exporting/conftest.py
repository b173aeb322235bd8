"""A run and its file, which the tests of exports read."""

from pathlib import Path

import pytest
from helpers.tiny import WINDOWS, run_cli, train_tiny_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_tiny_run(tmp_path_factory, {"train": 2, "val": 2}, "decoder_head.type=linear", *WINDOWS)


@pytest.fixture(scope="session")
def exported(run: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a file, to be read."""
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        assert run_cli(["export", run[1], file], patch) == 0
    return file
