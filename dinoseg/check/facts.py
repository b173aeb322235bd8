"""What the checks need to know of each image and mask, remembered between runs."""

from dataclasses import dataclass

import numpy as np

from dinoseg.check.band_measures import BandFacts
from dinoseg.data.pairs import Pair
from dinoseg.labels.settings import Kind

# A mask with more values than this is no mask (a photograph, blurred colours); the rarest are counted, not listed.
MOST_VALUES = 4096


@dataclass(frozen=True)
class ImageFacts:
    """What the checks need to know of an image file.

    Attributes:
        mode: Pillow's mode ("RGB", "L", ...).
        size: (width, height), upright; ``stored_size`` before the EXIF rotation, ``orientation`` its tag (1: none).
        digest: hash of the file's bytes.
        brightest: largest value of a picture with 16 bits that does not say which is white; None for others.
        drops_channels: it has an alpha channel or further bands, which are not used.
        count: bands of the file, ``bands`` what was measured of those that are read, ``no_data`` pixels without data in
            them; where values of bands are read. ``dtype``: type of the values, there, and where a picture is of
            floating-point values; ``extremes``: the least and the largest finite one, of these.
        error: why it cannot be read; the other fields are empty then.
    """

    mode: str = ""
    size: tuple[int, int] = (0, 0)
    stored_size: tuple[int, int] = (0, 0)
    orientation: int = 1
    digest: str = ""
    brightest: int | None = None
    drops_channels: bool = False
    count: int = 0
    bands: tuple[BandFacts, ...] = ()
    no_data: int = 0
    dtype: str = ""
    extremes: tuple[float, float] | None = None
    error: str | None = None


@dataclass(frozen=True)
class MaskFacts:
    """What the checks need to know of a mask file.

    Attributes:
        mode: Pillow's mode, or ``npy``.
        size: (width, height), upright; ``orientation`` the file's own EXIF tag (1: none).
        stores: whether its values are label ids or packed colours; a palette mask is whichever was asked for.
        counts: pixels per value, the most frequent ``MOST_VALUES``; ``distinct`` is how many values there are.
        equal_channels: an RGB mask that is really grey.
        palette: the colour, packed, of each label id among the counts; where a palette mask stores label ids.
        outside: pixels outside the region of the image, or (of a tile) without data; they are not among the counts.
        error: why it cannot be read; the other fields are empty then.
    """

    mode: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    stores: Kind = "ids"
    counts: tuple[tuple[int, int], ...] = ()
    distinct: int = 0
    equal_channels: bool = False
    palette: tuple[tuple[int, int], ...] = ()
    outside: int = 0
    error: str | None = None


@dataclass(frozen=True)
class PairFacts:
    """What was read of a pair."""

    pair: Pair
    image: ImageFacts
    mask: MaskFacts


def is_plain(values: np.ndarray) -> bool:
    """Whether there is no difference between values, but for those that are no numbers."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return not values.size or bool(values.min() == values.max())


def count_values(values: np.ndarray) -> dict[int, int]:
    """Pixels of every value."""
    flat = values.reshape(-1)
    if flat.size and flat.min() >= 0 and flat.max() < 1 << 16:
        counts = np.bincount(flat)
        present = np.flatnonzero(counts)
        return dict(zip(present.tolist(), counts[present].tolist(), strict=True))
    present, counts = np.unique(flat, return_counts=True)
    return dict(zip(present.tolist(), counts.tolist(), strict=True))


def mask_facts(mode: str, size: tuple[int, int], orientation: int, stores: str, counts: dict[int, int]) -> MaskFacts:
    """The facts of a mask of which every value is counted."""
    most = sorted(counts.items(), key=lambda entry: -entry[1])[:MOST_VALUES]
    equal = stores == "colours" and all(v >> 16 == (v >> 8 & 255) == (v & 255) for v in counts)
    kind: Kind = "colours" if stores == "colours" else "ids"
    return MaskFacts(mode, size, orientation, kind, tuple(sorted(most)), len(counts), equal)
