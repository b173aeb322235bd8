"""Large TIFFs as many pairs: each tile is read by itself, as if it were a file, and the file is never read whole.

A tile is an image of its own to scan, training and evaluation; what lies beyond its border is not seen, as with files
that were cut. Tiles of one file go into one split, since splits are of files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from dinoseg.config import DatasetsConfig
from dinoseg.data.bands import Picture
from dinoseg.data.georeference import misfits_of_tiles, misfits_of_whole, plain_header
from dinoseg.data.items import SelfReading
from dinoseg.data.masks import LabelMap
from dinoseg.data.pairs import Misfit, Pair, SplitListing
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.raster_masks import read_labels
from dinoseg.data.raster_pictures import raster_picture
from dinoseg.data.rasters import (
    Area,
    Inside,
    RasterHeader,
    has_rasterio,
    is_tiff,
    opened_raster,
    read_header,
    read_region_area,
)
from dinoseg.labels.settings import Kind
from dinoseg.system.messages import plural

# Where datasets.tile is left out: the side, and how many pixels an image has that is read whole.
SIDE = 1024
LARGEST_WHOLE = 25_000_000
_LEAST_SIDE = 64


@dataclass(frozen=True)
class Tile(SelfReading):
    """A part of an image and of its mask, which are TIFFs of one size."""

    part: ClassVar[str] = "tile"
    area: Area = field(kw_only=True)

    @property
    def identity(self) -> str:
        """Its name, which says where it begins, and its size."""
        return f"{self.name} {self.area.size}"

    @property
    def place(self) -> str:
        """Where in its file it stands."""
        return f"tile {self.area.rows} {self.area.columns}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.area.size

    def picture(self, form: PictureForm) -> Picture:
        """The picture of the image, black where it holds no data.

        Raises:
            ValueError: it cannot be read; names the file.
        """
        with opened_raster(self.image) as opened:
            return raster_picture(opened, self.area, form)[0]

    def load(self, kind: Kind, form: PictureForm) -> tuple[Picture, LabelMap, Inside]:
        """Image, label ids, and where they count: where both hold data, within the region.

        Raises:
            ValueError: a file cannot be read, or stores something else; names the file.
        """
        assert self.mask is not None
        with opened_raster(self.image) as opened:
            image, inside = raster_picture(opened, self.area, form)
        with opened_raster(self.mask) as opened:
            label_ids, known = read_labels(opened, self.area, kind)
        return image, label_ids, inside & known & self.within()

    def within(self) -> Inside | bool:
        """The region; True without one."""
        if self.region is None:
            return True
        with opened_raster(self.region) as opened:
            return read_region_area(opened, self.area)


def in_tiles(listing: SplitListing, datasets: DatasetsConfig) -> SplitListing:
    """The listing with the tiles of large TIFFs in their place, and masks that do not lie where their images lie among
    its misfits; reads the headers of TIFFs.

    Raises:
        ValueError: a side that is none, or rasterio is not there while tiles are asked for.
    """
    side = datasets.tile
    if side is not None and 0 < side < _LEAST_SIDE:
        raise ValueError(f"datasets.tile={side}: give {_LEAST_SIDE} or more, or 0, which reads every image whole")
    if side and not has_rasterio():
        raise ValueError(f"datasets.tile={side}: tiles are read with rasterio; pip install 'dinoseg[geo]'")
    if not has_rasterio() or not any(is_tiff(pair.image) for pair in listing.pairs):
        return listing
    found = [_parts(pair, side) for pair in listing.pairs]
    return replace(
        listing,
        pairs=tuple(part for parts, _ in found for part in parts),
        misfits=tuple(misfit for _, misfits in found for misfit in misfits),
    )


def count_in_words(pairs: Sequence[Pair]) -> str:
    """``5``, or ``36 tiles of 3 images``, or both: what else would be counted as images."""
    tiles = [pair for pair in pairs if isinstance(pair, Tile)]
    if not tiles:
        return str(len(pairs))
    files, whole = len({tile.image for tile in tiles}), len(pairs) - len(tiles)
    said = f"{len(tiles)} tiles of {plural(files, 'image')}"
    return f"{said} and {whole} whole" if whole else said


def areas(height: int, width: int, side: int) -> Iterator[Area]:
    """The tiles of an image, row by row: squares, of which the last takes a rest of less than half a side with it."""
    for rows in _spans(height, side):
        for columns in _spans(width, side):
            yield Area(rows, columns)


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    count = max(1, (length + side // 2) // side)
    return [(index * side, length if index == count - 1 else (index + 1) * side) for index in range(count)]


def _parts(pair: Pair, side: int | None) -> tuple[list[Pair], list[Misfit]]:
    """The tiles of a pair, or itself where it is no large TIFF with a TIFF for a mask; and what does not fit."""
    header = plain_header(pair.image)
    # What cannot be read, or holds several pages or a rotation, is left to those who say so, or turn it.
    if header is None:
        return [pair], []
    if not _is_for_tiles(pair, header, side):
        return [pair], misfits_of_whole(pair, header)
    misfits = misfits_of_tiles(pair, header)
    if any(misfit.code != "other_place" for misfit in misfits):
        return [], misfits
    tiles: list[Pair] = [
        Tile(f"{pair.name}_r{area.rows[0]}_c{area.columns[0]}", pair.image, pair.mask, region=pair.region, area=area)
        for area in areas(*header.size, side or SIDE)
    ]
    return tiles, misfits


def _is_for_tiles(pair: Pair, header: RasterHeader, side: int | None) -> bool:
    if side == 0 or pair.mask is None or not is_tiff(pair.mask) or not _is_large(header, side):
        return False
    mask = read_header(pair.mask)
    return not (header.colours or (mask is not None and (mask.colours or mask.white_is_zero)))


def _is_large(header: RasterHeader, side: int | None) -> bool:
    height, width = header.size
    return height * width > LARGEST_WHOLE if side is None else max(height, width) > side
