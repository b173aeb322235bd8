"""Files of images or masks below a folder or a glob, by name."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dinoseg.system.messages import list_names

# Volumes, which are read slice by slice.
VOLUME_SUFFIXES = (".nii", ".nii.gz")
MASK_SUFFIXES = (
    *(".png", ".tif", ".tiff", ".npy", ".bmp", ".gif", ".pgm", ".pnm", ".webp", ".jpg", ".jpeg"),
    *VOLUME_SUFFIXES,
)
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pnm", ".jp2", ".npy"),
    *VOLUME_SUFFIXES,
)


@dataclass(frozen=True)
class FoundFiles:
    """Files of one side of a split.

    Attributes:
        files: those with a suffix that is read, by name: the path below their folder without suffix.
        passed_over: the others.
    """

    files: dict[str, Path]
    passed_over: tuple[Path, ...] = ()


def folder_files(folder: Path, suffixes: tuple[str, ...], noun: str) -> FoundFiles:
    """The files in a folder and below it; ``noun`` names them in messages.

    Raises:
        ValueError: two files of one name.
    """
    return named_files(visible_files(folder), suffixes, folder, noun)


def named_files(paths: Iterable[Path], suffixes: tuple[str, ...], base: Path, noun: str) -> FoundFiles:
    """The same of files that were found; ``base`` is the folder that their names are relative to."""
    paths = sorted(paths)
    by_key: dict[str, Path] = {}
    for path in paths:
        if suffix_of(path) not in suffixes:
            continue
        relative = path.relative_to(base) if path.is_relative_to(base) else path
        key = without_suffix(relative).as_posix()
        if key in by_key:
            raise ValueError(
                f"two {noun} share the name {key!r}: {by_key[key]} and {path}; "
                "remove one, since names pair images with masks and name the predictions"
            )
        by_key[key] = path
    return FoundFiles(by_key, tuple(path for path in paths if suffix_of(path) not in suffixes))


def list_images(folder: Path) -> list[Path]:
    """Every image file below a folder, sorted; hidden files and other kinds of file are passed over."""
    return list_files(folder, IMAGE_SUFFIXES)


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Every file with one of the suffixes below a folder, sorted; hidden files are passed over."""
    return sorted(path for path in visible_files(folder) if suffix_of(path) in suffixes)


def visible_files(folder: Path) -> Iterable[Path]:
    """The files in a folder and below it; and an empty folder with the name of an image, which stands for one."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not names and not folders and suffix_of(Path(parent)) in IMAGE_SUFFIXES:
            yield Path(parent)
        for name in names:
            if not name.startswith("."):
                yield Path(parent, name)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def suffix_of(path: Path) -> str:
    """The suffix in small letters; that of a packed volume is ``.nii.gz``."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def without_suffix(path: Path) -> Path:
    """The path less its suffix, as ``suffix_of`` gives it."""
    suffix = suffix_of(path)
    return path.with_name(path.name[: -len(suffix)]) if 0 < len(suffix) < len(path.name) else path


def stem_of(path: Path) -> str:
    """The name less its suffix."""
    return without_suffix(path).name


def is_volume(path: Path) -> bool:
    """Whether a name says that it is one."""
    return suffix_of(path) in VOLUME_SUFFIXES


def fixed_part(pattern: str) -> Path:
    """The folder of a glob that no wildcard is in; of a file, its folder."""
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:fixed])


def glob_paths(root: Path, pattern: str) -> list[Path]:
    """What a glob relative to a root matches, without folders."""
    found = (root / name for name in glob.glob(pattern, root_dir=root, recursive=True))
    return [path for path in found if not path.is_dir()]


def contents(folder: Path, most: int = 8) -> str:
    """What lies in a folder, in words."""
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir() if entry.name[0] != ".")
    return list_names(names, most) if names else "nothing"
