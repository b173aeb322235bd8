"""How a segmenter is evaluated: all that decides the figures, beside the model and the images."""

from dataclasses import dataclass

import torch

from dinoseg.config import Config
from dinoseg.evaluation.measures import STANDARD_MEASURES, Measures, build_measures
from dinoseg.inference.policy import WindowPolicy, window_policy
from dinoseg.labels import LabelSpace
from dinoseg.system.device import DTYPES


@dataclass(frozen=True)
class EvaluationSettings:
    """One way to evaluate.

    Attributes:
        window: how an image is cut for the model and put together again.
        label_space: the classes, and what is ignored.
        measures: which figures are derived from the counts, and by which rules.
        autocast_dtype: precision of the forward pass; None for whatever the caller has set.
        num_workers: data loading processes.
        max_samples: evaluate an evenly spread, fixed subset of this size; None for every image.
    """

    window: WindowPolicy
    label_space: LabelSpace
    measures: Measures = STANDARD_MEASURES
    autocast_dtype: torch.dtype | None = None
    num_workers: int = 0
    max_samples: int | None = None


def evaluation_settings(config: Config, label_space: LabelSpace) -> EvaluationSettings:
    """What the config asks for, ``eval.max_val_samples`` included.

    Raises:
        ValueError: a value out of range, or ``eval.cldice`` names no class; the message names the key.
    """
    return EvaluationSettings(
        window=window_policy(config),
        label_space=label_space,
        measures=build_measures(config.eval, label_space),
        autocast_dtype=DTYPES[config.model_dtype],
        num_workers=config.num_workers,
        max_samples=config.eval.max_val_samples,
    )
