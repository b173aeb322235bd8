"""One process at a time in a folder: one training in a run folder, one prediction in an output folder.

The lock is the operating system's, so that it ends with the process that holds it, however that ends: a stale one does
not exist. A note beside it says who holds it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"
_PREDICTION_LOCK = ".prediction.lock"


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Holds a run folder for a training; see ``_locked``."""
    with _locked(folder, LOCK_FILE, "training", "give another output_dir"):
        yield


@contextmanager
def locked_predictions(folder: Path) -> Iterator[None]:
    """Holds an output folder for a prediction, in which no trace of the lock is left; see ``_locked``."""
    with _locked(folder, _PREDICTION_LOCK, "prediction", "give another --out (torchrun shares one among processes)"):
        try:
            yield
        finally:
            # A file that is open cannot be removed everywhere.
            with suppress(OSError):
                (folder / _PREDICTION_LOCK).unlink()


@contextmanager
def _locked(folder: Path, name: str, work: str, remedy: str) -> Iterator[None]:
    """Holds a folder for the length of the block; it is made, and goes again if nothing came into it.

    Args:
        name: of the lock file.
        work: what is done there, for messages.
        remedy: what to do where another process holds it, beside waiting.

    Raises:
        ValueError: another process holds it; names process, machine and time.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock, holder = FileLock(folder / name), folder / _holder_file(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"{folder}: another {work} is at work there ({_read_holder(holder)}); wait for its end, or {remedy}"
            ) from None
        try:
            _write_holder(holder)
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()
    finally:
        _remove_empty(folder, name, made)


def refuse_while_trained(folder: Path) -> None:
    """Raises ValueError while a training is at work in a run folder; names process, machine and time."""
    file = folder / LOCK_FILE
    if not file.exists():
        return
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{folder}: is being trained ({_read_holder(folder / _holder_file(LOCK_FILE))}); wait for its end, or stop "
            "it: it keeps its best checkpoint"
        ) from None
    except OSError:
        # Of a run that may only be read nobody here is the trainer.
        return
    lock.release()


def is_of_lock(path: Path) -> bool:
    """Whether a file of a run folder belongs to its lock."""
    return path.name in (LOCK_FILE, _holder_file(LOCK_FILE))


def _holder_file(lock: str) -> str:
    return f"{lock}.holder.json"


def _write_holder(path: Path) -> None:
    holder = {"process": os.getpid(), "machine": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    path.write_text(json.dumps(holder) + "\n", encoding="utf-8")


def _read_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['machine']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"


def _remove_empty(folder: Path, lock: str, made: list[Path]) -> None:
    """Removes the folders that were made for work that wrote nothing."""
    if not made or not folder.is_dir() or {path.name for path in folder.iterdir()} - {lock}:
        return
    (folder / lock).unlink(missing_ok=True)
    for path in made:
        try:
            path.rmdir()
        except OSError:
            return
