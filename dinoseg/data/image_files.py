"""Image and array files, opened and decoded with what Pillow does to them undone or refused."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile, StubImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dinoseg.data.foreign_files import by_bands, foreign_kind, unreadable
from dinoseg.system.array_files import read_array_file
from dinoseg.system.files import refuse_special_file

ORIENTATION_TAG = 0x0112
_SUBFILE_TYPE_TAG = 0x00FE
_PLANAR_TAG = 0x011C
_BITS_TAG = 0x0102
# Formats in which further frames are further pictures. (A JPEG's are previews, and a WebP still has one.)
_PAGED_FORMATS = ("TIFF", "GIF", "PNG", "WEBP")
_SIXTEEN_BIT_COLOURS = re.compile(r"(RGB[AX]?|LA|R);16[BLN]")
_UNSIGNED = ("I;32N", "I;32", "I;32B", "I;32L")
_REDUCED_COPY = 1  # bit of TIFF's NewSubfileType: a smaller copy of another page


@dataclass(frozen=True)
class StoredRange:
    """Grey values that Pillow stretched on reading: right for pictures, wrong for label ids.

    Attributes:
        stored: the file's largest value.
        read: what it became.
        inverted: 0 became the largest (bitmaps in which 1 is black).
    """

    stored: int
    read: int
    inverted: bool = False

    def undo(self, ids: Int32[np.ndarray, "..."]) -> Int32[np.ndarray, "..."]:
        """The values as stored. Stretching rounds to the nearest, so this is exact."""
        if self.inverted:
            ids = self.read - ids
        return ((ids.astype(np.int64) * self.stored + self.read // 2) // self.read).astype(np.int32)


def refuse_pages(image: Image.Image, path: Path) -> None:
    """Raises ValueError for an image (opened, not loaded) of several pages: all but one would be lost."""
    pages = _pages(image)
    if pages > 1:
        raise ValueError(
            f"{path}: holds {pages} pages, of which one would be read; save the page to use as a file of its own "
            "(masks with one page a class: write the class's label id into one map)"
        )


def load_file(path: Path, data: bytes | None = None, *, reduced: bool = False) -> Image.Image:
    """Opens and fully decodes an image file (or ``data``, its bytes) and turns it upright, as its EXIF tag says.

    Its ``info`` says how it was stored: ``orientation``, ``stored_size`` (``stored_geometry``), ``stored_mode``;
    ``stored_range`` of grey values that were stretched; ``low_bytes``, an image of its own, of a picture with several
    channels of 16 bits, whose high bytes alone fit a Pillow image; ``unsigned`` where 32-bit values have no sign;
    ``dropped`` where channels of the file are in no image of Pillow's.

    Args:
        reduced: a JPEG at an eighth of its size, which still reads every byte.

    Raises:
        ValueError: it is missing, truncated, no image, or an image of a kind that is not read.
    """

    def open_file() -> Any:
        return path.open("rb") if data is None else io.BytesIO(data)

    refuse_special_file(path)
    with _errors_in_words(path):
        # An open file rather than a path: Pillow maps uncompressed files given by path into memory, and scrambles TIFFs
        # with a rotation tag that way (seen in 13.0).
        with open_file() as file, Image.open(file) as image:
            if isinstance(image, StubImageFile):
                raise UnidentifiedImageError  # known by name alone
            _read_planes_whole(image, path)
            raw_mode = _raw_mode(image)
            _refuse_beyond_largest(image, path, open_file)
            stored = _as_stored(image, raw_mode)
            refuse_pages(image, path)
            if reduced:
                width, height = stored["stored_size"]
                image.draft("L", (width // 8 or 1, height // 8 or 1))
            image.load()
        if _SIXTEEN_BIT_COLOURS.fullmatch(raw_mode):
            stored["low_bytes"] = _low_bytes(open_file)
        upright = ImageOps.exif_transpose(image)
    upright.info.update(stored)
    return upright


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file is a ValueError that names it."""
    try:
        yield
    except UnidentifiedImageError:
        kind = foreign_kind(path)
        reason = "not an image that can be read; replace or remove the file" if kind is None else kind
        raise ValueError(f"{path}: {reason}") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, Pillow's guard against files that fill "
            "the memory; a TIFF (in training with a TIFF for its mask) is read in parts with rasterio: pip install "
            f"'dinoseg[geo]'{_conversion(path)}; or cut the image into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS from "
            "Python if you trust the file"
        ) from None
    except MemoryError:
        raise ValueError(f"{path}: does not fit into memory; cut the image into tiles") from None
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise unreadable(path, error) from None


