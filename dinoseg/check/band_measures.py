"""What is measured of the bands of one picture, small enough to be remembered, and put together over a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Num

# Shares of the pixels, fine at both ends, where ranges are cut.
LEVELS = (0, 0.001, 0.005, 0.01, 0.02, 0.05, *(share / 20 for share in range(2, 19)), 0.95, 0.98, 0.99, 0.995, 0.999, 1)
# Pixels of a band that quantiles are taken of; moments and extremes are of all.
_MOST_PIXELS = 1 << 20
# Values at which the shares of a whole data set are told.
_MOST_KNOTS = 2048


@dataclass(frozen=True)
class BandFacts:
    """Of one band of one picture, in the units of the file.

    Attributes:
        pixels: that hold data and lie within the region.
        mean, variance: of their values.
        quantiles: at ``LEVELS``; the first and the last are the extremes.
    """

    pixels: int = 0
    mean: float = 0.0
    variance: float = 0.0
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True)
class BandProfile:
    """Of one band of a data set, or of several as one.

    Attributes:
        parts: of each picture, without those that hold nothing; at least one.
    """

    parts: tuple[BandFacts, ...]

    @property
    def low(self) -> float:
        """The least value."""
        return min(part.quantiles[0] for part in self.parts)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(part.quantiles[-1] for part in self.parts)

    @cached_property
    def mean(self) -> float:
        """Over all pixels."""
        return float(np.average([part.mean for part in self.parts], weights=self._pixels))

    @property
    def std(self) -> float:
        """Standard deviation over all pixels."""
        # Within pictures, and between their means.
        spread = [part.variance + (part.mean - self.mean) ** 2 for part in self.parts]
        return float(np.sqrt(np.average(spread, weights=self._pixels)))

    def percentile(self, percent: float) -> float:
        """The value that so many percent of the pixels lie below: exact for one picture at the shares of ``LEVELS``."""
        knots, shares = self._shares
        return float(np.interp(percent / 100, shares, knots))

    def moments_within(self, low: float, high: float) -> tuple[float, float]:
        """Mean and standard deviation of 0..1 values when low becomes 0, high becomes 1 and what lies beyond is cut.

        Exact where nothing is cut, else told from the quantiles.
        """
        width = high - low
        if low <= self.low and self.high <= high:
            return (self.mean - low) / width, self.std / width
        knots, shares = self._shares
        grid = (np.arange(4096) + 0.5) / 4096
        values = ((np.interp(grid, shares, knots) - low) / width).clip(0, 1)
        return float(values.mean()), float(values.std())

    @property
    def _pixels(self) -> list[int]:
        return [part.pixels for part in self.parts]

    @cached_property
    def _shares(self) -> tuple[Float[np.ndarray, " knots"], Float[np.ndarray, " knots"]]:
        """Values in rising order, and the share of all pixels below each."""
        knots = np.unique([value for part in self.parts for value in part.quantiles])
        if len(knots) > _MOST_KNOTS:
            knots = knots[np.linspace(0, len(knots) - 1, _MOST_KNOTS).round().astype(int)]
        below = np.zeros(len(knots))
        for part in self.parts:
            quantiles, levels = _rising(part.quantiles)
            below += part.pixels * np.interp(knots, quantiles, levels, left=0, right=1)
        shares = below / sum(self._pixels)
        # Where no pixel lies between two values, the share stands still.
        return knots, np.maximum.accumulate(shares)


def measure_bands(
    values: Num[np.ndarray, "height width bands"], inside: Bool[np.ndarray, "height width"] | None
) -> tuple[BandFacts, ...]:
    """The facts of each band, of pixels inside alone."""
    flat = values.reshape(-1, values.shape[2]) if inside is None else values[inside]
    return tuple(_measure(flat[:, band]) for band in range(values.shape[2]))


def profile(parts: Sequence[BandFacts]) -> BandProfile | None:
    """Of those that hold something; None where none does."""
    filled = tuple(part for part in parts if part.pixels)
    return BandProfile(filled) if filled else None


def _measure(values: Num[np.ndarray, " pixels"]) -> BandFacts:
    if not len(values):
        return BandFacts()
    some = values[:: -(-len(values) // _MOST_PIXELS)].astype(np.float64)
    quantiles = np.quantile(some, LEVELS).tolist()
    quantiles[0], quantiles[-1] = float(values.min()), float(values.max())
    wide = values.astype(np.float64)
    return BandFacts(len(values), float(wide.mean()), float(wide.var()), tuple(quantiles))


def _rising(quantiles: Sequence[float]) -> tuple[Float[np.ndarray, " values"], Float[np.ndarray, " values"]]:
    """Each value once, with the largest share that it has."""
    values, last = np.unique(np.asarray(quantiles)[::-1], return_index=True)
    return values, np.asarray(LEVELS, dtype=np.float64)[::-1][last]
