"""Which image belongs to which mask: split folders, globs and the ADE20K layout, paired by stem."""

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dinoseg.config import DatasetsConfig
from dinoseg.data.pairing import pair_by_names
from dinoseg.system.messages import list_names

Split = Literal["train", "val", "test"]

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".bmp", ".gif", ".pgm", ".pnm", ".webp", ".jpg", ".jpeg")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pnm", ".jp2")


_FOLDER_OF_SPLIT = {"TRAIN": "training", "VAL": "validation"}
_TOP_FOLDER = "ADEChallengeData2016"


class MissingSplitError(ValueError):
    """The split has no folder, or no glob of its own."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask. ``name`` is unique within the split: the path below the image folder without suffix."""

    name: str
    image: Path
    mask: Path | None

    @property
    def identity(self) -> str:
        """What must be the same for it to be the same image to a resumed training."""
        return self.name


@dataclass(frozen=True)
class SplitListing:
    """What a split holds: complete pairs sorted by name, and the files that found no partner.

    ``pairing_rule`` is what was taken off the names to pair them; empty where the stems are equal.
    ``passed_over_images`` and ``passed_over_masks`` lie among images and masks, but have no suffix that is read.
    """

    pairs: tuple[Pair, ...]
    images_without_mask: tuple[Path, ...]
    masks_without_image: tuple[Path, ...]
    pairing_rule: str = ""
    passed_over_images: tuple[Path, ...] = ()
    passed_over_masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Found:
    """Files of one side of a split: those with a suffix that is read, by name, and the others."""

    files: dict[str, Path]
    passed_over: tuple[Path, ...] = ()


def find_pairs(datasets: DatasetsConfig, split: Split) -> SplitListing:
    """Lists a split by its globs, its ADE20K descriptor, or its folder ``root/<split>/{images,masks}``.

    Raises:
        MissingSplitError: (a ValueError) there is no such split; names what was looked for and what exists.
        ValueError: a missing ``images`` or ``masks`` folder, two images or two masks of one name, a bad glob.
    """
    value: str = getattr(datasets, split)
    given = [key for key in ("images", "masks") if getattr(datasets, key) is not None]
    if len(given) == 1:
        raise ValueError(f"datasets.{given[0]} is given alone; give globs for both, datasets.images and datasets.masks")
    if given:
        images = _glob_files(datasets, "images", split, IMAGE_SUFFIXES)
        masks = _glob_files(datasets, "masks", split, MASK_SUFFIXES)
        mask_paths = {*masks.files.values(), *masks.passed_over}
        alone = {key: path for key, path in images.files.items() if path not in mask_paths}
        passed_over = tuple(path for path in images.passed_over if path not in mask_paths)
        return _pair(_Found(alone, passed_over), masks)
    root = _existing_root(datasets)
    folders = descriptor_folders(root, value) if is_descriptor(value) else _split_folders(root, value, split)
    return _pair(_folder_files(folders[0], IMAGE_SUFFIXES, "images"), _folder_files(folders[1], MASK_SUFFIXES, "masks"))


def pair_label_maps(predictions: Path, masks: Path) -> SplitListing:
    """Label maps and masks by the rules that pair images with masks: predictions stand for images.

    Predictions that lie flat, as a glob of images gives them, find masks in subfolders, too.

    Args:
        predictions, masks: folders, or globs of files.

    Raises:
        ValueError: no such folder, nothing that a glob matches, or two files of one name.
    """
    predicted, true = _label_maps("predictions", predictions), _label_maps("masks", masks)
    listing = _pair(predicted, true)
    if listing.pairs or any("/" in key for key in predicted.files):
        return listing
    flat = {key.rpartition("/")[2]: path for key, path in true.files.items()}
    return _pair(predicted, _Found(flat, true.passed_over)) if len(flat) == len(true.files) else listing


def label_map_base(place: Path) -> Path:
    """The folder that names of label maps are relative to: the one given, or the fixed part of a glob."""
    return _fixed_part(str(place)) if glob.has_magic(str(place)) and not place.is_dir() else place


def _label_maps(option: str, place: Path) -> _Found:
    base = label_map_base(place)
    if place.is_dir():
        return _folder_files(place, MASK_SUFFIXES, option)
    found = [Path(name) for name in glob.glob(str(place), recursive=True)] if base != place else []
    listed = _sorted_out(found, MASK_SUFFIXES, base, option) if found else _Found({})
    if not listed.files:
        reason = "no such folder" if base == place else "no label map matches (PNG, TIFF, NPY, ...)"
        raise ValueError(f"--{option} {place}: {reason}; give a folder, or a quoted glob (gt/**/*_labelIds.png)")
    return listed


def masks_of_images(images: Mapping[str, Path], masks: Path) -> dict[str, Path]:
    """The mask of each image that has one, by the rules that pair a split.

    Args:
        images: files by the path below their folder, without suffix.
        masks: a folder.

    Raises:
        ValueError: no such folder, or two masks of one name in it.
    """
    if not masks.is_dir():
        raise ValueError(f"{masks}: no such folder; give the folder that holds the masks")
    return pair_by_names(images, _folder_files(masks, MASK_SUFFIXES, "masks").files).mask_of


def list_images(folder: Path) -> list[Path]:
    """Every image file below a folder, sorted; hidden files and other kinds of file are passed over."""
    return sorted(path for path in _visible_files(folder) if _suffix(path) in IMAGE_SUFFIXES)


def _existing_root(datasets: DatasetsConfig) -> Path:
    if not datasets.root:
        raise ValueError("datasets.root is empty; give the folder that holds the splits, datasets.root=path/to/data")
    root = Path(datasets.root).expanduser()
    if not root.is_dir():
        parent = next((p for p in root.absolute().parents if p.is_dir()), Path("/"))
        raise ValueError(
            f"datasets.root={datasets.root}: no such folder; {parent} holds {_contents(parent)}; "
            "give the folder as datasets.root=PATH"
        )
    return root


