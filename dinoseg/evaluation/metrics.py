"""Figures per class and their means, from the confusion matrix: percent, unrounded, None where undefined."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dinoseg.evaluation.confusion import confusion_matrix
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import plain_label

__all__ = [
    "AbsentPolicy",
    "Metrics",
    "confusion_matrix",
    "counts_from_confusion",
    "metrics_from_confusion",
    "metrics_from_counts",
]

AbsentPolicy = Literal["skip_empty", "skip_absent", "zero"]
PerClass = tuple[float | None, ...]

_POLICIES: tuple[AbsentPolicy, ...] = get_args(AbsentPolicy)


@dataclass(frozen=True)
class Metrics:
    """What one confusion matrix says, under one policy for absent classes.

    Attributes:
        policy: ``skip_empty``: a class with no pixel in truth or prediction has no figures and is left out of the
            means; ``skip_absent``: one with no pixel in truth; ``zero``: none is left out, undefined figures are 0.
        beta: weight of recall against precision in the F-score.
        iou, dice, fscore, precision, recall, accuracy: by class index, in percent. Precision of a class that is never
            predicted and recall (which is accuracy) of one that never occurs are undefined, except under ``zero``.
        intersection, prediction, truth: pixel counts by class index.
        means: mIoU, mDice, mAcc, aAcc, mFscore, mPrecision, mRecall, fwIoU (IoU weighted by pixels of truth).
        miou_by_policy: mIoU under every policy.
    """

    policy: AbsentPolicy
    beta: float
    iou: PerClass
    dice: PerClass
    fscore: PerClass
    precision: PerClass
    recall: PerClass
    accuracy: PerClass
    intersection: tuple[int, ...]
    prediction: tuple[int, ...]
    truth: tuple[int, ...]
    means: dict[str, float | None]
    miou_by_policy: dict[str, float | None]

    def to_dict(self, label_space: LabelSpace, policy: dict[str, Any]) -> dict[str, Any]:
        """The contents of metrics.json.

        Args:
            label_space: names the classes.
            policy: what else the figures were measured with; ``absent_classes`` and ``beta`` are added where missing.
        """
        per_class = [
            {
                "class_index": index,
                "label_id": plain_label(entry.label_ids[0], label_space.kind),
                "name": entry.name,
                "IoU": self.iou[index],
                "Dice": self.dice[index],
                "Fscore": self.fscore[index],
                "precision": self.precision[index],
                "recall": self.recall[index],
                "accuracy": self.accuracy[index],
                "intersection": self.intersection[index],
                "prediction": self.prediction[index],
                "truth": self.truth[index],
            }
            for index, entry in enumerate(label_space.classes)
        ]
        named = {"absent_classes": self.policy, "beta": self.beta} | policy
        return {**self.means, "mIoU_by_policy": self.miou_by_policy, "per_class": per_class, "policy": named}


def metrics_from_confusion(
    matrix: Int[Tensor, "classes classes"], policy: AbsentPolicy = "skip_empty", beta: float = 1.0
) -> Metrics:
    """All figures of a confusion matrix (rows truth, columns prediction).

    Raises:
        ValueError: an unknown policy, or a beta that is not positive.
    """
    return metrics_from_counts(counts_from_confusion(matrix.cpu()).numpy(), policy, beta)


def counts_from_confusion(matrix: Int[Tensor, "*images classes classes"]) -> Int[Tensor, "*images 3 classes"]:
    """Pixels in intersection, prediction and truth of every class: all that the figures need of the matrix."""
    return torch.stack([matrix.diagonal(dim1=-2, dim2=-1), matrix.sum(-2), matrix.sum(-1)], dim=-2)


def metrics_from_counts(
    counts: Int[np.ndarray, "3 classes"], policy: AbsentPolicy = "skip_empty", beta: float = 1.0
) -> Metrics:
    """All figures of pixel counts; see ``metrics_from_confusion`` and ``counts_from_confusion``."""
    if policy not in get_args(AbsentPolicy):
        raise ValueError(
            f"absent-class policy {policy!r} is unknown; choose one of {', '.join(get_args(AbsentPolicy))}"
        )
    if beta <= 0:
        raise ValueError(f"beta of the F-score is {beta}; give a number above 0")
    figures = {name: apply_policy(values, counts, policy) for name, values in class_figures(counts, beta).items()}
    named = {name: percents(values) for name, values in figures.items()}
    intersection, prediction, truth = (tuple(row.tolist()) for row in counts)
    return Metrics(
        policy=policy,
        beta=beta,
        accuracy=named["recall"],
        intersection=intersection,
        prediction=prediction,
        truth=truth,
        means=_means(figures, counts),
        miou_by_policy={name: mean_percent(apply_policy(iou(counts), counts, name)) for name in _POLICIES},
        **named,
    )


def iou(counts: Shaped[np.ndarray, "*images 3 classes"]) -> Float[np.ndarray, "*images classes"]:
    """Intersection over union, 0..1, NaN where both are empty."""
    intersection, prediction, truth = np.moveaxis(counts, -2, 0)
    return ratio(intersection, prediction + truth - intersection)


def class_figures(counts: Int[np.ndarray, "3 classes"], beta: float) -> dict[str, Float[np.ndarray, " classes"]]:
    """IoU, Dice, F-score, precision and recall by class, 0..1, NaN for 0 / 0.

    The F-score comes from counts, so that it is 0, not undefined, where one of precision and recall is 0 / 0; with
    beta 1 it is the Dice score.
    """
    intersection, prediction, truth = counts
    square = beta * beta
    return {
        "iou": iou(counts),
        "dice": ratio(2 * intersection, prediction + truth),
        "fscore": ratio((1 + square) * intersection, square * truth + prediction),
        "precision": ratio(intersection, prediction),
        "recall": ratio(intersection, truth),
    }


def apply_policy(
    values: Float[np.ndarray, "*images classes"], counts: Shaped[np.ndarray, "*images 3 classes"], policy: AbsentPolicy
) -> Float[np.ndarray, "*images classes"]:
    """Figures with NaN where the policy leaves a class out, or 0 for NaN where it leaves none out."""
    if policy == "zero":
        return np.nan_to_num(values, nan=0.0)
    # An empty class is NaN by itself in every figure: 0 / 0.
    return np.where(counts[..., 2, :] > 0, values, np.nan) if policy == "skip_absent" else values


def _means(
    figures: dict[str, Float[np.ndarray, " classes"]], counts: Int[np.ndarray, "3 classes"]
) -> dict[str, float | None]:
    intersection, _, truth = counts
    pixels = int(truth.sum())
    occurring = truth > 0
    weighted = float((figures["iou"][occurring] * truth[occurring]).sum())
    return {
        "mIoU": mean_percent(figures["iou"]),
        "mAcc": mean_percent(figures["recall"]),
        "aAcc": 100 * int(intersection.sum()) / pixels if pixels else None,
        "mDice": mean_percent(figures["dice"]),
        "mFscore": mean_percent(figures["fscore"]),
        "mPrecision": mean_percent(figures["precision"]),
        "mRecall": mean_percent(figures["recall"]),
        "fwIoU": 100 * weighted / pixels if pixels else None,
    }


def mean_percent(values: Float[np.ndarray, " classes"]) -> float | None:
    """Mean in percent of what is defined, None where nothing is."""
    defined = values[~np.isnan(values)]
    return 100 * float(defined.mean()) if len(defined) else None


def percents(values: Float[np.ndarray, " classes"]) -> PerClass:
    """Percent, None for NaN."""
    return tuple(None if np.isnan(value) else 100 * float(value) for value in values)


def ratio(
    numerator: Shaped[np.ndarray, "*shape"], denominator: Shaped[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Quotients, NaN for 0 / 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def image_iou(counts: Int[np.ndarray, "images 3 classes"]) -> Float[np.ndarray, " images"]:
    """Mean IoU of each image over the classes with a pixel in its truth or prediction, 0..1; NaN without any."""
    values = iou(counts)
    defined = (~np.isnan(values)).sum(axis=1)
    return np.divide(np.nansum(values, axis=1), defined, out=np.full(len(values), np.nan), where=defined > 0)


def per_image_figures(
    names: Sequence[str], counts: Int[np.ndarray, "images 3 classes"], worst: int = 10
) -> dict[str, Any]:
    """Mean over images of the image's mIoU in percent (null without a valid image), and the ``worst`` images."""
    values = image_iou(counts)
    order = [int(row) for row in np.argsort(values, kind="stable") if not np.isnan(values[row])]
    return {
        "mIoU": 100 * float(np.nanmean(values)) if order else None,
        "images": len(order),
        "worst": [{"name": names[row], "mIoU": 100 * float(values[row])} for row in order[:worst]],
    }
