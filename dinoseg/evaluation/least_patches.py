"""The least sizes of patches, by class, with which a figure is best on known images.

What becomes of a patch depends on the map as it was predicted alone, so pixels that change hands add up over classes:
one pass over the images tells the figure at every choice of sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer
from torch import Tensor

from dinoseg.data.dataset import Sample
from dinoseg.evaluation.class_weights import TunedFigure, mean_figure
from dinoseg.inference.small_patches import SmallPatches

# Pixels; 0 leaves a class as it is.
SIZES = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_ROUNDS = 4
# Of the figure, in percent: less is noise.
_LEAST_GAIN = 1e-3


@dataclass
class PatchCounts:
    """What small patches would become, in pixels that count; those of several images, or processes, are added.

    Attributes:
        totals: right, predicted and true pixels of each class, as it was predicted.
        left: by class and by the first size that takes them, pixels that leave it, and those of them that were right.
        taken: by class and size, and by what they become, the pixels that leave; and those of them that become right.
    """

    totals: Int[np.ndarray, "3 classes"]
    left: Int[np.ndarray, "2 classes sizes"]
    taken: Int[np.ndarray, "2 classes sizes classes"]

    @staticmethod
    def empty(num_classes: int) -> "PatchCounts":
        """Of no image."""
        sizes = len(SIZES)
        return PatchCounts(
            np.zeros((3, num_classes), dtype=np.int64),
            np.zeros((2, num_classes, sizes), dtype=np.int64),
            np.zeros((2, num_classes, sizes, num_classes), dtype=np.int64),
        )

    @staticmethod
    def sum_of(parts: Sequence["PatchCounts"]) -> "PatchCounts":
        """Of all images of several."""
        return PatchCounts(
            np.sum([part.totals for part in parts], axis=0),
            np.sum([part.left for part in parts], axis=0),
            np.sum([part.taken for part in parts], axis=0),
        )

    def take(self, sample: Sample, class_map: Integer[Tensor, "height width"]) -> None:
        """Counts an image of an evaluation."""
        self.add(class_map.numpy(), sample["class_map"].numpy())

    def add(self, class_map: Integer[np.ndarray, "height width"], truth: Integer[np.ndarray, "height width"]) -> None:
        """Counts one image, at native size; what is no class in the truth is ignored."""
        classes = self.totals.shape[1]
        true, predicted = truth.ravel().astype(np.int64), class_map.ravel().astype(np.int64)
        counted = true < classes
        for row, values in enumerate((true[counted & (true == predicted)], predicted[counted], true[counted])):
            self.totals[row] += np.bincount(values, minlength=classes)
        for index in np.unique(class_map).tolist():
            found = SmallPatches.of(class_map, index, SIZES[-1])
            kept = counted[found.places]
            patch, of_patch = found.patch[kept], true[found.places[kept]]
            # A patch of 4 pixels is not below 4.
            step, around = np.searchsorted(SIZES, found.sizes, side="right")[patch], found.around[patch]
            for row, chosen in enumerate((slice(None), of_patch == index)):
                self.left[row, index] += np.bincount(step[chosen], minlength=len(SIZES))
            for row, chosen in enumerate((slice(None), of_patch == around)):
                np.add.at(self.taken[row, index], (step[chosen], around[chosen]), 1)

    def best(self, figure: TunedFigure) -> list[int]:
        """Pixels by class index, each of ``SIZES``; a size that gains nothing is not taken.

        A class that the truth does not hold is left as it is: nothing is known of it, and any size could gain.
        """
        # A size takes what all smaller ones take.
        left, taken = self.left.cumsum(axis=2), self.taken.cumsum(axis=2)
        chosen, totals = [0] * self.totals.shape[1], self.totals.copy()
        best = mean_figure(totals, figure)
        for _ in range(_ROUNDS):
            start = best
            for index in np.flatnonzero(totals[2]).tolist():
                changes = _changes(left[:, index], taken[:, index], index)
                without = totals - changes[chosen[index]]
                values = [mean_figure(without + change, figure) for change in changes]
                step = int(np.argmax(values))
                if values[step] > best + _LEAST_GAIN:
                    chosen[index], best, totals = step, values[step], without + changes[step]
            if best <= start:
                break
        return [SIZES[step] for step in chosen]


def _changes(
    left: Int[np.ndarray, "2 sizes"], taken: Int[np.ndarray, "2 sizes classes"], index: int
) -> Int[np.ndarray, "sizes 3 classes"]:
    """What each size of one class adds to right and predicted pixels; the truth stays."""
    changes = np.zeros((len(SIZES), 3, taken.shape[2]), dtype=np.int64)
    changes[:, 0], changes[:, 1] = taken[1], taken[0]
    changes[:, 0, index] -= left[1]
    changes[:, 1, index] -= left[0]
    return changes
