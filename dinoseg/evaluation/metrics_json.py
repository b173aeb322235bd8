"""The contents of metrics.json: every figure that the counts of an evaluation give."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dinoseg.evaluation.bootstrap import COVERAGE, RESAMPLES, bootstrap_intervals
from dinoseg.evaluation.constant import constant_figures
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.metrics import Metrics, PerClass, apply_policy, mean_percent, per_image_figures, percents, ratio
from dinoseg.evaluation.skeleton import cldice
from dinoseg.labels import LabelSpace


def evaluation_contents(
    metrics: Metrics,
    counts: Counts,
    names: Sequence[str],
    policy: dict[str, Any],
    label_space: LabelSpace,
    measures: Measures,
) -> dict[str, Any]:
    """Figures in percent, null where undefined.

    Args:
        metrics: of the matrix of ``counts``.
        names: of the images.
        policy: how the images were predicted; what was measured, and by which rules, is added.
    """
    chosen = policy
    extra: dict[str, PerClass] = {}
    means: dict[str, float | None] = {}
    if measures.boundary_width is not None:
        extra["BoundaryIoU"], means["mBoundaryIoU"] = _boundary_figures(counts, measures)
        chosen = chosen | {"boundary_width": measures.boundary_width}
    if measures.thin_classes:
        extra["clDice"], means["mclDice"] = _thin_figures(counts, measures)
        chosen = chosen | {"cldice": [label_space.class_names[index] for index in measures.thin_classes]}
    contents = metrics.to_dict(label_space, chosen)
    rows, policy_of_all = contents.pop("per_class"), contents.pop("policy")
    confidence, intervals = _confidence(counts, measures)
    for index, row in enumerate(rows):
        row |= {name: values[index] for name, values in extra.items()} | {"IoU_interval": intervals[index]}
    constant = constant_figures(metrics)
    contents |= means | {"constant": constant, "confidence": confidence, "per_class": rows, "policy": policy_of_all}
    if measures.per_image:
        contents["per_image"] = per_image_figures(names, counts.image_counts.numpy())
    return contents


def _confidence(counts: Counts, measures: Measures) -> tuple[dict[str, Any], list[list[float] | None]]:
    """The interval of mIoU and those of the classes; null for fewer than two images: resampling one says nothing."""
    image_counts = counts.image_counts.numpy()
    confidence = {"coverage": COVERAGE, "resamples": RESAMPLES, "mIoU": None}
    if len(image_counts) < 2:
        return confidence, [None] * image_counts.shape[-1]
    found = bootstrap_intervals(image_counts, RESAMPLES, policy=measures.absent_classes)
    by_class = [None if interval is None else list(interval) for interval in found.iou]
    return confidence | {"mIoU": None if found.miou is None else list(found.miou)}, by_class


def _boundary_figures(counts: Counts, measures: Measures) -> tuple[PerClass, float | None]:
    assert counts.boundary is not None
    intersection, union = counts.boundary.sum(dim=0).numpy()
    values = apply_policy(ratio(intersection, union), _totals(counts), measures.absent_classes)
    return percents(values), mean_percent(values)


def _thin_figures(counts: Counts, measures: Measures) -> tuple[PerClass, float | None]:
    """Figures and mean of the thin classes; None for the others, which were not measured, under every policy."""
    assert counts.skeleton is not None
    values = apply_policy(cldice(counts.skeleton.sum(dim=0).numpy()), _totals(counts), measures.absent_classes)
    thin = list(measures.thin_classes)
    measured = np.full(len(values), np.nan)
    measured[thin] = values[thin]
    return percents(measured), mean_percent(measured)


def _totals(counts: Counts) -> np.ndarray:
    return counts.image_counts.sum(dim=0).numpy()
