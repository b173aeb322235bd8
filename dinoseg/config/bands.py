"""``datasets.bands`` and ``datasets.range``: which bands of a picture are read, which values become 0 and 1."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PERCENTILES = re.compile(r"p(\d+(?:\.\d+)?)\s*-\s*p(\d+(?:\.\d+)?)")
_FORMS = "give two values, -1,1 or [-1, 1], one such pair a band, or percentiles of the data set such as p1-p99"

# Low and high, of all bands or of each.
Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Percentiles:
    """A range that is measured: the values that so many percent of the pixels lie below, 0..100."""

    low: float
    high: float


def parse_range(value: Any) -> Ranges | Percentiles | None:
    """What ``datasets.range`` says: a pair for all bands, one a band, or percentiles; None where it is left out.

    Raises:
        ValueError: no such thing, or low is not below high; names the key.
    """
    if value is None:
        return None
    if isinstance(value, str):
        found = _PERCENTILES.fullmatch(value.strip())
        if found:
            return _percentiles(float(found[1]), float(found[2]), value)
        parts: Sequence[Any] = value.split(",")
    else:
        parts = value if isinstance(value, list | tuple) else ()
    nested = bool(parts) and all(isinstance(part, list | tuple) for part in parts)
    return tuple(_pair(part, value) for part in (parts if nested else [parts]))


def check_bands(bands: list[int] | None, ranges: Ranges | Percentiles | None) -> None:
    """Whether bands are there and differ, and each has a range where there is more than one.

    Raises:
        ValueError: they are not; names the key.
    """
    if bands is not None:
        if not bands:
            raise ValueError("datasets.bands is empty; name at least one band, [1], or leave it out")
        twice = next((band for index, band in enumerate(bands) if band in bands[:index]), None)
        if twice is not None:
            raise ValueError(f"datasets.bands={bands} names band {twice} twice; name each band once")
    if isinstance(ranges, tuple) and len(ranges) > 1 and len(ranges) != (0 if bands is None else len(bands)):
        expected = f"{len(bands)}, one a band of datasets.bands" if bands else "one: datasets.bands is left out"
        raise ValueError(f"datasets.range has {len(ranges)} pairs; give {expected}, or one for all")


def _percentiles(low: float, high: float, given: str) -> Percentiles:
    if high > 100:
        raise ValueError(f"datasets.range={given}: percentiles are 0 to 100; {_FORMS}")
    if low >= high:
        raise ValueError(f"datasets.range={given}: low is not below high; exchange the two")
    return Percentiles(low, high)


def _pair(part: Any, given: Any) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in part)
    except (TypeError, ValueError):
        raise ValueError(f"datasets.range={given}: no range; {_FORMS}") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"datasets.range={given}: not finite; {_FORMS}")
    if low >= high:
        raise ValueError(f"datasets.range={given}: low is not below high ({low:g} and {high:g}); exchange the two")
    return low, high
