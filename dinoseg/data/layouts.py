"""What the folders below a root mean: which hold images, which masks, and of which split.

Some formats are known (``known_formats``). For all others the words in the names of folders say it: ``train/images``
beside ``train/masks``, ``img_dir/val`` beside ``ann_dir/val``, ``test_images`` beside ``test_labels``. Where they do
not say it, nothing is guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dinoseg.data.folder_words import FolderWords, read_folder_name
from dinoseg.data.found_files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    contents,
    subfolders,
    suffix_of,
    visible_files,
)
from dinoseg.data.known_formats import known_format
from dinoseg.data.pairs import Split
from dinoseg.data.places import Layout, Place, Places, class_file, lists_in
from dinoseg.data.side_by_side import FileKinds, kinds_side_by_side

_DEEPEST = 3


@dataclass(frozen=True)
class _Unit:
    """A folder whose files are of one kind, or not told apart by its name (kind None)."""

    folder: Path
    words: FolderWords


def find_layout(root: Path) -> Layout:
    """The layout below a root, or below the one folder in it that an archive unpacked to; false where there is none.

    Raises:
        ValueError: several folders would do as the masks, or as the images, of one split; names them.
    """
    bases = list(_with_only_folders(root))
    # Formats first: words would find folders in them that say less.
    for look in (known_format, _by_words):
        for base in bases:
            if layout := look(base):
                return replace(layout, base=_innermost(root, layout))
    return Layout("")


def _innermost(root: Path, layout: Layout) -> Path:
    """The root, or the folder in it that all of the data is wrapped in."""
    every = [*layout.pool, *(each for places in layout.splits.values() for each in places)]
    folders = [place.folder for each in every for place in (each.images, each.masks)]
    return [base for base in _wrappers(root) if all(folder.is_relative_to(base) for folder in folders)][-1]


def _with_only_folders(root: Path) -> Iterator[Path]:
    """The root, and within it what ``data/VOCdevkit/VOC2012`` and the like are wrapped in."""
    for _ in range(_DEEPEST):
        yield root
        inner = subfolders(root)
        if len(inner) != 1:
            return
        root = inner[0]


def _wrappers(root: Path) -> Iterator[Path]:
    """The root and the folders around all of its data, whose names say neither kind nor split."""
    for base in _with_only_folders(root):
        if base != root and not read_folder_name(base.name).rest:
            return
        yield base


def _by_words(root: Path) -> Layout | None:
    groups: dict[tuple[Split | None, tuple[str, ...]], list[_Unit]] = {}
    for unit in _units(root, FolderWords(), 0):
        groups.setdefault((unit.words.split, unit.words.rest), []).append(unit)
    places: dict[Split | None, list[Places]] = {}
    incomplete: dict[Split, Path] = {}
    for (split, rest), units in sorted(groups.items(), key=lambda item: (item[0][0] or "", item[0][1])):
        found = _places_of(root, units, "/".join(rest))
        if found is not None:
            places.setdefault(split, []).append(found)
        elif split is not None and (alone := [unit.folder for unit in units if unit.words.kind]):
            incomplete[split] = alone[0]
    if not places:
        return None
    every = [each for found in places.values() for each in found]
    if all(len(found) == 1 for found in places.values()):
        # One place a split: its folder tells nothing apart, and stays out of the names.
        places = {split: [replace(found[0], folder="")] for split, found in places.items()}
    splits = {split: tuple(found) for split, found in places.items() if split is not None}
    # Where splits have folders of their own, other pairs beside them are of none.
    pool = () if splits else tuple(places[None])
    title = f"{_shown(root, every[0].images)} with {_shown(root, every[0].masks)}"
    incomplete = {split: folder for split, folder in incomplete.items() if split not in splits}
    wrappers = list(_wrappers(root))
    # Of a list of validation alone one cannot say what is trained on.
    lists = next((listed for listed in map(lists_in, wrappers) if "train" in listed), {}) if pool else {}
    folders = [*wrappers, *(each.masks.folder for each in every)]
    classes = next((file for folder in folders if (file := class_file(folder))), "")
    known = next((name for base in wrappers if (name := _ade20k(base))), "")
    return Layout(title, splits, pool, lists, classes or known, incomplete)


def _units(folder: Path, words: FolderWords, depth: int) -> Iterator[_Unit]:
    """The folders that hold one kind of file, from the top."""
    inner = subfolders(folder) if depth < _DEEPEST else []
    read = [(each, words.within(read_folder_name(each.name))) for each in inner]
    if words.kind is not None:
        deeper = [(each, further) for each, further in read if further.split and not words.split]
        own = deeper or [(folder, words)]
        yield from (_Unit(each, further) for each, further in own if _holds_pictures_below(each))
        return
    for each, further in read:
        if not further.foreign:
            yield from _units(each, further, depth + 1)
    if _holds_pictures(folder):
        yield _Unit(folder, words)


def _holds_pictures_below(folder: Path) -> bool:
    return any(suffix_of(path) in MASK_SUFFIXES for path in visible_files(folder))


def _holds_pictures(folder: Path) -> bool:
    """In it, not below: a folder whose subfolders say what they hold says nothing itself."""
    return any(suffix_of(entry) in MASK_SUFFIXES and not entry.name.startswith(".") for entry in folder.iterdir())


def _places_of(root: Path, units: list[_Unit], name: str) -> Places | None:
    """Images and masks of one split, if both are there."""
    images = [unit.folder for unit in units if unit.words.kind == "images"]
    masks = [unit.folder for unit in units if unit.words.kind == "masks"]
    untold = [unit.folder for unit in units if unit.words.kind is None]
    for folder in untold:
        kinds = kinds_side_by_side(folder)
        if kinds is not None and not images and not masks:
            return Places(*_side_places(folder, kinds), name)
    images = images or (untold if masks else [])
    for noun, folders in (("images", images), ("masks", masks)):
        if len(folders) > 1 and images and masks:
            listed = " and ".join(str(folder.relative_to(root)) for folder in folders[:4])
            raise ValueError(
                f"{root}: {listed} could all be the {noun} of {units[0].words.split or 'the data'}; say which, for "
                f"instance {_globs(root, images[0], masks[0], units[0].words.split)}"
            )
    if not images or not masks:
        return None
    return Places(Place(images[0]), Place(masks[0], suffixes=MASK_SUFFIXES), name)


def _side_places(folder: Path, kinds: FileKinds) -> tuple[Place, Place]:
    images = Place(folder, suffixes=kinds.image_suffixes, unless=(kinds.mask_ending,) if kinds.mask_ending else ())
    return images, Place(folder, kinds.mask_ending, kinds.mask_suffixes)


def _globs(root: Path, images: Path, masks: Path, split: Split | None) -> str:
    both = [str(folder.relative_to(root) / "*") for folder in (images, masks)]
    if split:
        return f"datasets.images='{{{split}: {both[0]}}}' datasets.masks='{{{split}: {both[1]}}}'"
    return f"datasets.images='{both[0]}' datasets.masks='{both[1]}'"


def _shown(root: Path, place: Place) -> str:
    folder = place.folder.relative_to(root).as_posix()
    return f"{folder}/*{place.ending}" if place.ending else f"{folder}/"


def _ade20k(root: Path) -> str:
    """ADE20K's scene parsing set is known by the lists that lie beside its folders."""
    return "ade20k" if (root / "objectInfo150.txt").is_file() and (root / "annotations").is_dir() else ""


def what_lies_there(root: Path) -> str:
    """For a message: the folders below a root that hold pictures, with how many."""
    found = []
    for unit in _units(root, FolderWords(), 0):
        count = sum(suffix_of(path) in IMAGE_SUFFIXES for path in visible_files(unit.folder))
        if count:
            found.append(f"{unit.folder.relative_to(root).as_posix()}/ ({count})")
    return ", ".join(found[:8]) or contents(root)
