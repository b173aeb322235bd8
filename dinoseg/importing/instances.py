"""Objects as mask files of their own: ``cell_0.png``, ``cell_1.png`` of ``cell.png``, or a folder of them a picture."""

import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dinoseg.data.found_files import IMAGE_SUFFIXES, MASK_SUFFIXES, folder_files, list_files
from dinoseg.data.image_files import read_geometry
from dinoseg.data.masks import LabelMap, read_mask, rotate_like
from dinoseg.importing.classes import ClassTable, DeclaredClass, class_table, named_classes
from dinoseg.importing.picture_names import MissingPicture, left_out, require_folder, settle_missing
from dinoseg.importing.runs import Bitmap, Region, Runs
from dinoseg.importing.source import AnnotatedPicture, Shape, Source

_ONE_CLASS = "object"
_SEPARATORS = "_-. "
_PARTS = {"{class}": r"(?P<name>.+?)", "{number}": r"\d+"}


@dataclass(frozen=True)
class MaskFile(Region):
    """An object that is all pixels of a file with one value other than 0; read when it is drawn."""

    path: Path
    picture: Path

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size.

        Raises:
            ValueError: it is damaged, of another size, or holds several objects.
        """
        mask = _read_object(self.path)
        if mask.shape != (height, width):
            orientation, stored = read_geometry(self.picture)
            turned = rotate_like(mask, orientation) if mask.shape == stored[::-1] else mask
            if turned.shape != (height, width):
                raise ValueError(
                    f"{self.path} is {mask.shape[1]} x {mask.shape[0]}, but {self.picture} is {width} x {height} "
                    "(width x height); give masks of the picture's size"
                )
            mask = turned
        values = np.unique(mask[mask != 0])
        if len(values) > 1:
            raise ValueError(
                f"{self.path}: holds the values {', '.join(map(str, values[:5].tolist()))} beside 0, where one object "
                "is expected; write a file an object, or use a map of label ids as a mask as it is"
            )
        return Bitmap(mask != 0).runs(height, width)


def _read_object(path: Path) -> LabelMap:
    """A mask file as stored. Raises ValueError where it cannot be read, or holds colours."""
    try:
        return read_mask(path)
    except ValueError:
        if not _holds_colours(path):
            raise
    raise ValueError(f"{path}: holds colours, where one object is expected; save one channel, 0 outside of the object")


def _holds_colours(path: Path) -> bool:
    try:
        read_mask(path, "colours")
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class NamePattern:
    """What stands in the name of a mask file after that of its picture."""

    text: str | None

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        parts = re.split(r"(\{class\}|\{number\})", self.text or "{number}")
        return re.compile("".join(_PARTS.get(part) or re.escape(part) for part in parts))

    def class_of(self, rest: str) -> str | None:
        """The class in the rest of a name; None for a name of another form."""
        found = self._expression.fullmatch(rest)
        if found is None:
            return None
        return found["name"] if self.text else _ONE_CLASS


def name_pattern(text: str | None) -> NamePattern:
    """A pattern such as ``{class}_{number}``; left out, a number is expected, and all objects are of one class.

    Raises:
        ValueError: it does not hold ``{class}`` once.
    """
    if text is not None and (
        text.count("{class}") != 1 or re.search(r"[{}]", re.sub(r"\{class\}|\{number\}", "", text))
    ):
        raise ValueError(
            f"--class-of {text!r}: write what stands after the picture's name, with {{class}} once and {{number}} for "
            "digits, for instance '{class}_{number}'"
        )
    return NamePattern(text)


def read_instances(folder: Path, images: Path, class_of: str | None, skip_missing: bool) -> Source:
    """Reads mask files that hold one object each.

    Raises:
        ValueError: none, or one whose picture is not there or not certain.
    """
    pattern = name_pattern(class_of)
    require_folder(folder, "mask files")
    require_folder(images, "pictures")
    pictures = folder_files(images, IMAGE_SUFFIXES, "pictures").files
    known = set(pictures.values())
    files = [path for path in list_files(folder, MASK_SUFFIXES) if path not in known]
    if not files:
        raise ValueError(
            f"{folder}: no mask file in it (PNG, TIFF, NPY, ...) that is not among the pictures; give the masks a "
            "folder of their own"
        )
    objects: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    missing = []
    for path in files:
        owner = _owner(path.relative_to(folder).with_suffix("").as_posix(), pictures, pattern, path)
        if owner is None:
            missing.append(MissingPicture(f"for {path.relative_to(folder).as_posix()}", str(path)))
        else:
            objects[owner[0]].append((path, owner[1]))
    dropped = settle_missing(missing, images, skip_missing)
    classes = _classes(objects, pattern, folder)
    annotated = tuple(_picture(pictures[key], images, objects[key], classes) for key in sorted(objects))
    dropped += left_out(images, [picture.file for picture in annotated], "left out: no mask file is of it")
    return Source(
        "instances", f"{folder}, {images}", annotated, classes, "a pixel belongs to an object as its file says", dropped
    )


def _owner(key: str, pictures: dict[str, Path], pattern: NamePattern, path: Path) -> tuple[str, str] | None:
    """The picture of a mask file and the class in its name; None where no picture's name fits.

    Raises:
        ValueError: several fit, or it has the very name of a picture.
    """
    if key in pictures:
        raise ValueError(
            f"{path}: has the name of its picture, as a mask of all its objects has; give such masks as "
            "datasets.masks, or write a file an object"
        )
    found: dict[str, str] = {}
    folder, stem = posixpath.split(key)
    if folder in pictures:
        # In a folder of the picture's name: any name will do where there is one class.
        name = pattern.class_of(stem) if pattern.text else _ONE_CLASS
        if name is not None:
            found[folder] = name
    for place in (index for index, letter in enumerate(stem) if letter in _SEPARATORS):
        picture = posixpath.join(folder, stem[:place])
        name = pattern.class_of(stem[place + 1 :])
        if picture in pictures and name is not None:
            found[picture] = name
    if len(found) > 1:
        named = " or of ".join(str(pictures[picture]) for picture in sorted(found))
        raise ValueError(
            f"{path}: may be of {named}; rename it, or put the masks of each picture into a folder of its name"
        )
    return next(iter(found.items()), None)


def _classes(objects: dict[str, list[tuple[Path, str]]], pattern: NamePattern, folder: Path) -> ClassTable:
    if not pattern.text:
        return class_table([DeclaredClass(_ONE_CLASS, _ONE_CLASS)], str(folder))
    return named_classes(
        (name for files in objects.values() for _, name in files), f"{folder}: names of the mask files"
    )


def _picture(path: Path, images: Path, files: list[tuple[Path, str]], classes: ClassTable) -> AnnotatedPicture:
    ids = classes.ids
    shapes = tuple(Shape(ids[name], MaskFile(file, path), str(file)) for file, name in files)
    return AnnotatedPicture(path.relative_to(images).as_posix(), path, str(path), shapes)
