"""The settings that would read a folder whose names say nothing: found by looking at its files."""

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

from PIL import Image

from dinoseg.data.folder_words import read_folder_name
from dinoseg.data.found_files import IMAGE_SUFFIXES, MASK_SUFFIXES, named_files, suffix_of, visible_files
from dinoseg.data.pairing import pair_by_names

# Folders further down, or more of them, are not compared with each other.
_MOST_FOLDERS = 12
_MOST_FILES = 5000


def suggest_globs(root: Path) -> str:
    """Settings that pair what lies below a root, for a message; empty where two folders do not fit each other.

    Two folders fit if the names of their files pair and one holds pictures in colour, the other maps of one channel.
    """
    folders = _folders(root)
    for images, masks in permutations(folders, 2):
        if _in_colour(next(iter(folders[images].values()))) and not _in_colour(next(iter(folders[masks].values()))):
            paired = pair_by_names(folders[images], folders[masks]).mask_of
            if 2 * len(paired) > len(folders[masks]):
                return _settings(images, masks, folders)
    return ""


def _folders(root: Path) -> dict[str, dict[str, Path]]:
    """Files by name, by their folder below the root."""
    found: dict[str, list[Path]] = {}
    for count, path in enumerate(visible_files(root)):
        if count > _MOST_FILES or len(found) > _MOST_FOLDERS:
            break
        if suffix_of(path) in {*IMAGE_SUFFIXES, *MASK_SUFFIXES} and path.parent != root:
            found.setdefault(path.parent.relative_to(root).as_posix(), []).append(path)
    folders = {}
    # Those of training first: their name is to become a pattern.
    for name, paths in sorted(found.items(), key=lambda item: (_split_in(item[0]) != "train", item[0])):
        try:
            folders[name] = named_files(paths, (*IMAGE_SUFFIXES, *MASK_SUFFIXES), root / name, "files").files
        except ValueError:
            continue
    return folders


def _split_in(folder: str) -> str | None:
    return next((split for part in Path(folder).parts if (split := read_folder_name(part).split)), None)


def _in_colour(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode in ("RGB", "RGBA", "YCbCr", "CMYK")
    except (OSError, ValueError):
        return False


def _settings(images: str, masks: str, folders: Mapping[str, object]) -> str:
    parts = {name: Path(name).parts for name in (images, masks)}
    split = next((part for part in parts[images] if read_folder_name(part).split and part in parts[masks]), None)
    if split is None:
        return f"datasets.images='{images}/*' datasets.masks='{masks}/*'"
    patterns = ["/".join("{split}" if part == split else part for part in parts[name]) for name in (images, masks)]
    settings = [f"datasets.images='{patterns[0]}/*'", f"datasets.masks='{patterns[1]}/*'"]
    names = {part for name in folders for part in Path(name).parts if patterns[0].replace("{split}", part) in folders}
    for name in sorted(names):
        word = read_folder_name(name).split
        if word and word != name:
            settings.append(f"datasets.{word}={name}")
    return " ".join(settings)
