"""A folder that appears whole or not at all: filled beside the target under a hidden name, then renamed."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


def refuse_unreplaceable(folder: Path, option: str) -> None:
    """Raises ValueError for an empty folder that no other can take the place of, as ``whole_folder`` would have it.

    To be asked before work whose outputs would be lost.

    Args:
        option: by which the folder was given, for messages.
    """
    place = folder.resolve()
    if place == Path.cwd():
        what = "the working folder"
    elif os.path.ismount(place):
        what = "the root of a disk"
    else:
        return
    raise ValueError(
        f"{f'{option} {folder}'.strip()}: is {what}, which no new folder can take the place of; give a new folder in it"
    )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder beside ``folder`` to fill; at the end it takes the place of ``folder``, which may be empty.

    A link stays: it takes the place of the folder that the link leads to.

    When the block fails nothing lies there, nor beside it. What processes that were killed left for this folder is
    removed; what others are about to fill stays.

    Raises:
        OSError: it cannot be made or renamed, for instance because ``folder`` was filled meanwhile.
    """
    folder = folder.resolve()
    with folder_beside(folder) as temporary:
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Gives an empty folder beside ``path``, on the same disk under a hidden name; at the end it is gone.

    Missing parent folders are made, and removed when the block fails. What processes that were killed left for this
    path is removed; what others are about to fill stays.

    Raises:
        OSError: it cannot be made.
    """
    path = path.absolute()
    made = [parent for parent in path.parents if not parent.exists()]
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        # Held before there is anything to remove, and free as soon as this process ends, however it does.
        with _lock_of(temporary):
            try:
                temporary.mkdir()
                yield temporary
            finally:
                _remove(temporary)
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise


def _remove_leftovers(folder: Path) -> None:
    name = re.compile(rf"\.{re.escape(folder.name)}\.(\d+)(-[0-9a-f]+)?\.new")
    for path in list(folder.parent.iterdir()):
        found = name.fullmatch(path.name.removesuffix(".lock"))
        if found is None or _is_alive(int(found[1])):
            continue
        # A process of another machine holds its lock; its number says nothing here.
        with suppress(Timeout, OSError), _lock_of(path.with_name(found[0]), timeout=0.0):
            _remove(path.with_name(found[0]))


def _lock_of(temporary: Path, timeout: float = -1.0) -> FileLock:
    return FileLock(f"{temporary}.lock", timeout=timeout)


def _remove(temporary: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    Path(f"{temporary}.lock").unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
