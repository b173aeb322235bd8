"""The least sizes of patches, by class, with which a figure is best on known images.

What becomes of a patch depends on the map as it was predicted alone, so pixels that change hands add up over classes:
one pass over the images tells the figure at every choice of sizes.
"""

from collections.abc import Sequence

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


class PatchCounts:
    """What small patches would become, counted image by image.

    Args:
        num_classes: of the maps.
        ignore_index: of the truth, where nothing counts.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self._ignore_index = ignore_index
        # Truth and prediction of every pixel that counts.
        self.matrix: Int[np.ndarray, "classes classes"] = np.zeros((num_classes, num_classes), dtype=np.int64)
        # Pixels that leave a class, by the first size that takes them, by truth and by what they become.
        shape = (num_classes, len(SIZES), num_classes, num_classes)
        self.moved: Int[np.ndarray, "classes sizes classes classes"] = np.zeros(shape, dtype=np.int32)

    def take(self, sample: Sample, class_map: Integer[Tensor, "height width"]) -> None:
        """Counts an image of an evaluation."""
        self.add(class_map.numpy(), sample["class_map"].numpy())

    def add(self, class_map: Integer[np.ndarray, "height width"], truth: Integer[np.ndarray, "height width"]) -> None:
        """Counts one image, at native size."""
        classes = len(self.matrix)
        counted = truth != self._ignore_index
        pairs = truth[counted].astype(np.int64) * classes + class_map[counted]
        self.matrix += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        flat_truth = truth.ravel()
        for index in np.unique(class_map).tolist():
            found = SmallPatches.of(class_map, index, SIZES[-1])
            true = flat_truth[found.places]
            kept = true != self._ignore_index
            patch = found.patch[kept]
            # A patch of 4 pixels is not below 4.
            step = np.searchsorted(SIZES, found.sizes, side="right")[patch]
            np.add.at(self.moved[index], (step, true[kept], found.around[patch]), 1)

    @property
    def counted(self) -> tuple[Int[np.ndarray, "classes classes"], Int[np.ndarray, "classes sizes classes classes"]]:
        """What this process counted."""
        return self.matrix, self.moved

    def join(self, counted: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Takes what all processes counted in the place of its own."""
        self.matrix = np.sum([matrix for matrix, _ in counted], axis=0)
        self.moved = np.sum([moved for _, moved in counted], axis=0)

    def best(self, figure: TunedFigure) -> list[int]:
        """Pixels by class index, each of ``SIZES``; a size that gains nothing is not taken."""
        # How the matrix changes with each size of each class; nothing with the first.
        changes = self.moved.cumsum(axis=1)
        for index, of_class in enumerate(changes):
            of_class[:, :, index] -= of_class.sum(axis=2)
        chosen, matrix = [0] * len(self.matrix), self.matrix.copy()
        best = mean_figure(_counts(matrix), figure)
        for _ in range(_ROUNDS):
            start = best
            for index, of_class in enumerate(changes):
                without = matrix - of_class[chosen[index]]
                values = [mean_figure(_counts(without + change), figure) for change in of_class]
                step = int(np.argmax(values))
                if values[step] > best + _LEAST_GAIN:
                    chosen[index], best, matrix = step, values[step], without + of_class[step]
            if best <= start:
                break
        return [SIZES[step] for step in chosen]


def _counts(matrix: Int[np.ndarray, "classes classes"]) -> Int[np.ndarray, "3 classes"]:
    """Pixels in intersection, prediction and truth."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)])
