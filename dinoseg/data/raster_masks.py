"""Masks of TIFFs that are read in tiles: label ids of an area, and where they are known."""

from pathlib import Path
from typing import Any

import numpy as np

from dinoseg.data.masks import LabelMap, array_ids
from dinoseg.data.rasters import Area, Inside, palette_of, pixels_of, read_values
from dinoseg.labels.settings import Kind


def read_labels(opened: Any, area: Area, kind: Kind) -> tuple[LabelMap, Inside]:
    """Label ids of an area of a mask, colours packed as 0xRRGGBB; and where it holds data.

    Raises:
        ValueError: colours where label ids are declared or the other way round, no whole numbers, or the raster does
            not reach that far.
    """
    values, inside = read_values(opened, area)
    palette = palette_of(opened) if kind == "colours" and len(values) == 1 else None
    if palette is not None:
        values = np.moveaxis(palette[values[0]], -1, 0)
    return array_ids(pixels_of(values), kind, Path(opened.name)), inside


def stored_kind(opened: Any, kind: Kind) -> Kind:
    """What a mask stores; one with a palette stores what is asked for."""
    if opened.count >= 3:
        return "colours"
    return kind if palette_of(opened) is not None else "ids"
