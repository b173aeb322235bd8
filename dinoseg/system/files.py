"""Files that appear whole or not at all: written beside the target, flushed, renamed over it; and their hashes."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from pathlib import Path

_CHUNK = 1 << 22
_SPECIAL = (
    (stat.S_ISFIFO, "a FIFO (named pipe)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def replaced_file(path: Path, shared: bool = False) -> Iterator[Path]:
    """Gives a path beside ``path``, with its suffix, to write to; at the end it takes the place of ``path``.

    When the block fails, ``path`` stays as it was and nothing lies beside it. Missing parent folders are made.

    Args:
        shared: several processes may write this file at once; each then has a name of its own beside it. Otherwise
            what a killed process left there is overwritten by the next.

    Raises:
        OSError: the disk is full, or the folder cannot be written; ``filename`` is ``path``.
    """
    temporary = path.with_name(f".{path.stem}.{f'{os.getpid()}.' if shared else ''}new{path.suffix}")
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush_to_disk(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def user_cache_folder() -> Path:
    """Where things are kept that can be computed anew: ``$XDG_CACHE_HOME/dinoseg``, or ``~/.cache/dinoseg``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dinoseg"


def replace_text(path: Path, text: str) -> None:
    """Writes a whole text file, UTF-8; see ``replaced_file``."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Errors of the system that do not say which file they met (a full disk) are raised anew with ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def refused_folder(folder: Path, error: OSError) -> str:
    """Why nothing can be written in a folder that is there or was to be made, in words: what stands in its way."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(existing):
        return f"{existing} is {'a file, not a folder' if os.path.exists(existing) else 'a link to nowhere'}"
    if existing == folder:
        return f"{existing} cannot be written to ({error.strerror or error})"
    return f"no folder can be made in {existing} ({error.strerror or error})"


def refuse_unwritable(folder: Path, option: str) -> None:
    """Raises ValueError where a folder for outputs cannot be: a file stands in its way, or nothing may be written.

    To be asked before work whose outputs would be lost.

    Args:
        option: by which the folder was given, for messages.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK):
        return
    where = f"{option} {folder}".strip()
    refused = refused_folder(folder, PermissionError(EACCES, os.strerror(EACCES)))
    raise ValueError(f"{where}: cannot be written: {refused}; give another folder")


def flush_to_disk(path: Path) -> None:
    """Returns when a file's contents, or a folder's entries, would outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_special_file(path: Path) -> None:
    """Raises ValueError for a folder, and for a FIFO, a socket or a device: to read these may mean to wait for ever."""
    kind = special_kind(path)
    if kind is not None:
        remedy = "give the files in it" if path.is_dir() else "give a file, or copy its contents into one"
        raise ValueError(f"{path}: {kind}; {remedy}")


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size and modification time, by which a file that was replaced is known; None where no file is."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def special_kind(path: Path) -> str | None:
    """What stands there in the place of a file, in words; None for a file, and where nothing is."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # whoever opens it says why
    if stat.S_ISDIR(mode):
        return "a folder, not a file"
    kind = next((name for is_kind, name in _SPECIAL if is_kind(mode)), None)
    return None if kind is None else f"{kind}, which is not read"


def file_sha256(*paths: Path) -> str:
    """SHA-256 of the bytes of the files, one after the other, hexadecimal.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
