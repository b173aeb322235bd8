"""Pictures: any mode and bit depth to RGB of 8 bits, upright."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dinoseg.data.image_files import load_file

_NO_PICTURE_MODES = ("F", "LAB")
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: Path) -> Image.Image:
    """The image as RGB, 8 bit, upright (EXIF rotation applied).

    Grey becomes three equal channels, 16-bit grey is divided by 257, alpha is dropped, CMYK and palettes are converted.

    Raises:
        ValueError: missing, truncated or unreadable file, or a mode without a meaning as a picture (float).
    """
    return to_rgb(ImageOps.exif_transpose(load_file(path)), path)


def to_rgb(image: Image.Image, source: Path | str = "image") -> Image.Image:
    """Any picture mode to RGB; ``source`` is for the error message. Raises ValueError for float images."""
    if 0 in image.size:
        raise ValueError(f"{source}: an image of {image.width} x {image.height} pixels (width x height) holds nothing")
    if image.mode in SIXTEEN_BIT_MODES:
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    refuse_picture_mode(image.mode, source)
    return image.convert("RGB")


def refuse_picture_mode(mode: str, source: Path | str) -> None:
    """Raises ValueError, with ``source``, for a mode in which Pillow reads no picture that has a meaning here."""
    if mode in _NO_PICTURE_MODES:
        raise ValueError(f"{source}: image mode {mode} is not supported; convert it to 8- or 16-bit grey or RGB")


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
    if not image.size:
        raise ValueError(f"{source}: an array of shape {image.shape} holds no pixel")
    return to_rgb(Image.fromarray(image), source)
