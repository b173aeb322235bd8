"""Bootstrap intervals over images: how far the figures of a data set are the luck of its images.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3) with the image as the
unit that is resampled. A resample is a vector of multinomial weights, and the counts of all resamples are one matrix
product of weights with the counts of the images.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dinoseg.evaluation.metrics import AbsentPolicy, apply_policy, iou

Interval = tuple[float, float]
ImageCounts = Int[np.ndarray, "images 3 classes"]

# Percent of resamples within an interval, and resamples of an evaluation.
COVERAGE = 95
RESAMPLES = 1000


@dataclass(frozen=True)
class BootstrapIntervals:
    """95 % intervals in percent (of a difference: in percentage points).

    Attributes:
        miou: None where no resample has a class with a figure, and of one image alone, of which every resample is the
            same: that would look like certainty.
        iou: by class index; None for a class without a figure in every resample, and of one image alone.
    """

    miou: Interval | None
    iou: tuple[Interval | None, ...]


def bootstrap_intervals(
    counts: ImageCounts, resamples: int = RESAMPLES, seed: int = 0, policy: AbsentPolicy = "skip_empty"
) -> BootstrapIntervals:
    """Intervals of IoU by class and of mIoU.

    Args:
        counts: pixels in intersection, prediction and truth, by image and class
            (``counts_from_confusion`` of the stacked confusion matrices).
        resamples: data sets drawn, of as many images each as there are.
        seed: the same seed draws the same images.
        policy: for absent classes, see ``Metrics``; a class can be absent from a resample alone.

    Raises:
        ValueError: no image or no resample.
    """
    weights = _weights(len(counts), resamples, seed)
    if len(counts) == 1:
        return _without(counts.shape[-1])
    return _intervals(_resampled_iou(counts, weights, policy))


def paired_bootstrap_intervals(
    first: ImageCounts,
    second: ImageCounts,
    resamples: int = RESAMPLES,
    seed: int = 0,
    policy: AbsentPolicy = "skip_empty",
) -> BootstrapIntervals:
    """Intervals of the differences ``second - first``, both on the same resampled images.

    Args:
        first, second: counts of two runs on the same images in the same order; see ``bootstrap_intervals``.

    Raises:
        ValueError: the counts are of different images (their pixels of truth differ), no image or no resample.
    """
    if first.shape != second.shape or not np.array_equal(first[:, 2], second[:, 2]):
        raise ValueError(
            f"counts of {len(first)} and {len(second)} images cannot be paired: image by image, both runs must have "
            "the same pixels of truth"
        )
    weights = _weights(len(first), resamples, seed)
    if len(first) == 1:
        return _without(first.shape[-1])
    figures = [_resampled_iou(counts, weights, policy) for counts in (first, second)]
    means = [_row_means(values) for values in figures]
    return _intervals(figures[1] - figures[0], means[1] - means[0])


def _weights(images: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples images"]:
    if images < 1 or resamples < 1:
        raise ValueError(f"a bootstrap wants an image and a resample at least; got {images} and {resamples}")
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)


def _resampled_iou(
    counts: ImageCounts, weights: Float[np.ndarray, "resamples images"], policy: AbsentPolicy
) -> Float[np.ndarray, "resamples classes"]:
    # float64 holds integers up to 2^53 exactly, far beyond the pixels of any data set.
    resampled = (weights @ counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])
    return apply_policy(iou(resampled), resampled, policy)


def _row_means(values: Float[np.ndarray, "resamples classes"]) -> Float[np.ndarray, " resamples"]:
    """Means over the classes that have a figure; NaN without any."""
    defined = (~np.isnan(values)).sum(axis=1)
    total = np.nansum(values, axis=1)
    return np.divide(total, defined, out=np.full(len(values), np.nan), where=defined > 0)


def _intervals(
    values: Float[np.ndarray, "resamples classes"], means: Float[np.ndarray, " resamples"] | None = None
) -> BootstrapIntervals:
    means = _row_means(values) if means is None else means
    return BootstrapIntervals(_interval(means), tuple(_interval(column) for column in values.T))


def _without(classes: int) -> BootstrapIntervals:
    return BootstrapIntervals(None, (None,) * classes)


def _interval(values: Float[np.ndarray, " resamples"]) -> Interval | None:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    tail = (100 - COVERAGE) / 2
    lower, upper = np.percentile(defined, [tail, 100 - tail])
    return 100 * float(lower), 100 * float(upper)
