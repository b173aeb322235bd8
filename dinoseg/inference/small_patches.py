"""Patches of a class map that are too small to be believed become what lies around them.

A patch is a set of connected pixels of one class, by corners too. Each is judged on the map as it was predicted, so
that neither the order of classes nor that of patches decides: what one patch becomes says nothing of its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer
from scipy import ndimage

ClassMap = Integer[np.ndarray, "height width"]

_BY_CORNERS_TOO = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class SmallPatches:
    """The small patches of one class in one map.

    Attributes:
        places: indices of their pixels in the flattened map.
        patch: of each pixel, which patch it is of.
        sizes: pixels of each patch.
        around: of each patch the class that most of the pixels beside it have; of equals the first. Its own where the
            map has no other.
    """

    places: Int[np.ndarray, " pixels"]
    patch: Int[np.ndarray, " pixels"]
    sizes: Int[np.ndarray, " patches"]
    around: Int[np.ndarray, " patches"]

    @staticmethod
    def of(class_map: ClassMap, class_index: int, below: int) -> "SmallPatches":
        """Those of fewer than ``below`` pixels."""
        numbers, count = ndimage.label(class_map == class_index, structure=_BY_CORNERS_TOO)
        sizes = np.bincount(numbers.ravel(), minlength=count + 1)
        small = np.flatnonzero((sizes < below) & (np.arange(count + 1) > 0))
        # New numbers from 1; 0 is everything else.
        renumbered = np.zeros(count + 1, dtype=np.int64)
        renumbered[small] = np.arange(1, len(small) + 1)
        numbers = renumbered[numbers]
        places = np.flatnonzero(numbers)
        around = _around(numbers, class_map, len(small), class_index)
        return SmallPatches(places, numbers.ravel()[places] - 1, sizes[small], around)


def absorb_small_patches(class_map: ClassMap, least: Sequence[int]) -> ClassMap:
    """The map whose patches have ``least`` pixels of their class, but for those that grew together meanwhile.

    Args:
        least: pixels by class index; 0 and 1 leave a class as it is.
    """
    absorbed = class_map.copy()
    flat = absorbed.reshape(-1)
    for class_index, pixels in enumerate(least):
        if pixels > 1:
            found = SmallPatches.of(class_map, class_index, pixels)
            flat[found.places] = found.around[found.patch]
    return absorbed


def _around(
    numbers: Int[np.ndarray, "height width"], class_map: ClassMap, count: int, class_index: int
) -> Int[np.ndarray, " patches"]:
    """The class beside each patch; pixels beside two of its sides count twice."""
    classes = int(class_map.max(initial=0)) + 1
    pairs = []
    for inner, outer in _sides():
        patch, beside = numbers[inner], class_map[outer]
        border = (patch > 0) & (beside != class_index)
        pairs.append((patch[border] - 1) * classes + beside[border])
    keys, often = np.unique(np.concatenate(pairs), return_counts=True)
    patch, beside = np.divmod(keys, classes)
    # Of each patch the most frequent comes first, of equals the first class.
    order = np.lexsort((beside, -often, patch))
    first = np.unique(patch[order], return_index=True)[1]
    around = np.full(count, class_index, dtype=np.int64)
    around[patch[order][first]] = beside[order][first]
    return around


def _sides() -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Where a pixel is, and where its neighbour is, on each of four sides."""
    whole, front, back = slice(None), slice(None, -1), slice(1, None)
    return [
        ((front, whole), (back, whole)),
        ((back, whole), (front, whole)),
        ((whole, front), (whole, back)),
        ((whole, back), (whole, front)),
    ]
