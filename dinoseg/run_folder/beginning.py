"""A training that ends before its first step leaves a run folder as it was."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.lock import is_of_lock


@contextmanager
def unchanged_without_a_step(run: RunFolder) -> Iterator[None]:
    """Takes back what the block wrote into the run folder when it was stopped, by a signal, before a step was recorded.

    An error leaves what was written: it tells how the training began.
    """
    before = {path.name for path in run.path.iterdir()}
    try:
        yield
    except Exception:
        raise
    except BaseException:
        _take_back(run, before)
        raise
    else:
        _take_back(run, before)


def _take_back(run: RunFolder, before: set[str]) -> None:
    begun = run.metrics.is_file() and run.metrics.stat().st_size
    if begun or run.checkpoint("last").parent.exists():
        return
    for path in run.path.iterdir():
        if path.name not in before and not is_of_lock(path):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
