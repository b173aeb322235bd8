"""Where a YOLO data set keeps its pictures and labels, and what its classes are called."""

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dinoseg.importing.classes import ClassTable, DeclaredClass, class_table
from dinoseg.importing.picture_names import name_within
from dinoseg.system.files import refuse_special_file
from dinoseg.system.json_files import show_found
from dinoseg.system.messages import list_names

_SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES_FILE = "classes.txt"


@dataclass(frozen=True)
class SplitFolders:
    """Pictures and labels of a split; ``split`` is empty where there are no splits."""

    split: str
    images: Path
    labels: Path


@dataclass(frozen=True)
class YoloLayout:
    """Splits, classes, the file that names the classes, and what that file names and is not there."""

    splits: tuple[SplitFolders, ...]
    classes: ClassTable
    names_file: Path
    notes: tuple[str, ...]


def read_layout(folder: Path) -> YoloLayout:
    """Reads data.yaml, or classes.txt beside folders of the usual names.

    Raises:
        ValueError: neither is there or readable, or no folder of pictures with one of labels.
    """
    path = next((folder / name for name in _YAMLS if (folder / name).exists()), None)
    if path is not None:
        document = _read_yaml(path)
        names = _names_of(document, path)
        splits, notes = _stated_splits(document, folder, path)
    else:
        path, splits, notes = folder / _NAMES_FILE, [], []
        names = _names_in_lines(path)
    splits = splits or _usual_splits(folder)
    if not splits:
        raise ValueError(
            f"{folder}: no folder images/ with labels/ beside it, nor one of train/, val/ and test/ that holds both; "
            "give the folder of a YOLO segmentation data set"
        )
    classes = class_table([DeclaredClass(index, name) for index, name in names.items()], str(path))
    return YoloLayout(tuple(splits), classes, path, tuple(notes))


def _read_yaml(path: Path) -> dict[Any, Any]:
    refuse_special_file(path)
    try:
        # No aliases in aliases, by which a few lines become gigabytes: a file of names has none.
        text = path.read_text(encoding="utf-8")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError(f"{path}: has YAML aliases (*name), which are not read; write the values out")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "its text"
        raise ValueError(f"{path}: damaged at {place}, no YAML; correct it") from None
    if not isinstance(document, dict):
        raise ValueError(
            f"{path}: holds {show_found(document)}; names: [..] and the folders of the splits expected: correct it"
        )
    return document


def _names_of(document: dict[Any, Any], path: Path) -> dict[int, str]:
    names = document.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(type(key) is int and key >= 0 for key in names):
        raise ValueError(f"{path}: names is {show_found(names)}; a list, or {{0: name, 1: name}} expected: correct it")
    count = document.get("nc")
    if count is not None and count != len(names):
        raise ValueError(f"{path}: nc is {show_found(count)}, but there are {len(names)} names; correct one of them")
    for key, name in names.items():
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise ValueError(f"{path}: the name of class {key} is {show_found(name)}; write it in quotes")
    return {key: str(name) for key, name in names.items()}


def _names_in_lines(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise ValueError(f"{path.parent}: neither data.yaml nor {_NAMES_FILE}; give the folder that names the classes")
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise ValueError(f"{path}: line {number} is empty, so that class {number - 1} has no name; correct it")
    return {index: line.strip() for index, line in enumerate(lines)}


def _stated_splits(document: dict[Any, Any], folder: Path, path: Path) -> tuple[list[SplitFolders], list[str]]:
    """The folders that data.yaml names, and a sentence for each that is not there.

    They are looked for below the folder of data.yaml, whatever its ``path`` says: that is of the machine which made it.
    """
    splits, notes = [], []
    for key in ("train", "val", "test"):
        stated = document.get(key)
        for value in stated if isinstance(stated, list) else [] if stated is None else [stated]:
            found = _stated_images(value, key, folder, path)
            if found is None:
                notes.append(f"{path} names {value!r} for {key}, which is not there")
            elif (labels := _labels_beside(found, folder)) is None:
                raise ValueError(
                    f"{path}: {key} is {value!r}, but there is no folder of labels for it; expected labels/"
                )
            else:
                splits.append(SplitFolders(key, found, labels))
    return splits, notes


def _stated_images(value: Any, key: str, folder: Path, path: Path) -> Path | None:
    if not isinstance(value, str):
        raise ValueError(f"{path}: {key} is {show_found(value)}; the path of a folder expected: correct it")
    # Some tools write ../train/images for what lies beside data.yaml.
    name = name_within(value.replace("\\", "/").removeprefix("../"), f"{path}: {key}")
    if (folder / name).is_file():
        raise ValueError(
            f"{path}: {key} is {value!r}, a list of files, which is not read; name the folder of the pictures"
        )
    found = folder / name
    if not found.is_dir():
        return None
    return found / "images" if (found / "images").is_dir() and "images" not in Path(name).parts else found


def _labels_beside(images: Path, folder: Path) -> Path | None:
    """The folder with ``labels`` where the pictures have ``images``, the last of them."""
    parts = images.relative_to(folder).parts
    places = [index for index, part in enumerate(parts) if part == "images"]
    if not places:
        return None
    labels = folder.joinpath(*parts[: places[-1]], "labels", *parts[places[-1] + 1 :])
    return labels if labels.is_dir() else None


def _usual_splits(folder: Path) -> list[SplitFolders]:
    found = []
    for name, split in _SPLIT_OF.items():
        for images, labels in ((f"{name}/images", f"{name}/labels"), (f"images/{name}", f"labels/{name}")):
            if (folder / images).is_dir() and (folder / labels).is_dir():
                found.append(SplitFolders(split, folder / images, folder / labels))
    seen = [entry.split for entry in found]
    if len(set(seen)) < len(seen):
        listed = list_names(posixpath.join(*entry.images.relative_to(folder).parts) for entry in found)
        raise ValueError(f"{folder}: two folders are of one split ({listed}); name the folders in data.yaml")
    flat = SplitFolders("", folder / "images", folder / "labels")
    return found or ([flat] if flat.images.is_dir() and flat.labels.is_dir() else [])
