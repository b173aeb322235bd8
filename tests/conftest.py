"""Annotations are checked at run time, in tests only: every call of the package goes through beartype."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

# Nothing that a test writes has to outlive a loss of power, and each file of each tiny run would wait for the disk.
os.fsync = lambda descriptor: None

PACKAGE = Path(__file__).parents[1] / "dinoseg"


def _shaped_modules() -> list[str]:
    """Those that name shapes. Comparing shapes costs each call of a module much more than its types do."""
    files = (path for path in PACKAGE.rglob("*.py") if "jaxtyping" in path.read_text(encoding="utf-8"))
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]


beartype_package("dinoseg", conf=BeartypeConf(claw_is_pep526=False))
install_import_hook(_shaped_modules(), "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new folder for each test, which whoever needs it makes: thousands that lie empty take their time."""
    base = tmp_path_factory.mktemp("caches")
    return (base / str(number) for number in count())


@pytest.fixture(autouse=True)
def private_cache(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are cached per user; a test must neither read nor fill the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(next(caches)))


def _folder_from(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} does not name a folder")
    return Path(value)


@pytest.fixture
def real_data() -> Path:
    """The folder with real data sets (``drive_av``, ``camvid``), from the environment variable DINOSEG_DATA."""
    return _folder_from("DINOSEG_DATA")


@pytest.fixture
def real_models() -> Path:
    """The folder with real backbone weights, from the environment variable DINOSEG_MODELS."""
    return _folder_from("DINOSEG_MODELS")
