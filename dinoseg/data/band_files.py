"""Files of any number of bands as arrays: TIFF of any layout, .npy, and whatever Pillow reads.

TIFFs are read with rasterio where it is installed (extra ``geo``), since Pillow knows few layouts of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Num
from PIL import Image

from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.pictures import SIXTEEN_BIT_MODES
from dinoseg.data.rasters import Area, has_rasterio, is_tiff, is_turned, opened_raster, picture_bands, read_bands
from dinoseg.system.files import refuse_special_file

_ARRAY = ".npy"


@dataclass(frozen=True)
class BandFile:
    """Bands of a file, upright.

    Attributes:
        values: of the bands asked for; of those that are shown, at least, where none are named.
        count: bands of the file.
        inside: where it holds data, by its own nodata value or mask; None for everywhere.
        stored_size: width and height before the EXIF rotation; ``orientation`` its tag (1: none).
    """

    values: Num[np.ndarray, "height width bands"]
    count: int
    inside: Bool[np.ndarray, "height width"] | None
    stored_size: tuple[int, int]
    orientation: int = 1


def read_band_file(path: Path, bands: Sequence[int] | None = None) -> BandFile:
    """Reads bands of a file.

    Args:
        bands: counted from 1; those that are shown, at least, when left out.

    Raises:
        ValueError: missing, damaged, of a kind that is not read, or without one of the bands.
    """
    refuse_special_file(path)
    if is_array(path):
        return _of_array(load_array(path), path, bands)
    if is_tiff(path) and has_rasterio() and not is_turned(path):
        return _of_raster(path, bands)
    return decoded_bands(load_file(path), path, bands)


def decoded_bands(image: Image.Image, path: Path, bands: Sequence[int] | None = None) -> BandFile:
    """Bands of an image that ``load_file`` decoded. Raises ValueError where one of them is not there."""
    values = values_of(image, path)
    stored = image.info["stored_size"], image.info["orientation"]
    return BandFile(chosen(values, bands, path), values.shape[2], None, *stored)


def stored_band_size(path: Path) -> tuple[int, int]:
    """Height and width of a file as stored, from its header."""
    refuse_special_file(path)
    if is_array(path):
        shape = np.load(path, mmap_mode="r").shape
        return (shape[1], shape[2]) if bands_first(shape) else (shape[0], shape[1])
    if is_tiff(path) and has_rasterio():
        # Pillow knows few layouts, and says so on the terminal. A rotation tag means as little to GDAL as it does here.
        with opened_raster(path) as opened:
            return opened.height, opened.width
    with Image.open(path) as image:
        return image.height, image.width


def is_array(path: Path) -> bool:
    """Whether a name says that a file is a NumPy array."""
    return path.suffix.lower() == _ARRAY


def bands_first(shape: Sequence[int]) -> bool:
    """Whether an array of three axes has its bands first: that axis is shorter than the last."""
    return len(shape) == 3 and shape[0] < shape[2]


def array_bands(array: np.ndarray, source: Path | str) -> Num[np.ndarray, "height width bands"]:
    """An array (H, W), (H, W, bands) or (bands, H, W) with its bands last.

    Raises:
        ValueError: another number of axes, no pixel, or values that are no numbers.
    """
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(
            f"{source}: an array of shape {array.shape} is no picture; give (height, width), (height, width, bands) or "
            "(bands, height, width)"
        )
    if array.dtype.kind not in "uif":
        raise ValueError(f"{source}: values of type {array.dtype} are no picture; give whole or floating-point numbers")
    if array.ndim == 2:
        return array[..., None]
    return np.moveaxis(array, 0, -1) if bands_first(array.shape) else array


def values_of(image: Image.Image, source: Path | str) -> Num[np.ndarray, "height width bands"]:
    """All bands of a decoded image, as they are stored.

    Raises:
        ValueError: an image without a pixel.
    """
    if image.mode in ("P", "PA", "1", "CMYK", "YCbCr", "HSV", "LAB"):
        image = image.convert("RGB") if image.mode != "1" else image.convert("L")
    values = np.asarray(image)
    if "low_bytes" in image.info:
        low = np.asarray(image.info["low_bytes"])
        shared = min(values.shape[2], 1 if low.ndim == 2 else low.shape[2])
        low = low[..., None] if low.ndim == 2 else low
        values = values[..., :shared].astype(np.uint16) << 8 | low[..., :shared]
    elif image.mode in SIXTEEN_BIT_MODES and values.dtype == np.int32:
        values = values.view(np.uint32) if "unsigned" in image.info else values
    return array_bands(values if values.ndim == 3 else values[..., None], source)


def chosen(
    values: Num[np.ndarray, "height width every"], bands: Sequence[int] | None, source: Path | str
) -> Num[np.ndarray, "height width bands"]:
    """The bands that are named, in that order; all where none are.

    Raises:
        ValueError: one of them is not there.
    """
    if bands is None:
        return values
    refuse_missing_band(values.shape[2], bands, source)
    return values[..., [band - 1 for band in bands]]


def refuse_missing_band(count: int, bands: Sequence[int], source: Path | str) -> None:
    """Raises ValueError where a file of so many bands lacks one."""
    if max(bands) > count:
        held = f"{count} bands" if count > 1 else "1 band"
        raise ValueError(
            f"{source}: holds {held}, and datasets.bands={list(bands)} names band {max(bands)}; give files with that "
            "many bands, or name others"
        )


def _of_array(array: np.ndarray, path: Path, bands: Sequence[int] | None) -> BandFile:
    values = array_bands(array, path)
    return BandFile(chosen(values, bands, path), values.shape[2], None, (values.shape[1], values.shape[0]))


def _of_raster(path: Path, bands: Sequence[int] | None) -> BandFile:
    with opened_raster(path) as opened:
        # As text GTIFF_DIR:10:... comes before GTIFF_DIR:2:...
        pages = sorted(opened.subdatasets, key=lambda name: int(name.split(":")[1]))
        size = (opened.width, opened.height)
        if len(pages) < 2:
            if bands is not None:
                refuse_missing_band(opened.count, bands, path)
            wanted = list(bands or picture_bands(opened))
            values, inside = read_bands(opened, Area((0, opened.height), (0, opened.width)), wanted)
            known = None if inside.all() else inside
            return BandFile(np.moveaxis(values, 0, -1), opened.count, known, size)
        single = opened.count == 1
    if not single:
        raise ValueError(
            f"{path}: holds {len(pages)} pages of several bands; save the page to use as a file of its own"
        )
    return _of_pages(path, pages, bands)


def _of_pages(path: Path, pages: Sequence[str], bands: Sequence[int] | None) -> BandFile:
    """A TIFF with a page for each band, as arrays (band, height, width) are often saved."""
    if bands is not None:
        refuse_missing_band(len(pages), bands, path)
    planes: list[np.ndarray] = []
    known = np.ones((), dtype=bool)
    for band in bands or range(1, len(pages) + 1):
        with opened_raster(Path(pages[band - 1])) as opened:
            values, inside = read_bands(opened, Area((0, opened.height), (0, opened.width)), [1])
        if planes and values.shape[1:] != planes[0].shape:
            raise ValueError(f"{path}: its pages are of different sizes; save each picture as a file of its own")
        planes.append(values[0])
        known = known & inside
    size = (planes[0].shape[1], planes[0].shape[0])
    return BandFile(np.stack(planes, axis=-1), len(pages), None if known.all() else known, size)