def _conversion(path: Path) -> str:
    """How a picture becomes a TIFF; empty for one that is."""
    return "" if path.suffix.lower() in (".tif", ".tiff") else f", then rio convert {path} {path.with_suffix('.tif')}"


def _as_stored(image: Image.Image, raw_mode: str) -> dict[str, Any]:
    """What Pillow forgets or changes on loading, of an image opened but not loaded; see ``load_file``."""
    stretched = _stored_range(image, raw_mode)
    # After that: Pillow loads a PNG file to find its orientation.
    orientation, size = stored_geometry(image)
    stored: dict[str, Any] = {"orientation": orientation, "stored_size": size, "stored_mode": image.mode}
    if stretched is not None:
        stored["stored_range"] = stretched
    if raw_mode in _UNSIGNED:
        stored["unsigned"] = True
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "X" in raw_mode:
        stored["dropped"] = True
    return stored


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of how a file opened but not loaded lays out its values; empty where it has none."""
    tile = image.tile[0] if isinstance(image, ImageFile) and image.tile else None
    arguments = () if tile is None else _arguments(tile)
    return str(arguments[0]) if arguments else ""


def _arguments(tile: Any) -> tuple[Any, ...]:
    """What Pillow tells the decoder of a tile; the name of the layout comes first."""
    return tile.args if isinstance(tile.args, tuple) else (tile.args,)


def _read_planes_whole(image: Image.Image, path: Path) -> None:
    """Lets Pillow read both bytes of a TIFF with a plane of 16 bits for each channel, opened and not loaded.

    Of uncompressed ones it takes each byte for a pixel (seen in 13.0). Raises ValueError for compressed ones, of which
    it gives the high bytes alone.
    """
    planes = isinstance(image, TiffImageFile) and image.tag_v2.get(_PLANAR_TAG, 1) == 2
    if not planes or not isinstance(image, TiffImageFile) or max(image.tag_v2.get(_BITS_TAG, (1,))) != 16:
        return
    if any(tile.codec_name != "raw" for tile in image.tile):
        raise ValueError(
            f"{path}: a valid TIFF with compressed planes of 16 bits, which dinoseg does not read: save it with the "
            f"channels of a pixel side by side (planar configuration 1), or uncompressed; {by_bands()}"
        )
    order = "L" if image.tag_v2.prefix == b"II" else "B"
    arguments = [_arguments(tile) for tile in image.tile]
    image.tile = [
        tile._replace(args=(f"{first};16{order}", *rest))
        for tile, (first, *rest) in zip(image.tile, arguments, strict=True)
    ]


def _low_bytes(open_file: Callable[[], Any]) -> Image.Image:
    """The lower 8 bits of every channel: what Pillow gives when it is told the other order of bytes."""
    own, other = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    swapped = {own: other, other: own, "N": other}
    with open_file() as file, Image.open(file) as image:
        assert isinstance(image, ImageFile)
        _read_planes_whole(image, Path())
        if _raw_mode(image).startswith("LA"):
            # Pillow knows one order of bytes here: read as four channels of 8 bits, the second is the low byte of grey.
            image.tile = [tile._replace(args="RGBA") for tile in image.tile]
            image.load()
            return ImageOps.exif_transpose(image.getchannel(1))
        tiles = []
        for tile in image.tile:
            arguments = _arguments(tile)
            raw_mode = str(arguments[0])
            changed = (raw_mode[:-1] + swapped[raw_mode[-1]], *arguments[1:])
            tiles.append(tile._replace(args=changed if isinstance(tile.args, tuple) else changed[0]))
        image.tile = tiles
        image.load()
    return ImageOps.exif_transpose(image)


def _refuse_beyond_largest(image: Image.Image, path: Path, open_file: Callable[[], Any]) -> None:
    """Raises ValueError for a PGM or PPM file with a value above the largest that its header allows.

    Pillow takes such values as the largest.
    """
    tile = image.tile[0] if isinstance(image, ImageFile) and image.tile else None
    if tile is None or tile.codec_name not in ("ppm", "ppm_plain") or not isinstance(tile.args, tuple):
        return
    largest = int(tile.args[-1])
    with open_file() as file:
        file.seek(tile.offset)
        body = file.read()
    if tile.codec_name == "ppm":
        values = np.frombuffer(body[: len(body) // 2 * 2] if largest > 255 else body, "u1" if largest < 256 else ">u2")
    else:
        # A text that holds other than numbers is Pillow's to refuse.
        tokens = re.sub(rb"#[^\r\n]*", b" ", body).split()
        values = np.array([int(token) for token in tokens if token.isdigit() and len(token) < 10], dtype=np.int64)
    values = values[: image.width * image.height * len(image.getbands())]
    found = int(values.max()) if values.size else 0
    if found > largest:
        raise ValueError(
            f"{path}: damaged: a pixel holds {found}, above the file's maxval {largest}; replace or remove the file"
        )


def stored_geometry(image: Image.Image) -> tuple[int, tuple[int, int]]:
    """EXIF orientation (1: none) and (width, height) as stored in the file, of an image opened but not loaded."""
    width, height = image.size
    if isinstance(image, TiffImageFile):
        # Pillow turns TIFF files while loading and gives the size after that from the start. Asking getexif() before
        # loading would keep a copy of the tag, by which exif_transpose turned the image once more.
        orientation = int(image.tag_v2.get(ORIENTATION_TAG, 1))
        swapped = orientation in (5, 6, 7, 8)
    else:
        orientation, swapped = int(image.getexif().get(ORIENTATION_TAG, 1)), False
    return orientation, (height, width) if swapped else (width, height)


def read_geometry(path: Path, data: bytes | None = None) -> tuple[int, tuple[int, int]]:
    """``stored_geometry`` of an image file (or ``data``, its bytes), from its header; pixels are not decoded.

    Raises:
        ValueError: it is missing, or no image.
    """
    refuse_special_file(path)
    with (
        _errors_in_words(path),
        path.open("rb") if data is None else io.BytesIO(data) as file,
        Image.open(file) as image,
    ):
        if isinstance(image, StubImageFile):
            raise UnidentifiedImageError  # known by name alone
        return stored_geometry(image)


def load_array(path: Path) -> np.ndarray:
    """A .npy file.

    Raises:
        ValueError: it is missing, damaged, larger than it can be, or holds Python objects (which could run code).
    """
    refuse_special_file(path)
    return read_array_file(path, "replace or remove the file")


def _stored_range(image: Image.Image, raw_mode: str) -> StoredRange | None:
    """How Pillow will stretch the grey values of an image opened but not loaded; None where it will not."""
    tile = image.tile[0] if isinstance(image, ImageFile) and image.tile else None
    if image.format == "PPM" and tile is not None:
        if image.mode == "1":
            return StoredRange(1, 1, inverted=True)
        if tile.codec_name in ("ppm", "ppm_plain") and isinstance(tile.args, tuple):
            read = 65535 if image.mode == "I" else 255
            return None if tile.args[-1] == read else StoredRange(int(tile.args[-1]), read)
        return None
    largest = {"L;2": 3, "L;4": 15}.get(raw_mode)
    return None if largest is None else StoredRange(largest, 255)


def _pages(image: Image.Image) -> int:
    """Pages of an image opened but not loaded; smaller copies within a TIFF are none."""
    if image.format not in _PAGED_FORMATS:
        return 1
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1 or not isinstance(image, TiffImageFile):
        return frames
    pages = 0
    for frame in range(frames):
        image.seek(frame)
        pages += not int(image.tag_v2.get(_SUBFILE_TYPE_TAG, 0)) & _REDUCED_COPY
    image.seek(0)
    return pages
