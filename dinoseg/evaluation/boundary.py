"""Boundary IoU: IoU of the bands along the contours, so that the interior of a large class does not hide its edges.

Cheng, Girshick, Dollar, Berg and Kirillov, Boundary IoU: Improving Object-Centric Image Segmentation Evaluation (2021),
section 4. The band of a class are its pixels within distance d of a pixel that is not of the class; distances are those
of a square window (the larger of the two coordinate differences), and outside the image no pixel is of any class, both
as in the authors' code. Intersections and unions of bands are added up over images before they are divided.

Ignored pixels are in no band, and no contour runs along them: whether a pixel lies within d of another class is asked
of counted pixels alone, in truth and prediction alike, so that what is predicted at ignored pixels changes nothing.
"""

import math

import numpy as np
from jaxtyping import Bool, Int, Integer
from scipy.ndimage import maximum_filter1d, minimum_filter1d

Map = Integer[np.ndarray, "height width"]


def boundary_distance(height: int, width: int, share: float) -> int:
    """d in pixels: this share of the image diagonal, rounded, at least 1."""
    return max(1, round(share * math.hypot(height, width)))


def boundary_counts(
    prediction: Map, truth: Map, num_classes: int, ignore_index: int, share: float = 0.02
) -> Int[np.ndarray, "2 classes"]:
    """Pixels in intersection and union of the bands of every class in truth and prediction, int64.

    Args:
        prediction: class indices; ignored pixels may hold anything.
        truth: same shape; class indices or ``ignore_index``.
        share: d as a share of the image diagonal, above 0.
    """
    counted = truth != ignore_index
    height, width = truth.shape
    distance = boundary_distance(height, width, share)
    prediction, truth = prediction.astype(np.int32), truth.astype(np.int32)
    predicted, true = (_band(class_map, counted, num_classes, distance) for class_map in (prediction, truth))
    both = predicted & true & (prediction == truth)
    intersection = np.bincount(truth[both], minlength=num_classes)
    total = np.bincount(prediction[predicted], minlength=num_classes) + np.bincount(truth[true], minlength=num_classes)
    return np.stack([intersection, total - intersection]).astype(np.int64)


def _band(
    class_map: Int[np.ndarray, "height width"],
    counted: Bool[np.ndarray, "height width"],
    num_classes: int,
    distance: int,
) -> Bool[np.ndarray, "height width"]:
    """Counted pixels with one of another class, or with the outside of the image, within the distance.

    There is one exactly if the largest or the smallest class index around a pixel is not its own. So one pass does for
    all classes, and its cost does not grow with the distance.
    """
    # The outside is larger than every class; an ignored pixel changes neither the largest nor the smallest.
    largest, smallest = np.where(counted, class_map, -1), np.where(counted, class_map, num_classes)
    for axis in (0, 1):
        largest = maximum_filter1d(largest, 2 * distance + 1, axis, mode="constant", cval=num_classes)
        smallest = minimum_filter1d(smallest, 2 * distance + 1, axis, mode="constant", cval=num_classes)
    return counted & ((largest != class_map) | (smallest != class_map))
