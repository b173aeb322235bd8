"""Images and masks in one folder, told apart by the ends of their names or by their suffixes."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dinoseg.data.found_files import IMAGE_SUFFIXES, MASK_SUFFIXES, stem_of, suffix_of

_WORDS = ("mask", "masks", "label", "labels", "seg", "segmentation", "gt", "groundtruth", "labelIds", "annotation", "L")
_ENDINGS = tuple(sign + word for word in _WORDS for sign in ("_", "-", "."))
_PHOTOGRAPHS = {".jpg", ".jpeg", ".jp2"}
_EXACT = {".png", ".tif", ".tiff", ".npy", ".bmp", ".gif"}


@dataclass(frozen=True)
class FileKinds:
    """How the files of a folder are told apart.

    Attributes:
        mask_ending: what the stems of masks end with, ``_mask``; empty where suffixes tell.
        image_suffixes, mask_suffixes: those of either.
    """

    mask_ending: str
    image_suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    mask_suffixes: tuple[str, ...] = MASK_SUFFIXES


def kinds_side_by_side(folder: Path) -> FileKinds | None:
    """What tells images and masks of a folder apart (``a.jpg`` and ``a_mask.png``, or ``a.png``).

    None unless it holds for every image: a folder of images among which two names look alike is no folder of pairs.
    """
    suffixes: dict[str, set[str]] = defaultdict(set)
    for path in folder.iterdir():
        if suffix_of(path) in {*IMAGE_SUFFIXES, *MASK_SUFFIXES} and not path.name.startswith("."):
            suffixes[stem_of(path)].add(suffix_of(path))
    for ending in _ENDINGS:
        masks = {stem for stem in suffixes if stem.endswith(ending)}
        if masks and {stem.removesuffix(ending) for stem in masks} == set(suffixes) - masks:
            return FileKinds(ending)
    return _by_suffix(suffixes)


def _by_suffix(suffixes: Mapping[str, set[str]]) -> FileKinds | None:
    """Photographs as JPEG, masks in a format that keeps values."""
    kinds = {frozenset(found) for found in suffixes.values()}
    images = {suffix for found in kinds for suffix in found if suffix in _PHOTOGRAPHS}
    masks = {suffix for found in kinds for suffix in found if suffix in _EXACT}
    whole = all(len(found) == 2 and found & images and found & masks for found in kinds)
    return FileKinds("", tuple(sorted(images)), tuple(sorted(masks))) if kinds and whole else None
