"""Reads every image and mask of a data set once, in parallel, and remembers the facts between runs."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from rich.console import Console

from dinoseg.check.band_scan import band_facts, read_band_pair
from dinoseg.check.facts import ImageFacts, MaskFacts, PairFacts, count_values, is_plain, mask_facts
from dinoseg.check.mask_scan import bytes_of, read_facts_inside, read_mask_facts, reason_of
from dinoseg.check.scan_cache import ScanCache
from dinoseg.check.slice_facts import read_slice_facts
from dinoseg.data.band_files import array_bands, is_array
from dinoseg.data.bands import finite_pixels
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.items import SelfReading
from dinoseg.data.pairs import Pair
from dinoseg.data.parquet import TableRow
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm
from dinoseg.data.pictures import LARGEST_WHITE, brightest_value, refuse_picture_mode, to_picture
from dinoseg.data.raster_masks import read_labels, stored_kind
from dinoseg.data.raster_pictures import raster_values
from dinoseg.data.rasters import opened_raster
from dinoseg.data.slices import Slice
from dinoseg.data.tiles import Tile
from dinoseg.labels.settings import Kind
from dinoseg.system.bars import image_progress
from dinoseg.system.processes import available_cores


def scan_pairs(
    pairs: Sequence[Pair],
    kind: Kind = "ids",
    cache: ScanCache | None = None,
    console: Console | None = None,
    form: PictureForm = PLAIN_FORM,
) -> list[PairFacts]:
    """The facts of every pair, in the order given, read on all CPU cores.

    Args:
        pairs: complete pairs.
        kind: what palette masks are read as.
        cache: facts of files whose path, size and mtime are as before are taken from here, new ones are put in.
        console: shows progress and pace when given: a bar on a terminal, a line now and then elsewhere.
        form: which bands of the images are read, and whether as values; not what becomes of them.
    """
    cache = cache or ScanCache(None)

    def facts_of(pair: Pair) -> PairFacts:
        assert pair.mask is not None
        if isinstance(pair, Tile):
            return _remembered(pair, kind, cache, form, partial(_read_tile_facts, pair, kind, form))
        if isinstance(pair, Slice):
            return _remembered(pair, kind, cache, form, partial(read_slice_facts, pair, form))
        if form.takes_values:
            return _remembered(pair, kind, cache, form, partial(read_band_pair, pair, kind, form))
        if isinstance(pair, TableRow):
            return facts_of_row(pair, kind, cache)
        image = cache.get(ImageFacts, "image", pair.image, read_image_facts)
        return PairFacts(pair, image, _remembered_mask(pair, image, kind, cache))

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
    table, image = row.table.path, row.image
    of_image = cache.get(ImageFacts, row.place, table, lambda path: read_image_facts(image, row.image_bytes))
    return PairFacts(row, of_image, _remembered_mask(row, of_image, kind, cache))


def read_image_facts(path: Path, read: Callable[[], bytes] | None = None) -> ImageFacts:
    """Decodes an image fully, since only that finds a truncated file; errors become the ``error`` field.

    Args:
        read: gives its bytes, where ``path`` is but a name.
    """
    try:
        data = bytes_of(path) if read is None else read()
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if read is None and is_array(path):
            return replace(_array_picture(path), digest=digest)
        image = load_file(path, data, reduced=True)
        mode, orientation, stored = (image.info[key] for key in ("stored_mode", "orientation", "stored_size"))
        size = (stored[1], stored[0]) if orientation in (5, 6, 7, 8) else stored
        if mode == "F":
            # Needs a range, which the check suggests when it knows that of all pictures.
            fields = band_facts(np.asarray(image)[..., None], 1, None, PLAIN_FORM) | {"bands": (), "mode": mode}
            return ImageFacts(size=size, stored_size=stored, orientation=orientation, digest=digest, **fields)
        refuse_picture_mode(mode, path)
    except (OSError, ValueError) as error:
        return ImageFacts(error=reason_of(error, path))
    drops = "dropped" in image.info
    return ImageFacts(mode, size, stored, orientation, digest, brightest_value(image), drops)


def _array_picture(path: Path) -> ImageFacts:
    array = load_array(path)
    values = array_bands(array, path)
    height, width, count = values.shape
    fields = band_facts(values, count, None, PLAIN_FORM) | {"bands": ()}
    if array.dtype in (np.uint8, np.uint16):
        to_picture(array, path, LARGEST_WHITE)  # raises for what is no picture
        fields |= {"brightest": brightest_value(array), "drops_channels": count == 4, "dtype": "", "extremes": None}
    return ImageFacts(size=(width, height), stored_size=(width, height), **fields)


def _remembered_mask(pair: Pair, image: ImageFacts, kind: Kind, cache: ScanCache) -> MaskFacts:
    """As remembered, or read, of a pair that is read as a picture; within its region, where it has one."""
    assert pair.mask is not None
    file, role, data = pair.mask, f"mask-{kind}", None
    if isinstance(pair, TableRow):
        file, role, data = pair.table.path, f"{pair.place} mask-{kind}", pair.mask_bytes
    if pair.region is None:
        whole = partial(read_mask_facts, pair.mask, kind, data)
        return cache.get(MaskFacts, role, file, lambda path: whole())
    inside = partial(read_facts_inside, pair, image, kind, data)
    if image.error:
        return inside()  # how the image is turned is not known
    return cache.get(MaskFacts, f"{role} inside", file, lambda path: inside(), [pair.image_file, pair.region])


def _remembered(
    pair: Pair,
    kind: Kind,
    cache: ScanCache,
    form: PictureForm,
    read: Callable[[], tuple[ImageFacts, MaskFacts]],
) -> PairFacts:
    """As remembered, or read; what counts in a mask, and is measured of an image, depends on image and region."""
    assert pair.mask is not None
    # What becomes of values changes no fact, but for the range: without one, white is looked for.
    place = f"bands {form.bands} {form.ranges is None}" if form.takes_values else ""
    if isinstance(pair, SelfReading):
        place = f"{pair.place} {place}".rstrip()
    region = [] if pair.region is None else [pair.region]
    file, mask_file = pair.image_file, pair.image_file if isinstance(pair, TableRow) else pair.mask
    loaded = lru_cache(read)
    image = cache.get(ImageFacts, place, file, lambda path: loaded()[0], region if form.takes_values else ())
    if image.error:
        # Where the image holds no data is not known, so neither is what counts in the mask.
        return PairFacts(pair, image, loaded()[1])
    mask = cache.get(MaskFacts, f"{place} {kind}", mask_file, lambda path: loaded()[1], [file, *region])
    return PairFacts(pair, image, mask)


def _read_tile_facts(tile: Tile, kind: Kind, form: PictureForm) -> tuple[ImageFacts, MaskFacts]:
    assert tile.mask is not None
    height, width = tile.area.size
    size = (width, height)
    image, mask, inside = ImageFacts(), MaskFacts(), np.ones((height, width), dtype=bool)
    try:
        with opened_raster(tile.image) as opened:
            values, inside = raster_values(opened, tile.area, form)
            count, mode = opened.count, f"{opened.count} x {opened.dtypes[0]}"
        # Tiles without a difference in them (sea, nodata) are alike and no copies.
        digest = (
            ""
            if is_plain(values)
            else hashlib.blake2b(f"{size}".encode() + values.tobytes(), digest_size=16).hexdigest()
        )
        pixels = np.moveaxis(values, 0, -1)
        if form.takes_values:
            known = finite_pixels(pixels, inside)
            inside = inside if known is None else known
            fields = band_facts(pixels, count, inside & tile.within(), form)
            image = ImageFacts(size=size, stored_size=size, digest=digest, **fields)
        else:
            PictureForm(LARGEST_WHITE).of_bands(pixels, str(tile.image))  # raises for what is no picture
            image = ImageFacts(mode, size, size, 1, digest, brightest_value(pixels), count not in (1, 3))
    except (OSError, ValueError) as error:
        image = ImageFacts(error=reason_of(error, tile.image))
    try:
        with opened_raster(tile.mask) as opened:
            stores, mode = stored_kind(opened, kind), f"{opened.count} x {opened.dtypes[0]}"
            label_ids, known = read_labels(opened, tile.area, stores)
        counted = inside & known & tile.within()
        mask = mask_facts(mode, size, 1, stores, count_values(label_ids[counted]))
        mask = replace(mask, outside=int(counted.size - counted.sum()))
    except (OSError, ValueError) as error:
        mask = MaskFacts(error=reason_of(error, tile.mask))
    return image, mask
