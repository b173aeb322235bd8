"""Whether images have an up: where in them each class lies, and whether that looks the same upside down.

How often each class covers each cell of a coarse grid is counted over half of the images, and over the other half. Two
halves of one data set differ by chance; a data set and its mirror image differ by more than that where up matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

_CELLS = 6
# Fewer say nothing: halves of four images.
LEAST_IMAGES = 8
# Of differences between mirror images over those between halves: above, up matters.
_BEYOND_CHANCE = 1.25
# And no less than this share of what lies there: chance is small where images are many.
_TOLERATED = 0.15


@dataclass(frozen=True)
class Positions:
    """Differences between where classes lie and where they lie otherwise, 0 (alike) to 1 (nowhere the same).

    Attributes:
        images: looked at.
        chance: between two halves of the images.
        upside_down: between the images and themselves upside down.
    """

    images: int = 0
    chance: float = 1.0
    upside_down: float = 1.0

    @property
    def is_known(self) -> bool:
        """Whether there are images enough."""
        return self.images >= LEAST_IMAGES

    @property
    def has_up(self) -> bool:
        """True, too, where it is not known: a head that learns upside-down images for nothing learns less."""
        return not self.is_known or self.upside_down > max(_TOLERATED, _BEYOND_CHANCE * self.chance)

    @staticmethod
    def of(grids: Sequence[Float[np.ndarray, "classes cells cells"]]) -> "Positions":
        """Those of images by ``class_grid``."""
        if len(grids) < 2:
            return Positions(len(grids))
        first, second = (np.mean(grids[half::2], axis=0) for half in (0, 1))
        whole = np.mean(grids, axis=0)
        return Positions(len(grids), _difference(first, second), _difference(whole, whole[:, ::-1]))


def class_grid(
    class_map: Integer[np.ndarray, "height width"], num_classes: int
) -> Float[np.ndarray, "classes cells cells"]:
    """The share of each cell that each class covers; ignored pixels are of no class."""
    height, width = class_map.shape
    rows = np.arange(height) * _CELLS // height
    columns = np.arange(width) * _CELLS // width
    known = class_map < num_classes
    cell = rows[:, None] * _CELLS + columns[None, :]
    place = class_map.astype(np.int64) * _CELLS**2 + cell
    counts = np.bincount(place[known], minlength=num_classes * _CELLS**2)
    sizes = np.bincount(cell.reshape(-1), minlength=_CELLS**2)
    shares: np.ndarray = counts.reshape(num_classes, _CELLS**2) / np.maximum(1, sizes)
    return shares.reshape(num_classes, _CELLS, _CELLS)


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over classes of the share of a class that lies elsewhere in the other."""
    sums = first.sum((1, 2)) + second.sum((1, 2))
    there = sums > 0
    if not there.any():
        return 0.0
    return float((np.abs(first - second).sum((1, 2))[there] / sums[there]).mean())
