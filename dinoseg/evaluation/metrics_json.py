"""The contents of metrics.json: every figure that the counts of an evaluation give."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dinoseg.evaluation.bootstrap import COVERAGE, RESAMPLES, bootstrap_intervals
from dinoseg.evaluation.constant import constant_figures
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.metrics import Metrics, PerClass, apply_policy, mean_percent, per_image_figures, percents, ratio
from dinoseg.evaluation.reliability import calibration_contents, is_tempered
from dinoseg.evaluation.skeleton import cldice
from dinoseg.evaluation.volume_figures import counts_by_volume, volume_figures
from dinoseg.labels import LabelSpace


@dataclass(frozen=True)
class CountedImages:
    """Names of the images of an evaluation, and the volume of each that is a slice (nothing where none is)."""

    names: tuple[str, ...]
    volumes: tuple[str, ...] = ()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For an ``.npz`` file: ``names``, and ``volumes`` where there are some."""
        named = {"names": self.names, **({"volumes": self.volumes} if self.volumes else {})}
        return {key: np.array(values) for key, values in named.items()}


def evaluation_contents(
    metrics: Metrics,
    counts: Counts,
    images: CountedImages,
    policy: dict[str, Any],
    label_space: LabelSpace,
    measures: Measures,
) -> dict[str, Any]:
    """Figures in percent, null where undefined.

    Args:
        metrics: of the matrix of ``counts``.
        images: in the order of the counts.
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
    confidence, intervals = _confidence(counts, images, measures)
    for index, row in enumerate(rows):
        row |= {name: values[index] for name, values in extra.items()} | {"IoU_interval": intervals[index]}
    constant = constant_figures(metrics)
    contents |= means | {"constant": constant, "confidence": confidence, "per_class": rows, "policy": policy_of_all}
    if measures.per_image:
        contents["per_image"] = per_image_figures(images.names, counts.image_counts.numpy())
    if counts.reliability is not None:
        contents["calibration"] = calibration_contents(counts.reliability, is_tempered(policy))
    if images.volumes:
        image_counts, absent = counts.image_counts.numpy(), measures.absent_classes
        contents["per_volume"] = volume_figures(image_counts, images.volumes, label_space, absent)
    return contents


def _confidence(
    counts: Counts, images: CountedImages, measures: Measures
) -> tuple[dict[str, Any], list[list[float] | None]]:
    """The interval of mIoU and those of the classes; null for fewer than two images, or volumes."""
    units, unit_counts = counts_by_volume(counts.image_counts.numpy(), images.names, images.volumes)
    confidence: dict[str, Any] = {"coverage": COVERAGE, "resamples": RESAMPLES, "mIoU": None}
    if images.volumes:
        confidence["resampled"] = "volumes"
    if not len(units):
        return confidence, [None] * unit_counts.shape[-1]
    found = bootstrap_intervals(unit_counts, RESAMPLES, policy=measures.absent_classes)
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
