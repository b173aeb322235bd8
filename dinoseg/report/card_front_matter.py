"""The head of a model card: what the Hub sorts, filters and draws by, as its own client writes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from dinoseg.hub.layout import LIBRARY

# Figures of metrics.json, what the Hub calls their kind, and what they are called there.
_FIGURES = (
    ("mIoU", "mean_iou", "mIoU (%)"),
    ("mDice", "dice", "mean Dice (%)"),
    ("mAcc", "mean_accuracy", "mean accuracy (%)"),
    ("aAcc", "accuracy", "pixel accuracy (%)"),
)
_DINOV3_LICENCE = "https://ai.meta.com/resources/models-and-libraries/dinov3-license"


@dataclass(frozen=True)
class Licence:
    """A licence as the Hub names it; ``name`` and ``link`` where it is none of those that the Hub knows."""

    identifier: str
    name: str | None = None
    link: str | None = None

    @staticmethod
    def of(words: str) -> "Licence | None":
        """That of a backbone, as the catalogue or timm writes it; None where it is not stated."""
        if words == "DINOv3 License" or words.lower().startswith("dinov3"):
            return Licence("other", "dinov3-license", _DINOV3_LICENCE)
        return None if " " in words else Licence(words.lower())


@dataclass(frozen=True)
class FrontMatter:
    """What it says.

    Attributes:
        name: of the repository, without its owner.
        base_model: ``owner/name`` of the backbone's weights on the Hub; None where they are not there.
        licence: of the backbone's weights.
        tags: words to be found by.
        split: of the evaluation.
        metrics: contents of its metrics.json; None without one.
    """

    name: str
    base_model: str | None
    licence: Licence | None
    tags: tuple[str, ...]
    split: str = ""
    metrics: Mapping[str, Any] | None = None

    def to_yaml(self) -> str:
        """The head with the lines around it."""
        licence, results = self.licence, self._results()
        data = ModelCardData(
            library_name=LIBRARY,
            pipeline_tag="image-segmentation",
            base_model=self.base_model,
            license=None if licence is None else licence.identifier,
            license_name=None if licence is None else licence.name,
            license_link=None if licence is None else licence.link,
            tags=list(self.tags),
            model_name=self.name if results else None,
            eval_results=results or None,
        )
        return f"---\n{data.to_yaml()}\n---\n"

    def _results(self) -> list[EvalResult]:
        metrics = self.metrics or {}
        return [
            EvalResult(
                task_type="image-segmentation",
                task_name="Semantic segmentation",
                dataset_type="own",
                dataset_name="data of the training",
                dataset_split=self.split,
                metric_type=kind,
                metric_name=name,
                metric_value=round(metrics[key], 4),
            )
            for key, kind, name in _FIGURES
            if metrics.get(key) is not None
        ]
