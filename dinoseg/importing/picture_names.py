"""Names of pictures in annotations: within their folder, each once, and there."""

import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinoseg.data.found_files import IMAGE_SUFFIXES, list_images
from dinoseg.importing.source import AnnotatedPicture, Dropped
from dinoseg.system.messages import list_names, printable


def name_within(name: str, where: str, below: str = "") -> str:
    """A picture's name in an annotation as a path below the folder of the pictures, with slashes.

    Args:
        below: the folder that the name is relative to, as a path below that of the pictures.

    Raises:
        ValueError: it is empty or absolute, leads outside, or holds characters that no terminal shows; says where it
            stands.
    """
    said = f"{where}: {printable(name)!r}"
    slashed = name.replace("\\", "/")
    if not name.strip() or printable(name) != name:
        raise ValueError(f"{said} is no name of a picture; correct it")
    if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed):
        raise ValueError(f"{said} is an absolute path; write it relative to the folder of the pictures")
    path = posixpath.normpath(posixpath.join(below, slashed))
    if path == ".." or path.startswith("../"):
        raise ValueError(f"{said} leads outside the folder of the pictures; give a folder that holds them all")
    return path


def require_folder(folder: Path, noun: str) -> None:
    """Raises ValueError for what is no folder."""
    if not folder.is_dir():
        reason = "a file, not a folder" if folder.exists() else "no such folder"
        raise ValueError(f"{folder}: {reason}; give the folder that holds the {noun}")


@dataclass(frozen=True)
class MissingPicture:
    """A picture that has annotations and is not there."""

    name: str
    where: str


def settle_missing(missing: Sequence[MissingPicture], folder: Path, skip: bool) -> tuple[Dropped, ...]:
    """The missing pictures as dropped ones.

    Raises:
        ValueError: there are some, and they are not to be skipped; lists them.
    """
    if not missing or skip:
        return tuple(Dropped(entry.where, f"no picture {printable(entry.name)}") for entry in missing)
    listed = list_names((f"{printable(entry.name)} ({entry.where})" for entry in missing), 10)
    deeper = _found_deeper(missing[0].name, folder)
    hint = f" ({deeper} is there: the annotations' names begin elsewhere)" if deeper else ""
    raise ValueError(
        f"{folder}: {len(missing)} annotated picture{'s are' if len(missing) > 1 else ' is'} not there: {listed}{hint};"
        " give the folder that the names start from, or leave them out with --skip-missing"
    )


def refuse_same_names(pictures: Sequence[AnnotatedPicture]) -> None:
    """Raises ValueError for two pictures whose masks would have one name, and for suffixes that no verb reads."""
    seen: dict[tuple[str, str], AnnotatedPicture] = {}
    for picture in pictures:
        stem, suffix = posixpath.splitext(picture.name)
        if suffix.lower() not in IMAGE_SUFFIXES:
            raise ValueError(
                f"{picture.where}: {printable(picture.name)} has no suffix of a picture that is read "
                f"({', '.join(IMAGE_SUFFIXES)}); convert it, and correct its name"
            )
        other = seen.setdefault((picture.split, stem), picture)
        if other is not picture:
            raise ValueError(
                f"{picture.where}: picture {printable(picture.name)} has the name of {printable(other.name)} "
                f"({other.where}), suffixes aside; two pictures of one name would share a mask: rename or remove one"
            )


def without_annotation(folder: Path, used: Sequence[Path]) -> list[str]:
    """Names of the pictures below a folder that are not among those used."""
    known = {os.path.abspath(path) for path in used}
    return [path.relative_to(folder).as_posix() for path in list_images(folder) if os.path.abspath(path) not in known]


def left_out(folder: Path, used: Sequence[Path], lacking: str) -> tuple[Dropped, ...]:
    """The pictures below a folder that the annotations do not speak of: what is on them is not known."""
    return tuple(Dropped(printable(name), lacking) for name in without_annotation(folder, used))


def _found_deeper(name: str, folder: Path) -> str:
    """A picture of that file name elsewhere in the folder."""
    last = posixpath.basename(name)
    if (folder / last).is_file():
        return last
    return next((path.relative_to(folder).as_posix() for path in list_images(folder) if path.name == last), "")
