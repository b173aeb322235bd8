"""Reading images and masks from files, whatever their format and bit depth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dinoseg.data.folders import Pair
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind

LabelMap = Int32[np.ndarray, "height width"]

ORIENTATION_TAG = 0x0112
_SUBFILE_TYPE_TAG = 0x00FE
_NO_PICTURE_MODES = ("F", "LAB")
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
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

    def undo(self, ids: LabelMap) -> LabelMap:
        """The values as stored. Stretching rounds to the nearest, so this is exact."""
        if self.inverted:
            ids = self.read - ids
        return ((ids.astype(np.int64) * self.stored + self.read // 2) // self.read).astype(np.int32)


def read_image(path: Path) -> Image.Image:
    """The image as RGB, 8 bit, upright (EXIF rotation applied).

    Grey becomes three equal channels, 16-bit grey is divided by 257, alpha is dropped, CMYK and palettes are converted.

    Raises:
        ValueError: missing, truncated or unreadable file, or a mode without a meaning as a picture (float).
    """
    return to_rgb(ImageOps.exif_transpose(load_file(path)), path)


def to_rgb(image: Image.Image, source: Path | str = "image") -> Image.Image:
    """Any picture mode to RGB; ``source`` is for the error message. Raises ValueError for float images."""
    if image.mode in SIXTEEN_BIT_MODES:
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    refuse_picture_mode(image.mode, source)
    return image.convert("RGB")


def refuse_picture_mode(mode: str, source: Path | str) -> None:
    """Raises ValueError, with ``source``, for a mode in which Pillow reads no picture that has a meaning here."""
    if mode in _NO_PICTURE_MODES:
        raise ValueError(f"{source}: image mode {mode} is not supported; convert it to 8- or 16-bit grey or RGB")


def refuse_pages(image: Image.Image, path: Path) -> None:
    """Raises ValueError for an image (opened, not loaded) of several pages: all but one would be lost."""
    pages = _pages(image)
    if pages > 1:
        raise ValueError(
            f"{path}: holds {pages} pages, of which one would be read; save the page to use as a file of its own "
            "(masks with one page a class: write the class's label id into one map)"
        )


def to_picture(image: object, source: Path | str = "image") -> Image.Image:
    """A PIL image of any mode, or an array, to RGB; an image that knows its EXIF rotation is turned upright.

    Args:
        image: an array is (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16.
        source: for the error message.

    Raises:
        ValueError: another type or shape, or a float image.
    """
    if isinstance(image, Image.Image):
        return to_rgb(ImageOps.exif_transpose(image), source)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{source}: a {type(image).__name__} is no image; give a PIL image or an array")
    shape_fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if not shape_fits or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{source}: an array of shape {image.shape} and type {image.dtype} is no image; "
            "give (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16"
        )
    if image.dtype == np.uint16 and image.ndim == 3:
        image = (image // 257).astype(np.uint8)
    return to_rgb(Image.fromarray(image), source)


def read_mask(path: Path, kind: Kind = "ids") -> LabelMap:
    """The label ids of a mask file, (height, width) int32, upright; colours packed as 0xRRGGBB for kind ``colours``.

    Raises:
        ValueError: missing or damaged file; colours where label ids are declared or the other way round.
    """
    if path.suffix.lower() == ".npy":
        return array_ids(load_array(path), kind, path)
    return mask_ids(ImageOps.exif_transpose(load_file(path)), kind, path)


def read_pair(pair: Pair, kind: Kind = "ids") -> tuple[Image.Image, LabelMap]:
    """Image and mask of the same height and width, both upright.

    A mask without an EXIF tag of its own that has the size of the image as stored is rotated as the image's tag says.

    Raises:
        ValueError: either file is bad (see ``read_image`` and ``read_mask``), or their sizes differ.
    """
    if pair.mask is None:
        raise ValueError(f"{pair.image}: has no mask")
    stored = load_file(pair.image)
    image = to_rgb(ImageOps.exif_transpose(stored), pair.image)
    mask = read_mask(pair.mask, kind)
    size = (mask.shape[1], mask.shape[0])
    if size == stored.info["stored_size"] != image.size:
        mask = rotate_like(mask, stored.info["orientation"])
    elif size != image.size:
        raise ValueError(size_mismatch(pair.image, image.size, pair.mask, size))
    return image, mask


def size_mismatch(image: Path, image_size: tuple[int, int], mask: Path, mask_size: tuple[int, int]) -> str:
    """The message for sizes (width, height) that differ."""
    return (
        f"{image} is {image_size[0]} x {image_size[1]} but its mask {mask} is {mask_size[0]} x {mask_size[1]} "
        "(width x height); resize one of them, a mask by nearest neighbour only"
    )


def rotate_like(mask: LabelMap, orientation: int) -> Int32[np.ndarray, "turned_height turned_width"]:
    """Turns a mask as the EXIF orientation (1..8) turns its image."""
    turned = {
        2: mask[:, ::-1],
        3: mask[::-1, ::-1],
        4: mask[::-1],
        5: mask.T,
        6: mask.T[:, ::-1],
        7: mask.T[::-1, ::-1],
        8: mask.T[::-1],
    }.get(orientation, mask)
    return np.ascontiguousarray(turned)


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
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: truncated or damaged array ({error}); replace or remove the file") from None


def mask_ids(image: Image.Image, kind: Kind, path: Path) -> LabelMap:
    """Label ids of a decoded mask; see ``read_mask``, which reads the file first."""
    if kind == "colours":
        return _packed_colours(image, path)
    if image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
        raise ValueError(_colours_found(np.asarray(image.convert("RGB")), path))
    if image.mode in ("LA", "PA", "La"):
        image = image.getchannel(0)
    if image.mode not in ("1", "L", "P", "F", *SIXTEEN_BIT_MODES):
        raise ValueError(f"{path}: mask mode {image.mode} holds no label ids; save it as 8- or 16-bit grey PNG")
    ids = exact_ids(np.asarray(image), path)
    return image.info["stored_range"].undo(ids) if "stored_range" in image.info else ids


def array_ids(array: np.ndarray, kind: Kind, path: Path) -> LabelMap:
    """Label ids of a mask that is an array; see ``read_mask``. ``path`` is for the error messages."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[2] in (3, 4):
        channels = exact_ids(array[..., :3], path)
        if channels.size and not 0 <= channels.min() <= channels.max() <= 255:
            raise ValueError(f"{path}: three channels with values outside 0..255 are no colours; save label ids (H, W)")
        if kind == "ids":
            raise ValueError(_colours_found(channels, path))
        return pack_channels(channels)
    if array.ndim != 2:
        raise ValueError(f"{path}: array of shape {array.shape}; expected label ids of shape (height, width)")
    if kind == "colours":
        raise ValueError(f"{path}: one channel where datasets.classes declares colours; name label ids instead")
    return exact_ids(array, path)


def pack_channels(rgb: Integer[np.ndarray, "height width 3"]) -> LabelMap:
    """Channels 0..255 to packed colours 0xRRGGBB."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def mask_ignored_pixels(
    class_map: Integer[np.ndarray, "height width"], mask: Integer[np.ndarray, "height width"], label_space: LabelSpace
) -> Integer[np.ndarray, "height width"]:
    """The class map with the ignore index wherever the mask (label ids) is ignored."""
    ignored = label_space.encode(mask) == label_space.ignore_index
    return np.where(ignored, label_space.ignore_index, class_map).astype(class_map.dtype)


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


def _packed_colours(image: Image.Image, path: Path) -> LabelMap:
    if image.mode not in ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr"):
        raise ValueError(
            f"{path}: grey mask (mode {image.mode}) where datasets.classes declares colours; "
            "name label ids in datasets.classes ({0: name, 1: name}), or give the colour masks"
        )
    return pack_channels(np.asarray(image.convert("RGBA").convert("RGB")))


def _colours_found(rgb: np.ndarray, path: Path) -> str:
    if (rgb == rgb[..., :1]).all():
        values = np.unique(rgb[..., 0])[:8].tolist()
        return (
            f"{path}: an RGB mask whose three channels are equal (values {values}): a grey mask saved as RGB; "
            "save it with one channel, or declare colours such as datasets.classes={'#000000': background}"
        )
    colours = np.unique(pack_channels(rgb))
    listed = ", ".join(f"'#{colour:06x}': name_{index}" for index, colour in enumerate(colours[:8].tolist()))
    return (
        f"{path}: an RGB mask with {len(colours)} colours where label ids are expected; "
        f"declare its colours, datasets.classes={{{listed}}}"
    )


def exact_ids(values: np.ndarray, path: Path) -> Int32[np.ndarray, "..."]:
    """Values of any number type as int32, unchanged; the one conversion that every mask goes through.

    Raises:
        ValueError: a value that is no whole number, or does not fit int32; names file and value.
    """
    if values.dtype == np.int32:
        return values
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path}: values of type {values.dtype}; label ids are whole numbers")
    if values.dtype.kind == "f":
        fractional = ~(np.isfinite(values) & (values == np.floor(values)))
        if fractional.any():
            raise ValueError(
                f"{path}: holds {values[fractional][0]:g}, which is no label id; save whole numbers (and an id of its "
                "own for pixels without a label)"
            )
    limits = np.iinfo(np.int32)
    for value in (values.min().item(), values.max().item()) if values.size else ():
        if not limits.min <= value <= limits.max:
            raise ValueError(f"{path}: label id {value:.0f} does not fit {limits.min}..{limits.max}; use smaller ids")
    return values.astype(np.int32)
