"""Reads masks: which values they hold, and how often."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from dinoseg.check.facts import MOST_VALUES, MaskFacts, count_values, mask_facts
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.masks import array_ids, mask_ids, pack_channels, read_mask
from dinoseg.data.pairs import Pair
from dinoseg.data.regions import read_region
from dinoseg.labels.settings import Kind
from dinoseg.system.files import refuse_special_file


def read_mask_facts(path: Path, kind: Kind, read: Callable[[], bytes] | None = None) -> MaskFacts:
    """Counts the values of a mask; errors become the ``error`` field.

    Args:
        read: gives its bytes, where ``path`` is but a name.
    """
    try:
        if read is None and path.suffix.lower() == ".npy":
            return _array_facts(load_array(path), path)
        upright = load_file(path, bytes_of(path) if read is None else read())
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, path))
    orientation, mode = upright.info["orientation"], upright.info["stored_mode"]
    stores: Kind = "colours" if mode in ("RGB", "RGBA", "CMYK", "YCbCr") else "ids"
    if mode in ("P", "PA"):
        stores = kind
    try:
        counts = _count(upright, stores, path)
    except ValueError as error:
        return MaskFacts(mode, upright.size, orientation, error=reason_of(error, path))
    return mask_facts(mode, upright.size, orientation, stores, counts)


def read_facts_inside(pair: Pair, kind: Kind, read: Callable[[], bytes] | None = None) -> MaskFacts:
    """The facts of a mask, of which only values inside the region of its image are counted; see ``read_mask_facts``."""
    assert pair.mask is not None and pair.region is not None
    whole = read_mask_facts(pair.mask, kind, read)
    if whole.error:
        return whole
    try:
        values = read_mask(pair.mask, whole.stores, None if read is None else read())
        inside = read_region(pair.region, pair.image, (values.shape[1], values.shape[0]))
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, pair.mask))
    counted = mask_facts(whole.mode, whole.size, whole.orientation, whole.stores, count_values(values[inside]))
    return replace(counted, outside=int(inside.size - inside.sum()))


def bytes_of(path: Path) -> bytes:
    refuse_special_file(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None


def reason_of(error: Exception, path: Path) -> str:
    """The message without what the finding says anyway: the path, and to replace the file."""
    if isinstance(error, OSError):
        return f"cannot be opened ({error.strerror or error})"
    return str(error).removeprefix(f"{path}: ").removesuffix("; replace or remove the file")


def _count(image: Image.Image, stores: Kind, path: Path) -> dict[int, int]:
    if stores == "colours":
        rgb = image.convert("RGBA").convert("RGB")
        few = rgb.getcolors(MOST_VALUES)
        if few is None:
            return count_values(pack_channels(np.asarray(rgb)))
        packed = ((c, n) for n, c in few if isinstance(c, tuple))
        return {c[0] << 16 | c[1] << 8 | c[2]: n for c, n in packed}
    if image.mode in ("L", "P") and "stored_range" not in image.info:
        return {value: count for value, count in enumerate(image.histogram()) if count}
    return count_values(mask_ids(image, "ids", path))


def _array_facts(array: np.ndarray, path: Path) -> MaskFacts:
    stores: Kind = "colours" if array.ndim == 3 and array.shape[2] in (3, 4) else "ids"
    values = array_ids(array, stores, path)
    return mask_facts("npy", (array.shape[1], array.shape[0]), 1, stores, count_values(values))
