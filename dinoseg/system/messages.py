"""Pieces of messages: lists of names, texts that every terminal takes, and durations."""

import errno
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unicodedata import category

# Control characters, bytes that are no UTF-8, and breaks of lines and paragraphs.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
# The disk is full, or no more may be written to it.
OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ADVICE = {
    errno.ENOSPC: "free space on that disk, or give a path on another; what was finished before is whole",
    errno.EDQUOT: "free space within your quota, or give a path on another disk; what was finished before is whole",
    errno.EFBIG: "the limit of file sizes is reached: raise it (ulimit -f); what was finished before is whole",
    errno.ENOENT: "check the path; if the folder was removed in the meantime, make it again and run it again",
    errno.ENOTDIR: "a file stands where a folder is needed; give another path, or move the file away",
    errno.EEXIST: "a file stands where a folder is needed; give another path, or move the file away",
    errno.EISDIR: "a folder stands where a file is needed; give the path of a file",
    errno.EACCES: "give a path that you may read and write, or change its permissions",
    errno.EPERM: "give a path that you may read and write, or change its permissions",
    errno.EROFS: "give a path on a disk that can be written to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or lower num_workers",
}


def list_names(names: Iterable[str], most: int = 5) -> str:
    """``a, b, c and 4 more``; all of them when they are no more than ``most``."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(count: int, noun: str) -> str:
    """``1 mask``, ``2,000 masks``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(name: object) -> str:
    """The name of a file on one line that every terminal takes: bytes that are no UTF-8, and control characters, are
    escaped."""
    return "".join(_escaped(letter) if category(letter) in _UNPRINTABLE else letter for letter in str(name))


def valid_text(text: str) -> str:
    """A text that holds names of files, without what no UTF-8 terminal or file takes."""
    return "".join(_escaped(letter) if category(letter) == "Cs" else letter for letter in text)


def shell_word(argument: object) -> str:
    """An argument of a command that is given to copy: a path is quoted where a shell would take it apart."""
    return shlex.quote(printable(argument))


def _escaped(letter: str) -> str:
    # Python keeps a byte that is no UTF-8 as U+DC80 to U+DCFF.
    return f"\\x{ord(letter) - 0xDC00:02x}" if 0xDC80 <= ord(letter) <= 0xDCFF else ascii(letter)[1:-1]


def spreadsheet_text(cell: Any) -> Any:
    """A cell of a CSV file: a text that a spreadsheet would run as a formula is marked as text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell


@contextmanager
def named_as(place: object, name: str) -> Iterator[None]:
    """Messages of the block name a place that a user knows by another name, or has never seen, by that one."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(str(place), name)) from error


def duration_in_words(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.5 h``."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"


def system_error(error: OSError) -> str:
    """Which file the system refused, why, and what to do."""
    said = f"{printable(error.filename or 'file')}: {error.strerror or error}"
    return f"{said}; {_ADVICE.get(error.errno or 0, 'check the path and its permissions, and run it again')}"
