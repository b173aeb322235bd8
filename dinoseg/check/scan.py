"""Reads every image and mask of a data set once, in parallel, and remembers the facts between runs."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from dinoseg.check.facts import MOST_VALUES, ImageFacts, MaskFacts, PairFacts, count_values, mask_facts, reason_of
from dinoseg.check.scan_cache import ScanCache
from dinoseg.check.slice_facts import facts_of_slice
from dinoseg.check.tile_facts import facts_of_tile
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.masks import array_ids, mask_ids, pack_channels, read_mask
from dinoseg.data.pairs import Pair
from dinoseg.data.parquet import TableRow
from dinoseg.data.pictures import brightest_value, refuse_picture_mode
from dinoseg.data.regions import read_region
from dinoseg.data.slices import Slice
from dinoseg.data.tiles import Tile
from dinoseg.labels.settings import Kind
from dinoseg.system.bars import image_progress
from dinoseg.system.files import refuse_special_file
from dinoseg.system.processes import available_cores


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
            return facts_of_tile(pair, kind, cache)
        if isinstance(pair, TableRow):
            return facts_of_row(pair, kind, cache)
        if isinstance(pair, Slice):
            return facts_of_slice(pair, cache)
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


def facts_of_row(row: TableRow, kind: Kind, cache: ScanCache) -> PairFacts:
    """The facts of a row of a table, as remembered, or read."""
    image, mask = row.image, row.mask
    assert mask is not None
    of_image = cache.get(
        ImageFacts, f"row {row.row}", row.table.path, lambda path: read_image_facts(image, row.image_bytes)
    )

    def of_mask(path: Path) -> MaskFacts:
        if row.region is not None:
            return read_facts_inside(row, kind, row.mask_bytes)
        return read_mask_facts(mask, kind, row.mask_bytes)

    if row.region is not None:
        return PairFacts(row, of_image, of_mask(mask))
    return PairFacts(row, of_image, cache.get(MaskFacts, f"row {row.row} mask-{kind}", row.table.path, of_mask))


def read_image_facts(path: Path, read: Callable[[], bytes] | None = None) -> ImageFacts:
    """Decodes an image fully, since only that finds a truncated file; errors become the ``error`` field.

    Args:
        read: gives its bytes, where ``path`` is but a name.
    """
    try:
        data = _bytes_of(path) if read is None else read()
        image = load_file(path, data, reduced=True)
        mode, orientation, stored = (image.info[key] for key in ("stored_mode", "orientation", "stored_size"))
        refuse_picture_mode(mode, path)
    except (OSError, ValueError) as error:
        return ImageFacts(error=reason_of(error, path))
    size = (stored[1], stored[0]) if orientation in (5, 6, 7, 8) else stored
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    drops = "dropped" in image.info
    return ImageFacts(mode, size, stored, orientation, digest, brightest_value(image), drops)


def read_mask_facts(path: Path, kind: Kind, read: Callable[[], bytes] | None = None) -> MaskFacts:
    """Counts the values of a mask; errors become the ``error`` field; see ``read_image_facts``."""
    try:
        if read is None and path.suffix.lower() == ".npy":
            return _array_facts(load_array(path), path)
        upright = load_file(path, _bytes_of(path) if read is None else read())
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, path))
    orientation, mode = upright.info["orientation"], upright.info["stored_mode"]
    stores: Kind = "colours" if mode in ("RGB", "RGBA", "CMYK", "YCbCr") else "ids"
    if mode in ("P", "PA"):
        stores = kind
    try:
        counts = _count(upright, stores, path)
    except ValueError as error:
        return MaskFacts(mode, upright.size, orientation, error=reason_of(error, path))
    return mask_facts(mode, upright.size, orientation, stores, counts)


def read_facts_inside(pair: Pair, kind: Kind, read: Callable[[], bytes] | None = None) -> MaskFacts:
    """The facts of a mask, of which only values inside the region of its image are counted."""
    assert pair.mask is not None and pair.region is not None
    whole = read_mask_facts(pair.mask, kind, read)
    if whole.error:
        return whole
    try:
        stored = None if read is None else load_file(pair.mask, read())
        values = mask_ids(stored, whole.stores, pair.mask) if stored else read_mask(pair.mask, whole.stores)
        inside = read_region(pair.region, pair.image, (values.shape[1], values.shape[0]))
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, pair.mask))
    counted = mask_facts(whole.mode, whole.size, whole.orientation, whole.stores, count_values(values[inside]))
    return replace(counted, outside=int(inside.size - inside.sum()))


def _bytes_of(path: Path) -> bytes:
    refuse_special_file(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None


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


def _array_facts(array: np.ndarray, path: Path) -> MaskFacts:
    stores: Kind = "colours" if array.ndim == 3 and array.shape[2] in (3, 4) else "ids"
    values = array_ids(array, stores, path)
    return mask_facts("npy", (array.shape[1], array.shape[0]), 1, stores, count_values(values))
