"""Regions: where in an image the truth is known. What lies outside counts nowhere.

The field of view of a fundus, the part of a map that was annotated. A region is a mask of its own, not zero inside.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from dinoseg.config import DatasetsConfig
from dinoseg.data.found_files import MASK_SUFFIXES, FoundFiles, fixed_part, folder_files, glob_paths, named_files
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.masks import rotate_like
from dinoseg.data.pairing import pair_by_names
from dinoseg.data.pairs import Pair, Split, SplitListing
from dinoseg.labels import LabelSpace
from dinoseg.system.messages import list_names

Region = Bool[np.ndarray, "height width"]

# JPEG blurs the border between 0 and 255.
_JPEG_INSIDE = 127


def attach_regions(listing: SplitListing, datasets: DatasetsConfig, split: Split | None) -> SplitListing:
    """The pairs with the regions that ``datasets.regions`` gives them; as they are where it gives the split none.

    Args:
        split: None for pairs that belong to none (yet).

    Raises:
        ValueError: no such folder or files, or an image without a region.
    """
    place = _place(datasets, split)
    if place is None or not listing.pairs:
        return listing
    return replace(listing, pairs=_with_regions(listing.pairs, find_regions(datasets, place), place))


def regions_by_split(datasets: DatasetsConfig) -> bool:
    """Whether each split has regions of its own, in another folder or by another glob."""
    return isinstance(datasets.regions, Mapping) or "{split}" in str(datasets.regions)


def find_regions(datasets: DatasetsConfig, place: str) -> FoundFiles:
    """The region masks of a folder or glob, by name.

    Raises:
        ValueError: there are none.
    """
    root = Path(datasets.root or ".").expanduser()
    folder = root / place
    if folder.is_dir():
        found = folder_files(folder, MASK_SUFFIXES, "regions")
    else:
        found = named_files(glob_paths(root, place), MASK_SUFFIXES, root / fixed_part(place), "regions")
    if not found.files:
        raise ValueError(f"datasets.regions={place}: no mask there, below {root}; give a folder, or a glob of masks")
    return found


def read_region(path: Path, image: Path, size: tuple[int, int]) -> Region:
    """A region as (height, width), true inside.

    Args:
        image: the image it belongs to, by whose EXIF tag a region of the stored size is turned.
        size: width and height of the image, upright.

    Raises:
        ValueError: missing or damaged, or of another size; names both files.
    """
    inside = _inside(path)
    if inside.shape == (size[1], size[0]):
        return inside
    with suppress(ValueError):  # of an image that Pillow does not read, which has no such tag
        stored = load_file(image, reduced=True)
        if (inside.shape[1], inside.shape[0]) == stored.info["stored_size"] != size:
            return rotate_like(inside.astype(np.int32), stored.info["orientation"]).astype(bool)
    raise ValueError(
        f"{path}: a region of {inside.shape[1]} x {inside.shape[0]} for {image}, which is {size[0]} x {size[1]} "
        "(width x height); give one of the same size"
    )


def encode_inside(
    pair: Pair,
    label_ids: Integer[np.ndarray, "height width"],
    space: LabelSpace,
    source: str = "",
    known: Region | None = None,
) -> Integer[np.ndarray, "height width"]:
    """Class indices of a mask, with the ignore index outside the region of its image.

    What stands outside need not be a label of the space.

    Args:
        source: names the mask in messages; its path when left out.
        known: where the image holds data; None for everywhere.

    Raises:
        ValueError: a label id that the space does not name, inside; or what ``read_region`` raises.
    """
    source = source or str(pair.mask)
    if pair.region is None:
        return (
            space.encode(label_ids, source=source) if known is None else encode_within(known, label_ids, space, source)
        )
    inside = read_region(pair.region, pair.image, (label_ids.shape[1], label_ids.shape[0]))
    return encode_within(inside if known is None else inside & known, label_ids, space, source)


def encode_within(
    inside: Region, label_ids: Integer[np.ndarray, "height width"], space: LabelSpace, source: str
) -> Integer[np.ndarray, "height width"]:
    """The same with a region that was read."""
    known = np.where(inside, label_ids, space.classes[0].label_ids[0])
    indices = space.encode(known, source=source)
    return np.where(inside, indices, np.array(space.ignore_index, indices.dtype))


def _inside(path: Path) -> Region:
    if path.suffix.lower() == ".npy":
        return load_array(path) != 0
    image = load_file(path)
    if image.mode in ("LA", "RGBA", "PA", "P"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if values.ndim == 3:
        values = values.max(axis=2)
    return values > (_JPEG_INSIDE if path.suffix.lower() in (".jpg", ".jpeg") else 0)


def _place(datasets: DatasetsConfig, split: Split | None) -> str | None:
    """The folder or glob of a split; None where it has none."""
    value = datasets.regions
    if value is None:
        return None
    if isinstance(value, Mapping):
        found = value.get(split) if split else None
        return None if found is None else str(found)
    if "{split}" not in str(value):
        return str(value)
    if split is None:
        raise ValueError(f"datasets.regions={value}: has {{split}} in it, but the images belong to no split")
    return str(value).replace("{split}", getattr(datasets, split))


def _with_regions(pairs: tuple[Pair, ...], regions: FoundFiles, place: str) -> tuple[Pair, ...]:
    found = pair_by_names({pair.name: pair.image for pair in pairs}, regions.files).mask_of
    missing = [str(pair.image) for pair in pairs if pair.name not in found]
    if missing:
        raise ValueError(
            f"datasets.regions={place}: no region for {list_names(missing, 3)}; each image of the split needs one of "
            "its name, or of its name with an affix that is the same for all"
        )
    return tuple(replace(pair, region=found[pair.name]) for pair in pairs)


def outside_as_ignored(
    class_map: Integer[np.ndarray, "height width"], inside: Region, space: LabelSpace
) -> Integer[np.ndarray, "height width"]:
    """A prediction with the ignore index outside a region."""
    return np.where(inside, class_map, np.array(space.ignore_index, class_map.dtype))
