"""Pictures: any mode and bit depth to RGB of 8 bits, upright."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageOps

from dinoseg.data.image_files import load_file

_NO_PICTURE_MODES = {"F": "of floating-point values", "LAB": "in the LAB colour space"}
_REMEDIES = {"F": "set datasets.range=low,high, the values that become black and white, "}
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
LARGEST_WHITE = 65535


class BrighterThanWhite(UserWarning):
    """A picture holds values outside those that its white level allows."""


def read_image(path: Path, white_level: int | None = None) -> Image.Image:
    """The image as RGB, 8 bit, upright (EXIF rotation applied); see ``to_rgb``.

    Raises:
        ValueError: missing, truncated or unreadable file, or a mode without a meaning as a picture (float).
    """
    return to_rgb(load_file(path), path, white_level)


def to_rgb(image: Image.Image, source: Path | str = "image", white_level: int | None = None) -> Image.Image:
    """Any picture mode to RGB of 8 bits.

    Grey becomes three equal channels, alpha is dropped, CMYK and palettes are converted. Of pictures with 16 bits black
    stays 0 and the white level becomes 255; files that say their white themselves (PGM) are taken at their word.

    Args:
        source: for messages.
        white_level: value that is white in pictures with 16 bits; 65535 when left out.

    Warns (``BrighterThanWhite``) of values above white or below 0, which are clamped; and of a picture that comes out
    dark where no white level is known.

    Raises:
        ValueError: an image of floats or without a pixel.
    """
    if 0 in image.size:
        raise ValueError(f"{source}: an image of {image.width} x {image.height} pixels (width x height) holds nothing")
    refuse_picture_mode(image.mode, source)
    values = sixteen_bit_values(image)
    if values is None:
        if image.mode in SIXTEEN_BIT_MODES:
            return _grey(scaled(np.asarray(image), LARGEST_WHITE))
        return image.convert("RGB")
    warn_of_range(values, source, white_level)
    if values.ndim == 3 and (white_level or LARGEST_WHITE) == LARGEST_WHITE:
        return image.convert("RGB")  # its high bytes
    pixels = scaled(values, white_level or LARGEST_WHITE)
    return Image.fromarray(pixels) if pixels.ndim == 3 else _grey(pixels)


def sixteen_bit_values(image: Image.Image) -> Integer[np.ndarray, "height width *channels"] | None:
    """The values of a picture with 16 bits a channel (or more) that does not say which of them is white, else None."""
    if "stored_range" in image.info:
        return None
    if "low_bytes" in image.info:
        high, low = (np.asarray(part.convert("RGB")).astype(np.uint16) for part in (image, image.info["low_bytes"]))
        return high << 8 | low
    if image.mode not in SIXTEEN_BIT_MODES:
        return None
    values = np.asarray(image)
    return values.view(np.uint32) if "unsigned" in image.info and values.dtype == np.int32 else values


def scaled(values: Integer[np.ndarray, "..."], white_level: int) -> UInt8[np.ndarray, "..."]:
    """Values 0..white level as 0..255, rounded down; those outside are clamped."""
    table = (np.minimum(np.arange(LARGEST_WHITE + 1), white_level) * 255 // white_level).astype(np.uint8)
    return table[np.clip(values, 0, LARGEST_WHITE)]


def white_level_of(brightest: int) -> int:
    """The smallest 2^n - 1, of 255 to 65535, that is no less than the brightest value."""
    return max(255, min(LARGEST_WHITE, (1 << brightest.bit_length()) - 1))


def comes_out_dark(brightest: int, white_level: int) -> bool:
    """Whether even the brightest value is below half of white."""
    return brightest <= white_level // 2


def refuse_picture_mode(mode: str, source: Path | str) -> None:
    """Raises ValueError, with ``source``, for a mode in which Pillow reads no picture that has a meaning here."""
    if mode in _NO_PICTURE_MODES:
        raise ValueError(
            f"{source}: a valid picture {_NO_PICTURE_MODES[mode]} (mode {mode}), which dinoseg does not read: "
            f"{_REMEDIES.get(mode, '')}{'or ' if mode in _REMEDIES else ''}save it with 8 or 16 bits, grey or RGB"
        )


def to_picture(image: object, source: Path | str = "image", white_level: int | None = None) -> Image.Image:
    """A PIL image of any mode, or an array, to RGB; an image that knows its EXIF rotation is turned upright.

    Args:
        image: an array is (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16.
        source: for messages.
        white_level: value that is white in uint16 and in PIL images of 16 bits; 65535 when left out.

    Warns as ``to_rgb`` does.

    Raises:
        ValueError: another type or shape, or a float image.
    """
    if isinstance(image, Image.Image):
        return to_rgb(ImageOps.exif_transpose(image), source, white_level)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{source}: a {type(image).__name__} is no image; give a PIL image or an array")
    shape_fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if not shape_fits or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{source}: an array of shape {image.shape} and type {image.dtype} is no image; "
            "give (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16; or set datasets.range, and datasets.bands for more"
        )
    if not image.size:
        raise ValueError(f"{source}: an array of shape {image.shape} holds no pixel")
    if image.dtype == np.uint16:
        colours = image[..., :3] if image.ndim == 3 else image
        warn_of_range(colours, source, white_level)
        image = scaled(colours, white_level or LARGEST_WHITE)
    return to_rgb(Image.fromarray(image), source)


def brightest_value(image: object) -> int | None:
    """The largest value of a picture with 16 bits, as a PIL image or an array; None for any other."""
    if isinstance(image, np.ndarray):
        values = (image[..., :3] if image.ndim == 3 else image) if image.dtype == np.uint16 else None
    else:
        values = sixteen_bit_values(image) if isinstance(image, Image.Image) else None
    return int(values.max()) if values is not None and values.size else None


def _grey(pixels: UInt8[np.ndarray, "height width"]) -> Image.Image:
    return Image.fromarray(pixels).convert("RGB")


def warn_of_range(values: Integer[np.ndarray, "..."], source: Path | str, white_level: int | None) -> None:
    """Warns (``BrighterThanWhite``) of values that white does not hold, and of a picture that comes out dark."""
    darkest, brightest = int(values.min()), int(values.max())
    white = LARGEST_WHITE if white_level is None else white_level
    if darkest < 0 or brightest > white:
        extreme = f"brightest value is {brightest}" if brightest > white else f"darkest value is {darkest}"
        remark = f"the {extreme}, and values outside 0..{white} (datasets.white_level) are clamped"
    elif white_level is None and comes_out_dark(brightest, white):
        remark = (
            f"the brightest value of this picture with 16 bits is {brightest}, and white is taken as {white}: it comes "
            f"out dark; datasets.white_level={white_level_of(brightest)} says what is white"
        )
    else:
        return
    warnings.warn(f"{source}: {remark}", BrighterThanWhite, stacklevel=4)
