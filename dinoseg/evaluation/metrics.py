"""Figures per class and their means, from the confusion matrix: percent, unrounded, None where undefined."""

from collections.abc import Callable, Sequence
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
ClassCounts = Int[np.ndarray, "3 classes"]

_POLICIES: tuple[AbsentPolicy, ...] = get_args(AbsentPolicy)


@dataclass(frozen=True)
class Figure:
    """A figure of merit that every class has.

    Attributes:
        name: its key in ``per_class`` of metrics.json.
        mean: the key of its mean over classes.
        of: pixels in intersection, prediction and truth, and beta, to its value by class, 0..1, NaN for 0 / 0.
    """

    name: str
    mean: str
    of: Callable[[ClassCounts, float], Float[np.ndarray, " classes"]]


@dataclass(frozen=True)
class Metrics:
    """What one confusion matrix says, under one policy for absent classes.

    Attributes:
        policy: ``skip_empty``: a class with no pixel in truth or prediction has no figures and is left out of the
            means; ``skip_absent``: one with no pixel in truth; ``zero``: none is left out, undefined figures are 0.
        beta: weight of recall against precision in the F-score.
        figures: of ``FIGURES``, by name and class index, in percent. Precision of a class that is never predicted and
            recall of one that never occurs are undefined, except under ``zero``.
        intersection, prediction, truth: pixel counts by class index.
        means: of every figure, by its name for it; and aAcc (share of right pixels), fwIoU (IoU weighted by pixels of
            truth).
        miou_by_policy: mIoU under every policy.
    """

    policy: AbsentPolicy
    beta: float
    figures: dict[str, PerClass]
    intersection: tuple[int, ...]
    prediction: tuple[int, ...]
    truth: tuple[int, ...]
    means: dict[str, float | None]
    miou_by_policy: dict[str, float | None]

    @property
    def iou(self) -> PerClass:
        """Intersection over union by class index, in percent."""
        return self.figures["IoU"]

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
                **{name: values[index] for name, values in self.figures.items()},
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
    values = {figure.name: apply_policy(figure.of(counts, beta), counts, policy) for figure in FIGURES}
    intersection, prediction, truth = (tuple(row.tolist()) for row in counts)
    return Metrics(
        policy=policy,
        beta=beta,
        figures={name: percents(by_class) for name, by_class in values.items()},
        intersection=intersection,
        prediction=prediction,
        truth=truth,
        means=_means(values, counts),
        miou_by_policy={name: mean_percent(apply_policy(iou(counts), counts, name)) for name in _POLICIES},
    )


def iou(counts: Shaped[np.ndarray, "*images 3 classes"]) -> Float[np.ndarray, "*images classes"]:
    """Intersection over union, 0..1, NaN where both are empty."""
    intersection, prediction, truth = np.moveaxis(counts, -2, 0)
    return ratio(intersection, prediction + truth - intersection)


def _iou(counts: ClassCounts, beta: float) -> Float[np.ndarray, " classes"]:
    return iou(counts)


def _dice(counts: ClassCounts, beta: float) -> Float[np.ndarray, " classes"]:
    intersection, prediction, truth = counts
    return ratio(2 * intersection, prediction + truth)


def _fscore(counts: ClassCounts, beta: float) -> Float[np.ndarray, " classes"]:
    """From counts, so that it is 0, not undefined, where one of precision and recall is 0 / 0; Dice for beta 1."""
    intersection, prediction, truth = counts
    return ratio((1 + beta * beta) * intersection, beta * beta * truth + prediction)


def _precision(counts: ClassCounts, beta: float) -> Float[np.ndarray, " classes"]:
    return ratio(counts[0], counts[1])


def _recall(counts: ClassCounts, beta: float) -> Float[np.ndarray, " classes"]:
    return ratio(counts[0], counts[2])


# In the order of metrics.json. The accuracy of a class is its recall under the name that other tools use.
FIGURES = (
    Figure("IoU", "mIoU", _iou),
    Figure("Dice", "mDice", _dice),
    Figure("Fscore", "mFscore", _fscore),
    Figure("precision", "mPrecision", _precision),
    Figure("recall", "mRecall", _recall),
    Figure("accuracy", "mAcc", _recall),
)


def apply_policy(
    values: Float[np.ndarray, "*images classes"], counts: Shaped[np.ndarray, "*images 3 classes"], policy: AbsentPolicy
) -> Float[np.ndarray, "*images classes"]:
    """Figures with NaN where the policy leaves a class out, or 0 for NaN where it leaves none out."""
    if policy == "zero":
        return np.nan_to_num(values, nan=0.0)
    counted = counts[..., 2, :] if policy == "skip_absent" else counts[..., 1, :] + counts[..., 2, :]
    return np.where(counted > 0, values, np.nan)


def _means(
    figures: dict[str, Float[np.ndarray, " classes"]], counts: Int[np.ndarray, "3 classes"]
) -> dict[str, float | None]:
    intersection, _, truth = counts
    pixels = int(truth.sum())
    occurring = truth > 0
    weighted = float((figures["IoU"][occurring] * truth[occurring]).sum())
    means = {figure.mean: mean_percent(figures[figure.name]) for figure in FIGURES}
    # Those that most people read come first.
    return {
        "mIoU": means.pop("mIoU"),
        "mAcc": means.pop("mAcc"),
        "aAcc": 100 * int(intersection.sum()) / pixels if pixels else None,
        **means,
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
