"""Reads every image and mask of a data set once, in parallel, and remembers the facts between runs."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from dinoseg.check.scan_cache import ScanCache
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.masks import array_ids, mask_ids, pack_channels, read_mask
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.pictures import LARGEST_WHITE, brightest_value, refuse_picture_mode
from dinoseg.data.rasters import as_picture, opened_raster, read_colours, read_labels, stored_kind
from dinoseg.data.regions import read_region
from dinoseg.data.tiles import Tile
from dinoseg.labels.settings import Kind
from dinoseg.system.bars import image_progress
from dinoseg.system.files import refuse_special_file
from dinoseg.system.processes import available_cores

# A mask with more values than this is no mask (a photograph, blurred colours); the rarest are counted, not listed.
MOST_VALUES = 4096


@dataclass(frozen=True)
class ImageFacts:
    """What the checks need to know of an image file.

    Attributes:
        mode: Pillow's mode ("RGB", "L", ...).
        size: (width, height), upright; ``stored_size`` before the EXIF rotation, ``orientation`` its tag (1: none).
        digest: hash of the file's bytes.
        brightest: largest value of a picture with 16 bits that does not say which is white; None for others.
        drops_channels: it has an alpha channel or further bands, which are not used.
        error: why it cannot be read; the other fields are empty then.
    """

    mode: str = ""
    size: tuple[int, int] = (0, 0)
    stored_size: tuple[int, int] = (0, 0)
    orientation: int = 1
    digest: str = ""
    brightest: int | None = None
    drops_channels: bool = False
    error: str | None = None


@dataclass(frozen=True)
class MaskFacts:
    """What the checks need to know of a mask file.

    Attributes:
        mode: Pillow's mode, or ``npy``.
        size: (width, height), upright; ``orientation`` the file's own EXIF tag (1: none).
        stores: whether its values are label ids or packed colours; a palette mask is whichever was asked for.
        counts: pixels per value, the most frequent ``MOST_VALUES``; ``distinct`` is how many values there are.
        equal_channels: an RGB mask that is really grey.
        outside: pixels outside the region of the image, or (of a tile) without data; they are not among the counts.
        error: why it cannot be read; the other fields are empty then.
    """

    mode: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    stores: Kind = "ids"
    counts: tuple[tuple[int, int], ...] = ()
    distinct: int = 0
    equal_channels: bool = False
    outside: int = 0
    error: str | None = None


@dataclass(frozen=True)
class PairFacts:
    pair: Pair
    image: ImageFacts
    mask: MaskFacts


def scan_pairs(
    pairs: Sequence[Pair], kind: Kind = "ids", cache: ScanCache | None = None, console: Console | None = None
) -> list[PairFacts]:
    """The facts of every pair, in the order given, read on all CPU cores.

    Args:
        pairs: complete pairs.
        kind: what palette masks are read as.
        cache: facts of files whose path, size and mtime are as before are taken from here, new ones are put in.
        console: shows progress and pace when given: a bar on a terminal, a line now and then elsewhere.
    """
    cache = cache or ScanCache(None)

    def facts_of(pair: Pair) -> PairFacts:
        assert pair.mask is not None
        if isinstance(pair, Tile):
            return _facts_of_tile(pair, kind, cache)
        image = cache.get(ImageFacts, "image", pair.image, read_image_facts)
        if pair.region is not None:
            # Of two files: what is remembered knows of one.
            return PairFacts(pair, image, read_facts_inside(pair, kind))
        return PairFacts(
            pair, image, cache.get(MaskFacts, f"mask-{kind}", pair.mask, partial(read_mask_facts, kind=kind))
        )

    facts = []
    # Threads suffice: Pillow and zlib decode without holding the interpreter lock.
    with (
        image_progress(console or Console(quiet=True), len(pairs), "scan", "pairs") as advance,
        ThreadPoolExecutor(available_cores()) as pool,
    ):
        for fact in pool.map(facts_of, pairs):
            facts.append(fact)
            advance()
    cache.save()
    return facts


def read_image_facts(path: Path) -> ImageFacts:
    """Decodes an image fully, since only that finds a truncated file; errors become the ``error`` field."""
    try:
        data = _bytes_of(path)
        image = load_file(path, data, reduced=True)
        mode, orientation, stored = (image.info[key] for key in ("stored_mode", "orientation", "stored_size"))
        refuse_picture_mode(mode, path)
    except (OSError, ValueError) as error:
        return ImageFacts(error=_reason(error, path))
    size = (stored[1], stored[0]) if orientation in (5, 6, 7, 8) else stored
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    drops = "dropped" in image.info
    return ImageFacts(mode, size, stored, orientation, digest, brightest_value(image), drops)


def read_mask_facts(path: Path, kind: Kind) -> MaskFacts:
    """Counts the values of a mask; errors become the ``error`` field."""
    try:
        if path.suffix.lower() == ".npy":
            return _array_facts(load_array(path), path)
        upright = load_file(path, _bytes_of(path))
    except (OSError, ValueError) as error:
        return MaskFacts(error=_reason(error, path))
    orientation, mode = upright.info["orientation"], upright.info["stored_mode"]
    stores: Kind = "colours" if mode in ("RGB", "RGBA", "CMYK", "YCbCr") else "ids"
    if mode in ("P", "PA"):
        stores = kind
    try:
        counts = _count(upright, stores, path)
    except ValueError as error:
        return MaskFacts(mode, upright.size, orientation, error=_reason(error, path))
    return mask_facts(mode, upright.size, orientation, stores, counts)


def _facts_of_tile(tile: Tile, kind: Kind, cache: ScanCache) -> PairFacts:
    """As remembered, or read; what counts in a mask depends on image and region, too."""
    assert tile.mask is not None
    place = f"tile {tile.area.rows} {tile.area.columns}"
    others = [path for path in (tile.image, tile.region) if path is not None]
    loaded = lru_cache(lambda: _read_tile_facts(tile, kind))
    image = cache.get(ImageFacts, place, tile.image, lambda path: loaded()[0])
    mask = cache.get(MaskFacts, f"{place} {kind}", tile.mask, lambda path: loaded()[1], others)
    return PairFacts(tile, image, mask)


def _read_tile_facts(tile: Tile, kind: Kind) -> tuple[ImageFacts, MaskFacts]:
    assert tile.mask is not None
    height, width = tile.area.size
    size = (width, height)
    image, mask, inside = ImageFacts(), MaskFacts(), np.ones((height, width), dtype=bool)
    try:
        with opened_raster(tile.image) as opened:
            values, inside = read_colours(opened, tile.area)
            as_picture(values, str(tile.image), PictureForm(LARGEST_WHITE))  # raises for what is no picture
            mode, drops = f"{opened.count} x {opened.dtypes[0]}", opened.count not in (1, 3)
        # Tiles without a difference in them (sea, nodata) are alike and no copies.
        plain = not values.size or values.min() == values.max()
        digest = "" if plain else hashlib.blake2b(f"{size}".encode() + values.tobytes(), digest_size=16).hexdigest()
        image = ImageFacts(mode, size, size, 1, digest, brightest_value(np.moveaxis(values, 0, -1)), drops)
    except (OSError, ValueError) as error:
        image = ImageFacts(error=_reason(error, tile.image))
    try:
        with opened_raster(tile.mask) as opened:
            stores, mode = stored_kind(opened, kind), f"{opened.count} x {opened.dtypes[0]}"
            label_ids, known = read_labels(opened, tile.area, stores)
        counted = inside & known & tile.within()
        mask = mask_facts(mode, size, 1, stores, count_values(label_ids[counted]))
        mask = replace(mask, outside=int(counted.size - counted.sum()))
    except (OSError, ValueError) as error:
        mask = MaskFacts(error=_reason(error, tile.mask))
    return image, mask


def read_facts_inside(pair: Pair, kind: Kind) -> MaskFacts:
    """The facts of a mask, of which only values inside the region of its image are counted."""
    assert pair.mask is not None and pair.region is not None
    whole = read_mask_facts(pair.mask, kind)
    if whole.error:
        return whole
    try:
        values = read_mask(pair.mask, whole.stores)
        inside = read_region(pair.region, pair.image, (values.shape[1], values.shape[0]))
    except (OSError, ValueError) as error:
        return MaskFacts(error=_reason(error, pair.mask))
    counted = mask_facts(whole.mode, whole.size, whole.orientation, whole.stores, count_values(values[inside]))
    return replace(counted, outside=int(inside.size - inside.sum()))


def _bytes_of(path: Path) -> bytes:
    refuse_special_file(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None


def _reason(error: Exception, path: Path) -> str:
    """The message without what the finding says anyway: the path, and to replace the file."""
    if isinstance(error, OSError):
        return f"cannot be opened ({error.strerror or error})"
    return str(error).removeprefix(f"{path}: ").removesuffix("; replace or remove the file")


def _count(image: Image.Image, stores: Kind, path: Path) -> dict[int, int]:
    if stores == "colours":
        rgb = image.convert("RGBA").convert("RGB")
        few = rgb.getcolors(MOST_VALUES)
        if few is None:
            return count_values(pack_channels(np.asarray(rgb)))
        packed = ((c, n) for n, c in few if isinstance(c, tuple))
        return {c[0] << 16 | c[1] << 8 | c[2]: n for c, n in packed}
    if image.mode in ("L", "P") and "stored_range" not in image.info:
        return {value: count for value, count in enumerate(image.histogram()) if count}
    return count_values(mask_ids(image, "ids", path))


def count_values(values: np.ndarray) -> dict[int, int]:
    """Pixels of every value."""
    flat = values.reshape(-1)
    if flat.size and flat.min() >= 0 and flat.max() < 1 << 16:
        counts = np.bincount(flat)
        present = np.flatnonzero(counts)
        return dict(zip(present.tolist(), counts[present].tolist(), strict=True))
    present, counts = np.unique(flat, return_counts=True)
    return dict(zip(present.tolist(), counts.tolist(), strict=True))


def _array_facts(array: np.ndarray, path: Path) -> MaskFacts:
    stores: Kind = "colours" if array.ndim == 3 and array.shape[2] in (3, 4) else "ids"
    values = array_ids(array, stores, path)
    return mask_facts("npy", (array.shape[1], array.shape[0]), 1, stores, count_values(values))


def mask_facts(mode: str, size: tuple[int, int], orientation: int, stores: str, counts: dict[int, int]) -> MaskFacts:
    """The facts of a mask of which every value is counted."""
    most = sorted(counts.items(), key=lambda entry: -entry[1])[:MOST_VALUES]
    equal = stores == "colours" and all(v >> 16 == (v >> 8 & 255) == (v & 255) for v in counts)
    kind: Kind = "colours" if stores == "colours" else "ids"
    return MaskFacts(mode, size, orientation, kind, tuple(sorted(most)), len(counts), equal)