def _split_folders(root: Path, value: str, split: Split) -> tuple[Path, Path]:
    folder = root / value
    if not value or not folder.is_dir():
        raise MissingSplitError(
            f"split {split}: no folder {folder}; {root} holds {_contents(root)}; "
            f"name the folder with datasets.{split}=..., or give globs in datasets.images and datasets.masks"
        )
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise ValueError(
                f"split {split}: no folder {folder / name}; {folder} holds {_contents(folder)}; "
                f"expected {folder}/images and {folder}/masks, or globs in datasets.images and datasets.masks"
            )
    return folder / "images", folder / "masks"


def _contents(folder: Path, most: int = 8) -> str:
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir() if entry.name[0] != ".")
    if not names:
        return "nothing"
    return list_names(names, most)


def _visible_files(folder: Path) -> Iterable[Path]:
    """The files in a folder and below it; and an empty folder with the name of an image, which stands for one."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not names and not folders and _suffix(Path(parent)) in IMAGE_SUFFIXES:
            yield Path(parent)
        for name in names:
            if not name.startswith("."):
                yield Path(parent, name)


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _folder_files(folder: Path, suffixes: tuple[str, ...], noun: str) -> _Found:
    return _sorted_out(_visible_files(folder), suffixes, folder, noun)


def _sorted_out(paths: Iterable[Path], suffixes: tuple[str, ...], base: Path, noun: str) -> _Found:
    paths = sorted(paths)
    files = [path for path in paths if _suffix(path) in suffixes]
    return _Found(_by_key(files, base, noun), tuple(path for path in paths if _suffix(path) not in suffixes))


def _by_key(files: Iterable[Path], base: Path, noun: str) -> dict[str, Path]:
    by_key: dict[str, Path] = {}
    for path in sorted(files):
        relative = path.relative_to(base) if path.is_relative_to(base) else path
        key = relative.with_suffix("").as_posix()
        if key in by_key:
            raise ValueError(
                f"two {noun} share the name {key!r}: {by_key[key]} and {path}; "
                "remove one, since names pair images with masks and name the predictions"
            )
        by_key[key] = path
    return by_key


def _glob_files(datasets: DatasetsConfig, key: str, split: Split, suffixes: tuple[str, ...]) -> _Found:
    value = getattr(datasets, key)
    if isinstance(value, Mapping):
        if value.get(split) is None:
            raise MissingSplitError(
                f"split {split}: datasets.{key} has globs for {', '.join(map(str, value)) or 'nothing'}"
            )
        pattern = str(value[split])
    elif "{split}" not in str(value):
        raise ValueError(
            f"datasets.{key}={value!r} gives every split the same files; put {{split}} in place of the split's folder, "
            f"or give {{train: glob, val: glob}}"
        )
    else:
        pattern = str(value).replace("{split}", getattr(datasets, split))
    root = Path(datasets.root or ".").expanduser()
    found = [root / name for name in glob.glob(pattern, root_dir=root, recursive=True)]
    files = [path for path in found if not path.is_dir()]
    base = root / _fixed_part(pattern)
    if not found and not base.is_dir():
        raise MissingSplitError(f"split {split}: datasets.{key}={pattern!r} matches nothing below {root}")
    return _sorted_out(files, suffixes, base, key)


def _fixed_part(pattern: str) -> Path:
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:fixed])


def _pair(images: _Found, masks: _Found) -> SplitListing:
    pairing = pair_by_names(images.files, masks.files)
    used = set(pairing.mask_of.values())
    return SplitListing(
        tuple(Pair(key, images.files[key], pairing.mask_of[key]) for key in sorted(pairing.mask_of)),
        tuple(path for key, path in images.files.items() if key not in pairing.mask_of),
        tuple(path for path in masks.files.values() if path not in used),
        pairing.rule,
        images.passed_over,
        masks.passed_over,
    )


def is_descriptor(text: str) -> bool:
    """Whether ``datasets.train`` and the like hold an ADE20K descriptor rather than a folder name."""
    return text.strip().upper().startswith("ADE20K")


def parse_descriptor(text: str) -> tuple[str, str | None]:
    """``ADE20K:split=TRAIN[:root=PATH]`` as (layout folder ``training`` or ``validation``, root or None).

    Raises:
        ValueError: an unknown split or option.
    """
    head, *options = text.strip().split(":")
    values = dict(option.partition("=")[::2] for option in options)
    split = values.pop("split", "").upper()
    root = values.pop("root", None)
    if head.upper() != "ADE20K" or values or split not in _FOLDER_OF_SPLIT:
        raise ValueError(f"{text!r} is no ADE20K descriptor; write ADE20K:split=TRAIN or ADE20K:split=VAL")
    return _FOLDER_OF_SPLIT[split], root


def descriptor_folders(root: Path, descriptor: str) -> tuple[Path, Path]:
    """The folders of images and annotations of a descriptor, under ``root`` or ``root/ADEChallengeData2016``.

    Raises:
        ValueError: a bad descriptor, or no such layout, with the folders looked for.
    """
    split, own_root = parse_descriptor(descriptor)
    base = Path(own_root) if own_root else root
    candidates = (base, base / _TOP_FOLDER)
    for candidate in candidates:
        images, masks = candidate / "images" / split, candidate / "annotations" / split
        if images.is_dir() and masks.is_dir():
            return images, masks
    looked = " and ".join(str(c / "{images,annotations}" / split) for c in candidates)
    raise ValueError(
        f"{descriptor}: neither layout exists: looked for {looked}; set datasets.root to the ADE20K folder"
    )
