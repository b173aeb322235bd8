"""One training at a time in a run folder.

The lock is the operating system's, so that it ends with the process that holds it, however that ends: a stale one does
not exist. A note beside it says who holds it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"
_HOLDER_FILE = ".lock.holder.json"


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Holds the run folder for the length of the block; the folder is made, and goes again if nothing came into it.

    Raises:
        ValueError: another process holds it; names process, machine and time.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock, folder)
        try:
            yield
        finally:
            (folder / _HOLDER_FILE).unlink(missing_ok=True)
            lock.release()
    finally:
        _remove_empty(folder, made)


def is_of_lock(path: Path) -> bool:
    """Whether a file of a run folder belongs to its lock."""
    return path.name in (LOCK_FILE, _HOLDER_FILE)


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{folder}: another training is at work there ({_holder(folder)}); wait for its end, or give another "
            "output_dir"
        ) from None
    holder = {"process": os.getpid(), "machine": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    (folder / _HOLDER_FILE).write_text(json.dumps(holder) + "\n", encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / _HOLDER_FILE).read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['machine']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"


def _remove_empty(folder: Path, made: list[Path]) -> None:
    """Removes the folders that were made for a training that wrote nothing."""
    if not made or not folder.is_dir() or {path.name for path in folder.iterdir()} - {LOCK_FILE}:
        return
    (folder / LOCK_FILE).unlink(missing_ok=True)
    for path in made:
        try:
            path.rmdir()
        except OSError:
            return
