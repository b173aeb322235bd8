"""What an evaluation measures beyond the confusion matrix, and by which rules: the ``eval.*`` keys of the figures."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from dinoseg.config import EvalConfig
from dinoseg.evaluation.metrics import AbsentPolicy
from dinoseg.evaluation.skeleton import require_skeletonize
from dinoseg.labels import LabelSpace

# As the file of a shard may have them.
_AboveZero = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_Truth = Annotated[bool, Field(strict=True)]
_ClassIndex = Annotated[int, Field(strict=True, ge=0)]


@dataclass(frozen=True)
class Measures:
    """The choices behind the figures.

    Attributes:
        absent_classes: which classes count in the means, see ``Metrics``.
        beta: weight of recall against precision in the F-score.
        per_image: whether metrics.json also has the mean of per-image figures and the worst images.
        boundary_width: of boundary IoU, as a share of the image diagonal; None: not measured.
        thin_classes: class indices whose clDice is measured.
        reliability: whether probabilities are measured, too: ECE and NLL.
    """

    absent_classes: AbsentPolicy = "skip_empty"
    beta: _AboveZero = 1.0
    per_image: _Truth = False
    boundary_width: _AboveZero | None = None
    thin_classes: tuple[_ClassIndex, ...] = ()
    reliability: _Truth = False


STANDARD_MEASURES = Measures()


def build_measures(config: EvalConfig, label_space: LabelSpace) -> Measures:
    """The measures that the config asks for.

    Raises:
        ValueError: ``eval.cldice`` names no class of the label space, or scikit-image is not installed.
    """
    absent: Any = config.absent_classes
    return Measures(
        absent_classes=absent,
        beta=config.beta,
        per_image=config.compute_metric_per_image,
        boundary_width=config.boundary_width if config.boundary_iou else None,
        thin_classes=_thin_classes(config.cldice, label_space),
    )


def _thin_classes(names: list[str], label_space: LabelSpace) -> tuple[int, ...]:
    if unknown := [name for name in names if name not in label_space.class_names]:
        raise ValueError(
            f"eval.cldice={names}: no class is named {unknown[0]!r}; choose from {', '.join(label_space.class_names)}"
        )
    if names:
        require_skeletonize()
    return tuple(index for index, name in enumerate(label_space.class_names) if name in names)
