"""TIFFs of any size through rasterio: headers, and windows as pictures, label ids and where they hold data.

Memory depends on the window, not on the file.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dinoseg.data.image_files import ORIENTATION_TAG

TIFF_SUFFIXES = (".tif", ".tiff")
# Bytes that GDAL keeps of the blocks which it read; its own default is a share of the machine's memory.
_KEPT_BLOCKS = 256 * 2**20
# Pixels by which corners may lie apart and still be the same: transforms are written with few digits.
_SAME_PLACE = 0.1
# Filters of warnings are those of all threads.
_FILTERS = Lock()

Inside = Bool[np.ndarray, "height width"]


@dataclass(frozen=True)
class Area:
    """Rows and columns of a raster, each (start, end)."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


@dataclass(frozen=True)
class RasterHeader:
    """What a TIFF says of itself before its pixels.

    Attributes:
        size: height and width, as stored.
        crs, transform: reference system (None without) and grid, as rasterio gives them.
        pages: pictures in it; smaller copies are none.
        colours: a colour space whose values GDAL gives as they are stored, and Pillow as RGB or not at all; else empty.
        white_is_zero: grey in which 0 is white, as GDAL's values and Pillow's differ in, too.
    """

    size: tuple[int, int]
    crs: Any
    transform: Any
    pages: int
    colours: str = ""
    white_is_zero: bool = False

    @property
    def is_placed(self) -> bool:
        """Whether it has a georeference."""
        return self.crs is not None or not self.transform.is_identity

    @property
    def place(self) -> str:
        """The georeference in words."""
        if not self.is_placed:
            return "without a georeference"
        step = f"{abs(self.transform.a):g} x {abs(self.transform.e):g}"
        return f"at {self.transform.c:.10g}, {self.transform.f:.10g} in pixels of {step} ({self.crs or 'no CRS'})"

    def lies_elsewhere(self, other: "RasterHeader") -> bool:
        """Whether both have a georeference, and not the same."""
        if not (self.is_placed and other.is_placed):
            return False
        if self.crs is not None and other.crs is not None and self.crs != other.crs:
            return True
        if self.transform.is_degenerate:
            return bool(self.transform != other.transform)
        height, width = (float(side) for side in self.size)
        for corner in ((0.0, 0.0), (width, 0.0), (0.0, height), (width, height)):
            column, row = _placed(~self.transform, *_placed(other.transform, *corner))
            # Not ">", which says no of what is not a number.
            if not max(abs(column - corner[0]), abs(row - corner[1])) <= _SAME_PLACE:
                return True
        return False


def import_rasterio() -> Any:
    """The package with what is used of it."""
    import rasterio
    import rasterio.enums
    import rasterio.errors
    import rasterio.windows

    return rasterio


def has_rasterio() -> bool:
    """Whether it is installed (extra ``geo``)."""
    return find_spec("rasterio") is not None


def is_tiff(path: Path) -> bool:
    """Whether a name says so."""
    return path.suffix.lower() in TIFF_SUFFIXES


def is_turned(path: Path) -> bool:
    """Whether a TIFF has a rotation tag, by which Pillow turns it and GDAL does not."""
    try:
        # Not by Image.open, which refuses large images, and says of many bands what nobody asked.
        with path.open("rb") as file:
            start = file.read(16)
            tags = ImageFileDirectory_v2(start[: 16 if 43 in start[2:4] else 8])
            file.seek(tags.next)
            tags.load(file)
            return bool(tags.get(ORIENTATION_TAG, 1) != 1)
    except Exception:  # Pillow raises many types for a damaged list of tags
        return False  # of a kind that Pillow does not know, and rasterio does


@contextmanager
def opened_raster(path: Path) -> Iterator[Any]:
    """A raster that is open for reading.

    Raises:
        ValueError: it cannot be read, now or within the block; names the file.
    """
    rasterio = import_rasterio()
    with rasterio.Env(GDAL_CACHEMAX=_KEPT_BLOCKS):
        try:
            with _FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                opened = rasterio.open(path)
            with opened:
                yield opened
        except rasterio.errors.RasterioError as error:
            # What rasterio says of some errors is that they have a cause.
            reason = error.__cause__ or error
            raise ValueError(f"{path}: missing, truncated or damaged ({reason}); replace or remove the file") from error


