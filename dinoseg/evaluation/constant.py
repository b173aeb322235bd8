"""What a prediction that looks at no image would score: the class with the most true pixels, everywhere."""

from typing import Any

import numpy as np

from dinoseg.evaluation.metrics import ClassCounts, Metrics, metrics_from_counts

# What a model is held against; the others of metrics.json follow from the same counts.
_NAMES = ("mIoU", "mAcc", "aAcc", "mDice")
COMPARED = ("mIoU", "aAcc")


def constant_figures(metrics: Metrics) -> dict[str, Any] | None:
    """Class index and means, in percent, of the constant prediction on the same truth under the same policy.

    None where no pixel of the truth counts.
    """
    truth = np.array(metrics.truth, dtype=np.int64)
    if not truth.sum():
        return None
    index = int(truth.argmax())
    means = metrics_from_counts(_constant_counts(truth, index), metrics.policy, metrics.beta).means
    return {"class_index": index} | {name: means[name] for name in _NAMES}


def not_above_constant(contents: dict[str, Any]) -> list[str]:
    """The names in ``COMPARED`` of figures that are no better than the constant's; empty where nothing can be better.

    Args:
        contents: of metrics.json; one without the constant's figures compares with nothing.
    """
    constant = contents.get("constant") or {}
    pairs = {name: (contents.get(name), constant.get(name)) for name in COMPARED}
    return [
        name
        for name, (found, limit) in pairs.items()
        if found is not None and limit is not None and found <= limit < 100
    ]


def _constant_counts(truth: np.ndarray, index: int) -> ClassCounts:
    """Pixels in intersection, prediction and truth."""
    counts = np.zeros((3, len(truth)), np.int64)
    counts[0, index], counts[1, index], counts[2] = truth[index], truth.sum(), truth
    return counts
