"""What a scan knows of a tile of an image and of its mask."""

import hashlib
from dataclasses import replace
from functools import lru_cache

import numpy as np

from dinoseg.check.facts import ImageFacts, MaskFacts, PairFacts, count_values, mask_facts, reason_of
from dinoseg.check.scan_cache import ScanCache
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.pictures import LARGEST_WHITE, brightest_value
from dinoseg.data.rasters import as_picture, opened_raster, read_colours, read_labels, stored_kind
from dinoseg.data.tiles import Tile
from dinoseg.labels.settings import Kind


def facts_of_tile(tile: Tile, kind: Kind, cache: ScanCache) -> PairFacts:
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
