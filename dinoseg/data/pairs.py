"""An image and its mask, and what a split holds of them."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dinoseg.data.found_files import MASK_SUFFIXES, FoundFiles, fixed_part, folder_files, named_files
from dinoseg.data.pairing import pair_by_names

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        name: unique within the split: the path below the image folder without suffix.
        region: mask of where the truth is known; None where it is known everywhere.
    """

    name: str
    image: Path
    mask: Path | None
    region: Path | None = field(default=None, kw_only=True)

    @property
    def identity(self) -> str:
        """What must be the same for it to be the same image to a resumed training."""
        return self.name

    @property
    def image_file(self) -> Path:
        """The file that the image is read from."""
        return self.image


@dataclass(frozen=True)
class Misfit:
    """A mask or a region that does not lie on the pixels of its image, as its header says.

    Attributes:
        code: what is wrong, for programs.
        message, advice: the same in words, and what to do.
    """

    code: str
    file: Path
    message: str
    advice: str


@dataclass(frozen=True)
class SplitListing:
    """What a split holds: complete pairs sorted by name, and the files that found no partner.

    ``pairing_rule`` is what was taken off the names to pair them; empty where the stems are equal.
    ``passed_over_images`` and ``passed_over_masks`` lie among images and masks, but have no suffix that is read.
    ``misfits`` are of pairs that may neither be trained on nor scored, whether they stand among the pairs or not.
    """

    pairs: tuple[Pair, ...]
    images_without_mask: tuple[Path, ...] = ()
    masks_without_image: tuple[Path, ...] = ()
    pairing_rule: str = ""
    passed_over_images: tuple[Path, ...] = ()
    passed_over_masks: tuple[Path, ...] = ()
    misfits: tuple[Misfit, ...] = ()


def joined_listings(listings: Sequence[SplitListing]) -> SplitListing:
    """All that any of them holds, in their order; the first rule by which names were paired."""
    return SplitListing(
        tuple(pair for listing in listings for pair in listing.pairs),
        tuple(path for listing in listings for path in listing.images_without_mask),
        tuple(path for listing in listings for path in listing.masks_without_image),
        next((listing.pairing_rule for listing in listings if listing.pairing_rule), ""),
        tuple(path for listing in listings for path in listing.passed_over_images),
        tuple(path for listing in listings for path in listing.passed_over_masks),
        tuple(misfit for listing in listings for misfit in listing.misfits),
    )


def pair_files(images: FoundFiles, masks: FoundFiles, folder: str = "") -> SplitListing:
    """The pairs of two folders; ``folder`` is put before their names."""
    pairing = pair_by_names(images.files, masks.files)
    used = set(pairing.mask_of.values())
    prefix = f"{folder}/" if folder else ""
    return SplitListing(
        tuple(Pair(prefix + key, images.files[key], pairing.mask_of[key]) for key in sorted(pairing.mask_of)),
        tuple(path for key, path in images.files.items() if key not in pairing.mask_of),
        tuple(path for path in masks.files.values() if path not in used),
        pairing.rule,
        images.passed_over,
        masks.passed_over,
    )


def masks_of_images(images: Mapping[str, Path], masks: Path, noun: str = "masks") -> dict[str, Path]:
    """The mask of each image that has one, by the rules that pair a split.

    Args:
        images: files by the path below their folder, without suffix.
        masks: a folder.
        noun: what the masks are, for messages.

    Raises:
        ValueError: no such folder, or two masks of one name in it.
    """
    if not masks.is_dir():
        raise ValueError(f"{masks}: no such folder; give the folder that holds the {noun}")
    return pair_by_names(images, folder_files(masks, MASK_SUFFIXES, noun).files).mask_of


def pair_label_maps(predictions: Path, masks: Path) -> SplitListing:
    """Label maps and masks by the rules that pair images with masks: predictions stand for images.

    Predictions that lie flat, as a glob of images gives them, find masks in subfolders, too.

    Args:
        predictions, masks: folders, or globs of files.

    Raises:
        ValueError: no such folder, nothing that a glob matches, or two files of one name.
    """
    predicted, true = _label_maps("predictions", predictions), _label_maps("masks", masks)
    listing = pair_files(predicted, true)
    if listing.pairs or any("/" in key for key in predicted.files):
        return listing
    flat = {key.rpartition("/")[2]: path for key, path in true.files.items()}
    return pair_files(predicted, FoundFiles(flat, true.passed_over)) if len(flat) == len(true.files) else listing


def label_map_base(place: Path) -> Path:
    """The folder that names of label maps are relative to: the one given, or the fixed part of a glob."""
    return fixed_part(str(place)) if glob.has_magic(str(place)) and not place.is_dir() else place


def _label_maps(option: str, place: Path) -> FoundFiles:
    base = label_map_base(place)
    if place.is_dir():
        return folder_files(place, MASK_SUFFIXES, option)
    found = [Path(name) for name in glob.glob(str(place), recursive=True)] if base != place else []
    listed = named_files(found, MASK_SUFFIXES, base, option) if found else FoundFiles({})
    if not listed.files:
        reason = "no such folder" if base == place else "no label map matches (PNG, TIFF, NPY, ...)"
        raise ValueError(f"--{option} {place}: {reason}; give a folder, or a quoted glob (gt/**/*_labelIds.png)")
    return listed