def read_header(path: Path) -> RasterHeader | None:
    """The header of a TIFF; None for what is none, or is not read as one."""
    if not is_tiff(path):
        return None
    try:
        with opened_raster(path) as opened:
            pages = max(1, len(opened.subdatasets))
            stored = opened.tags(ns="IMAGE_STRUCTURE") | opened.tags(1, ns="IMAGE_STRUCTURE")
            # GDAL turns CMYK into RGB, and JPEG's YCbCr, of which it does not speak.
            space = stored.get("SOURCE_COLOR_SPACE", "")
            return RasterHeader(
                (opened.height, opened.width),
                opened.crs,
                opened.transform,
                pages,
                "" if space == "CMYK" else space,
                "MINISWHITE" in stored,
            )
    except ValueError:
        return None


def picture_bands(opened: Any) -> list[int]:
    """What is shown of a raster: its first three bands, or its one."""
    return [1, 2, 3] if opened.count >= 3 else [1]


def read_values(opened: Any, area: Area, size: tuple[int, int] | None = None) -> tuple[np.ndarray, Inside]:
    """``read_bands`` of what is shown."""
    return read_bands(opened, area, picture_bands(opened), size)


def read_bands(
    opened: Any, area: Area, bands: Sequence[int], size: tuple[int, int] | None = None
) -> tuple[np.ndarray, Inside]:
    """Bands of an area, (band, height, width), 0 where it holds no data; and where it does.

    Of floating-point and signed values one band with the nodata value is enough; of unsigned ones all bands of the file
    must have it.

    Args:
        bands: counted from 1.
        size: height and width to read it at, by nearest neighbour; its own when left out.

    Raises:
        ValueError: the raster does not reach that far.
    """
    window, bands = _window(opened, area), list(bands)
    inside = _inside(opened, window, size or area.size)
    values = opened.read(bands, window=window, out_shape=(len(bands), *(size or area.size)))
    if opened.nodata is not None and values.dtype.kind in "if":
        # GDAL asks all bands of the file together. Of unsigned values nodata, 0 most often, may be one of a band, too.
        inside = inside & (values != opened.nodata).all(axis=0)
    # What stands there may be any value, 65535 or the darkest of all.
    values[:, ~inside] = 0
    return values, inside


def read_colours(opened: Any, area: Area, size: tuple[int, int] | None = None) -> tuple[np.ndarray, Inside]:
    """``read_values`` of a picture: a palette gives way to its colours."""
    values, inside = read_values(opened, area, size)
    palette = palette_of(opened) if len(values) == 1 else None
    if palette is not None:
        values = np.moveaxis(palette[values[0]], -1, 0)
        values[:, ~inside] = 0
    return values, inside


def _inside(opened: Any, window: Any, size: tuple[int, int]) -> Inside:
    """Where a window holds data: by mask band, alpha or nodata value."""
    opaque = import_rasterio().enums.ColorInterp.alpha
    alpha = next((band for band, meaning in enumerate(opened.colorinterp, start=1) if meaning == opaque), None)
    if alpha is None or opened.nodata is None:
        return np.asarray(opened.dataset_mask(window=window, out_shape=size) > 0)
    # With both, rasterio compares alpha with the nodata value, too: whatever is opaque would hold data.
    bands = [band for band in opened.indexes if band != alpha]
    values = opened.read(bands, window=window, out_shape=(len(bands), *size))
    shown = opened.read(alpha, window=window, out_shape=size) > 0
    return np.asarray((values != opened.nodata).any(axis=0) & shown)


def pixels_of(values: np.ndarray) -> np.ndarray:
    """Bands (band, height, width) as an array of an image: (height, width, band), or (height, width) of one band."""
    return np.ascontiguousarray(values[0] if len(values) == 1 else np.moveaxis(values, 0, -1))


def read_region_area(opened: Any, area: Area) -> Inside:
    """Where a region is not zero, and holds data."""
    values, inside = read_values(opened, area)
    return inside & (values != 0).any(axis=0)


def _placed(transform: Any, x: float, y: float) -> tuple[float, float]:
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def _window(opened: Any, area: Area) -> Any:
    if area.rows[1] > opened.height or area.columns[1] > opened.width:
        raise ValueError(
            f"{opened.name}: is {opened.width} x {opened.height} (width x height) and was larger when it was listed; "
            "leave files alone while they are read"
        )
    return import_rasterio().windows.Window.from_slices(area.rows, area.columns)


def palette_of(opened: Any) -> np.ndarray | None:
    """RGB by value; None for a raster without a palette."""
    if opened.colorinterp[0] != import_rasterio().enums.ColorInterp.palette:
        return None
    colours = opened.colormap(1)
    table = np.zeros((max(256, max(colours) + 1), 3), np.uint8)
    for value, colour in colours.items():
        table[value] = colour[:3]
    return table
