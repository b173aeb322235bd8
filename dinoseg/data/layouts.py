"""What the folders below a root mean: which hold images, which masks, and of which split.

Two formats are known by their folders alone (Pascal VOC, Cityscapes), one by its file names (nnU-Net). For all others
the words in the names of folders say it: ``train/images`` beside ``train/masks``, ``img_dir/val`` beside
``ann_dir/val``, ``test_images`` beside ``test_labels``. Where they do not say it, nothing is guessed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dinoseg.data.folder_words import FolderWords, read_folder_name
from dinoseg.data.found_files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    FoundFiles,
    contents,
    named_files,
    suffix_of,
    visible_files,
)
from dinoseg.data.pairs import Split
from dinoseg.data.side_by_side import FileKinds, kinds_side_by_side

_DEEPEST = 3
_VOC = re.compile(r"VOC20\d\d")
# Files of class names by which a tool says what its masks hold, wherever they lie beside them.
_CLASS_FILES = ("labelmap.txt", "_classes.csv", "class_dict.csv", "classes.csv", "id2label.json")


@dataclass(frozen=True)
class Place:
    """Files of one side: images, or masks.

    Attributes:
        folder: where they lie, in it or below.
        ending: what their stems end with; taken off their names.
        suffixes: of the files meant.
        unless: endings of stems that are not meant.
    """

    folder: Path
    ending: str = ""
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    unless: tuple[str, ...] = ()

    def files(self, noun: str) -> FoundFiles:
        """The files by name; ``noun`` names them in messages."""
        found = []
        for path in visible_files(self.folder):
            stem = path.stem
            if stem.endswith(self.ending) and not any(ending and stem.endswith(ending) for ending in self.unless):
                found.append(path)
        listed = named_files(found, self.suffixes, self.folder, noun)
        if not self.ending:
            return listed
        # Only what ends like this is of this kind: nothing else is worth a word.
        return FoundFiles({key.removesuffix(self.ending): path for key, path in listed.files.items()})


@dataclass(frozen=True)
class Places:
    """Images and their masks; ``folder`` is put before the names of the pairs where a split has several of these."""

    images: Place
    masks: Place
    folder: str = ""


@dataclass(frozen=True)
class Layout:
    """What a root holds.

    Attributes:
        title: its format in words.
        splits: where the images and masks of each split lie.
        pool: those of no split.
        lists: files that name the images of a split, out of the pool.
        incomplete: splits of which only images, or only masks, are there, with their folder.
        classes: a preset or a file of class names that belongs to this format; empty where none does.
    """

    title: str
    splits: Mapping[Split, tuple[Places, ...]] = field(default_factory=dict)
    pool: tuple[Places, ...] = ()
    lists: Mapping[Split, Path] = field(default_factory=dict)
    classes: str = ""
    incomplete: Mapping[Split, Path] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.splits or self.pool)


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
    for look in (_known_format, _by_words):
        for base in bases:
            if layout := look(base):
                return layout
    return Layout("")


def _with_only_folders(root: Path) -> Iterator[Path]:
    """The root, and within it what ``data/VOCdevkit/VOC2012`` and the like are wrapped in."""
    for _ in range(_DEEPEST):
        yield root
        inner = _subfolders(root)
        if len(inner) != 1:
            return
        root = inner[0]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _known_format(root: Path) -> Layout | None:
    return _pascal_voc(root) or _cityscapes(root) or _nnunet(root)


def _pascal_voc(root: Path) -> Layout | None:
    """Also what CVAT exports as segmentation masks, with a list ``default.txt`` and a table of colours."""
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    if not masks.is_dir():
        return None
    if not images.is_dir():
        raise ValueError(
            f"{root}: masks in SegmentationClass, but no folder JPEGImages; put the pictures there "
            "(CVAT: export with images)"
        )
    lists: dict[Split, Path] = {}
    for path in sorted((root / "ImageSets" / "Segmentation").glob("*.txt")):
        split = read_folder_name(path.stem).split
        if split and path.stem in ("train", "val", "test"):
            lists[split] = path
    table = _class_file(root)
    title = "Pascal VOC (JPEGImages, SegmentationClass)"
    # Other tools write these folders, too: only the name of the original says what its labels mean.
    original = "voc" if _VOC.fullmatch(root.name) else ""
    return Layout(title, {}, (Places(Place(images), Place(masks)),), lists, table or original)


def _cityscapes(root: Path) -> Layout | None:
    if not (root / "leftImg8bit").is_dir():
        return None
    truth = next((root / name for name in ("gtFine", "gtCoarse") if (root / name).is_dir()), None)
    if truth is None:
        return None
    ending, classes = f"_{truth.name}_labelIds", "cityscapes"
    if any(truth.glob(f"*/*/*_{truth.name}_labelTrainIds.png")):
        ending, classes = f"_{truth.name}_labelTrainIds", "cityscapes_train_ids"
    splits = {}
    for images in _subfolders(root / "leftImg8bit"):
        split, masks = read_folder_name(images.name).split, truth / images.name
        if split and masks.is_dir():
            splits[split] = (Places(Place(images, "_leftImg8bit"), Place(masks, ending, MASK_SUFFIXES)),)
    return Layout(f"Cityscapes (leftImg8bit, *{ending}.png)", splits, classes=classes)


def _nnunet(root: Path) -> Layout | None:
    """2-D pictures of nnU-Net: ``imagesTr/case_0000.png`` with ``labelsTr/case.png``."""
    if not ((root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()):
        return None
    splits: dict[Split, tuple[Places, ...]] = {}
    sides: tuple[tuple[Split, str], ...] = (("train", "Tr"), ("test", "Ts"))
    for split, side in sides:
        images, masks = root / f"images{side}", root / f"labels{side}"
        if images.is_dir() and masks.is_dir():
            _refuse_channels(images)
            splits[split] = (Places(Place(images, "_0000"), Place(masks, suffixes=MASK_SUFFIXES)),)
    description = root / "dataset.json"
    classes = str(description) if description.is_file() else ""
    return Layout("nnU-Net (imagesTr, labelsTr)", splits, classes=classes)


def _refuse_channels(images: Path) -> None:
    second = next(images.glob("*_0001.*"), None)
    if second is not None:
        raise ValueError(
            f"{second}: a second channel of nnU-Net's; one file an image is read: give RGB pictures as *_0000.png, "
            "or images/ and masks/ folders with one picture each"
        )


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
    classes = _class_file(root) or next((file for each in every if (file := _class_file(each.masks.folder))), "")
    incomplete = {split: folder for split, folder in incomplete.items() if split not in splits}
    lists = _lists_beside(root) if pool else {}
    return Layout(title, splits, pool, lists, classes or _ade20k(root), incomplete)


def _units(folder: Path, words: FolderWords, depth: int) -> Iterator[_Unit]:
    """The folders that hold one kind of file, from the top."""
    inner = _subfolders(folder) if depth < _DEEPEST else []
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


def _lists_beside(root: Path) -> dict[Split, Path]:
    found: dict[Split, Path] = {}
    for path in sorted(root.glob("*.txt")):
        if path.stem in ("train", "val", "test"):
            found[path.stem] = path  # type: ignore[index]
    return found if "train" in found else {}


def _class_file(folder: Path) -> str:
    return next((str(folder / name) for name in _CLASS_FILES if (folder / name).is_file()), "")


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
