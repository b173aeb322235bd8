"""Pictures of TIFFs that are read in parts: an area in the form that a run gives its pictures."""

from typing import Any

import numpy as np

from dinoseg.data.band_files import refuse_missing_band
from dinoseg.data.bands import Picture, inside_of
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.rasters import Area, Inside, read_bands, read_colours


def raster_picture(
    opened: Any, area: Area, form: PictureForm, size: tuple[int, int] | None = None
) -> tuple[Picture, Inside]:
    """The picture of an area, black where it holds no data; and where it does.

    Args:
        opened: a raster that is open for reading.
        size: height and width to read it at, by nearest neighbour; its own when left out.

    Raises:
        ValueError: it lacks a band, or does not reach that far; names the file.
    """
    values, inside = raster_values(opened, area, form, size)
    picture = form.of_bands(np.ascontiguousarray(np.moveaxis(values, 0, -1)), str(opened.name), inside)
    known = inside_of(picture)
    return picture, inside if known is None else known


def raster_values(
    opened: Any, area: Area, form: PictureForm, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, Inside]:
    """What the picture is made of, (band, height, width); and where the area holds data. See ``raster_picture``."""
    if form.bands is None:
        return read_colours(opened, area, size)
    refuse_missing_band(opened.count, form.bands, str(opened.name))
    return read_bands(opened, area, form.bands, size)
