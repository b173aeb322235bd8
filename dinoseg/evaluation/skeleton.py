"""clDice: do the centre lines of thin structures agree? Insensitive to their width, sensitive to gaps and stray twigs.

Shit et al., clDice: a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation (2021), section 2.
Topology precision is the share of the predicted skeleton that lies in the true mask, topology sensitivity the share of
the true skeleton that lies in the predicted mask; clDice is their harmonic mean. The counts behind the shares are
added up over images before they are divided.

Ignored pixels belong to neither mask, before either is thinned: both skeletons end where they begin, and what is
predicted there changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from dinoseg.evaluation.metrics import ratio

Map = Integer[np.ndarray, "height width"]


def require_skeletonize() -> Callable[[Any], Any]:
    """The thinning of scikit-image.

    Raises:
        ValueError: scikit-image is not installed.
    """
    try:
        from skimage.morphology import skeletonize
    except ImportError:
        raise ValueError(
            "eval.cldice wants scikit-image, which is not installed: pip install 'dinoseg[thin]', or leave it out"
        ) from None
    return skeletonize


def skeleton_counts(
    prediction: Map, truth: Map, classes: Sequence[int], num_classes: int, ignore_index: int
) -> Int[np.ndarray, "4 classes"]:
    """Pixels of skeletons by class, int64, 0 for a class that is not asked for.

    Rows: predicted skeleton within the true mask, predicted skeleton, true skeleton within the predicted mask, true
    skeleton.

    Args:
        prediction: class indices; ignored pixels may hold anything.
        truth: same shape; class indices or ``ignore_index``.
        classes: class indices to count.

    Raises:
        ValueError: scikit-image is not installed.
    """
    skeletonize = require_skeletonize()
    counted = truth != ignore_index
    counts = np.zeros((4, num_classes), np.int64)
    for index in classes:
        predicted, true = (prediction == index) & counted, (truth == index) & counted
        predicted_skeleton, true_skeleton = skeletonize(predicted), skeletonize(true)
        counts[:, index] = [
            np.count_nonzero(predicted_skeleton & true),
            np.count_nonzero(predicted_skeleton),
            np.count_nonzero(true_skeleton & predicted),
            np.count_nonzero(true_skeleton),
        ]
    return counts


def cldice(counts: Int[np.ndarray, "4 classes"]) -> Float[np.ndarray, " classes"]:
    """clDice by class, 0..1; NaN without a skeleton in truth or prediction, 0 with one in only one of them."""
    precision, sensitivity = (np.nan_to_num(ratio(counts[row], counts[row + 1])) for row in (0, 2))
    found = np.nan_to_num(ratio(2 * precision * sensitivity, precision + sensitivity))
    return np.where(counts[1] + counts[3] > 0, found, np.nan)
