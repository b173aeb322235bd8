"""Image and array files, opened and decoded with what Pillow does to them undone or refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

ORIENTATION_TAG = 0x0112
_SUBFILE_TYPE_TAG = 0x00FE
# Formats in which further frames are further pictures. (A JPEG's are previews, and a WebP still has one.)
_PAGED_FORMATS = ("TIFF", "GIF", "PNG", "WEBP")
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


def load_file(path: Path, source: Any = None) -> Image.Image:
    """Opens and fully decodes an image file (or ``source``, its bytes as a file object).

    It may still have to be rotated by EXIF; ``info`` has its ``orientation`` and ``stored_size`` (``stored_geometry``).

    Raises:
        ValueError: it is missing, truncated or no image.
    """
    try:
        # An open file rather than a path: Pillow maps uncompressed files given by path into memory, and scrambles TIFFs
        # with a rotation tag that way (seen in 13.0).
        with source or path.open("rb") as file, Image.open(file) as image:
            stored_range, (orientation, size) = _stored_range(image), stored_geometry(image)
            refuse_pages(image, path)
            image.load()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder, not an image file; give the files in it") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image that can be read; replace or remove the file") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, Pillow's guard against files that fill "
            "the memory; cut the image into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS from Python if you trust it"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise ValueError(f"{path}: truncated or damaged ({error}); replace or remove the file") from None
    image.info |= {"orientation": orientation, "stored_size": size}
    if stored_range is not None:
        image.info["stored_range"] = stored_range
    return image


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


def load_array(path: Path) -> np.ndarray:
    """A .npy file. Raises ValueError when it is missing, damaged or holds Python objects (which could run code)."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: truncated or damaged array ({error}); replace or remove the file") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: an archive of arrays under the name of one; save the array alone with numpy.save")
    return array


def _stored_range(image: Image.Image) -> StoredRange | None:
    """How Pillow will stretch the grey values of an image opened but not loaded; None where it will not."""
    tile = image.tile[0] if isinstance(image, ImageFile) and image.tile else None
    arguments = () if tile is None else tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if image.format == "PPM" and tile is not None:
        if image.mode == "1":
            return StoredRange(1, 1, inverted=True)
        if tile.codec_name in ("ppm", "ppm_plain") and len(arguments) == 2:
            read = 255 if image.mode == "L" else 65535
            return None if arguments[1] == read else StoredRange(int(arguments[1]), read)
        return None
    largest = {"L;2": 3, "L;4": 15}.get(str(arguments[0]) if arguments else "")
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
