"""Reads masks: which values they hold, and how often."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from dinoseg.check.facts import MOST_VALUES, ImageFacts, MaskFacts, count_values, mask_facts
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.masks import LabelMap, array_ids, mask_ids, pack_channels, turned_with_image
from dinoseg.data.pairs import Pair
from dinoseg.data.regions import read_region
from dinoseg.labels.settings import Kind
from dinoseg.system.files import refuse_special_file

Known = Bool[np.ndarray, "height width"]


@dataclass(frozen=True)
class _StoredMask:
    """A mask as its file holds it: an image turned upright, or an array."""

    path: Path
    pixels: Image.Image | np.ndarray
    stores: Kind

    def facts(self, counts: dict[int, int]) -> MaskFacts:
        """The facts where these are the pixels per value."""
        if isinstance(self.pixels, np.ndarray):
            return mask_facts("npy", (self.pixels.shape[1], self.pixels.shape[0]), 1, self.stores, counts)
        info = self.pixels.info
        facts = mask_facts(info["stored_mode"], self.pixels.size, info["orientation"], self.stores, counts)
        return replace(facts, palette=self._palette(counts)) if self.stores == "ids" else facts

    def _palette(self, counts: dict[int, int]) -> tuple[tuple[int, int], ...]:
        """The packed colour of each label id, where the file has a palette."""
        assert isinstance(self.pixels, Image.Image)
        colours = self.pixels.getpalette("RGB") if self.pixels.mode == "P" else None
        if colours is None:
            return ()
        packed = [red << 16 | green << 8 | blue for red, green, blue in zip(*[iter(colours)] * 3, strict=False)]
        return tuple((label_id, packed[label_id]) for label_id in sorted(counts) if 0 <= label_id < len(packed))

    def values(self) -> LabelMap:
        """Label ids or packed colours. Raises ValueError for what is neither."""
        if isinstance(self.pixels, np.ndarray):
            return array_ids(self.pixels, self.stores, self.path)
        return mask_ids(self.pixels, self.stores, self.path)

    def counts(self) -> dict[int, int]:
        """Pixels of every value. Raises ValueError as ``values``."""
        if isinstance(self.pixels, np.ndarray):
            return count_values(self.values())
        return _count(self.pixels, self.stores, self.path)


def read_mask_facts(path: Path, kind: Kind, read: Callable[[], bytes] | None = None) -> MaskFacts:
    """Counts the values of a mask; errors become the ``error`` field.

    Args:
        read: gives its bytes, where ``path`` is but a name.
    """
    try:
        mask = _stored_mask(path, kind, read)
        return mask.facts(mask.counts())
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, path))


def read_facts_inside(
    pair: Pair, image: ImageFacts, kind: Kind, read: Callable[[], bytes] | None = None, known: Known | None = None
) -> MaskFacts:
    """The facts of a mask, of which only values inside the region of its image are counted; see ``read_mask_facts``.

    Args:
        known: where the image holds data, which alone counts, too; None for everywhere.
    """
    assert pair.mask is not None
    try:
        mask = _stored_mask(pair.mask, kind, read)
        values = turned_with_image(mask.values(), image.size, image.stored_size, image.orientation)
        size = (values.shape[1], values.shape[0])
        if not image.error and size != image.size:
            return mask.facts(count_values(values))  # of another size than its image, which is said elsewhere
        inside = np.ones(values.shape, dtype=bool) if known is None else known
        if pair.region is not None:
            inside = inside & read_region(pair.region, pair.image, size)
    except (OSError, ValueError) as error:
        return MaskFacts(error=reason_of(error, pair.mask))
    return replace(mask.facts(count_values(values[inside])), outside=int(inside.size - inside.sum()))


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


def _stored_mask(path: Path, kind: Kind, read: Callable[[], bytes] | None) -> _StoredMask:
    """Raises OSError or ValueError for a file that cannot be read."""
    if read is None and path.suffix.lower() == ".npy":
        array = load_array(path)
        return _StoredMask(path, array, "colours" if array.ndim == 3 and array.shape[2] in (3, 4) else "ids")
    upright = load_file(path, bytes_of(path) if read is None else read())
    mode = upright.info["stored_mode"]
    if mode in ("P", "PA"):
        return _StoredMask(path, upright, kind)
    return _StoredMask(path, upright, "colours" if mode in ("RGB", "RGBA", "CMYK", "YCbCr") else "ids")


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
