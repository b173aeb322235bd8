"""Masks: any format and bit depth to label ids, exactly."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, Integer
from PIL import Image

from dinoseg.data.bands import Picture
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm
from dinoseg.data.pictures import SIXTEEN_BIT_MODES

# Stood here in version 0.1, and is still imported from here.
from dinoseg.data.pictures import read_image as read_image
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind

LabelMap = Int32[np.ndarray, "height width"]


def read_mask(path: Path, kind: Kind = "ids", data: bytes | None = None) -> LabelMap:
    """The label ids of a mask file, (height, width) int32, upright; colours packed as 0xRRGGBB for kind ``colours``.

    Args:
        data: its bytes, where ``path`` is but a name.

    Raises:
        ValueError: missing or damaged file; colours where label ids are declared or the other way round.
    """
    if data is None and path.suffix.lower() == ".npy":
        return array_ids(load_array(path), kind, path)
    return mask_ids(load_file(path, data), kind, path)


def read_pair(pair: Pair, kind: Kind = "ids", form: PictureForm = PLAIN_FORM) -> tuple[Picture, LabelMap]:
    """Image and mask of the same height and width, both upright.

    A mask without an EXIF tag of its own that has the size of the image as stored is rotated as the image's tag says.

    Args:
        form: of the image.

    Raises:
        ValueError: either file is bad (see ``read_image`` and ``read_mask``), or their sizes differ.
    """
    if pair.mask is None:
        raise ValueError(f"{pair.image}: has no mask")
    loaded = form.load(pair.image)
    return loaded.picture, upright_mask(read_mask(pair.mask, kind), (loaded.orientation, loaded.stored_size), pair)


def upright_mask(
    mask: LabelMap, geometry: tuple[int, tuple[int, int]], pair: Pair
) -> Int32[np.ndarray, "turned_height turned_width"]:
    """A mask of the size of its image: one of the size that the image is stored with is turned as its EXIF tag says.

    Args:
        geometry: of the image, as ``read_geometry`` gives it.

    Raises:
        ValueError: it has another size.
    """
    orientation, stored = geometry
    wanted = stored[::-1] if orientation in (5, 6, 7, 8) else stored
    turned = turned_with_image(mask, wanted, stored, orientation)
    if turned.shape[::-1] != wanted:
        assert pair.mask is not None
        raise ValueError(size_mismatch(pair.image, wanted, pair.mask, (mask.shape[1], mask.shape[0])))
    return turned


def turned_with_image(
    mask: LabelMap, size: tuple[int, int], stored_size: tuple[int, int], orientation: int
) -> Int32[np.ndarray, "turned_height turned_width"]:
    """A mask of the size that its image is stored with, turned as the image's EXIF tag says; any other as it is.

    Args:
        size, stored_size: width and height of the image, upright and before its rotation; ``orientation`` its tag.
    """
    return rotate_like(mask, orientation) if mask.shape[::-1] == stored_size != size else mask


def size_mismatch(
    image: Path, image_size: tuple[int, int], mask: Path, mask_size: tuple[int, int], noun: str = "mask"
) -> str:
    """The message for sizes (width, height) that differ."""
    return (
        f"{image} is {image_size[0]} x {image_size[1]} but its {noun} {mask} is {mask_size[0]} x {mask_size[1]} "
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
    values = np.asarray(image)
    ids = exact_ids(values.view(np.uint32) if "unsigned" in image.info and image.mode == "I" else values, path)
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
