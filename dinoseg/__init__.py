"""Semantic segmentation on frozen DINO backbones.

import dinoseg
segmenter = dinoseg.load("runs/retina")
result = segmenter.predict("fundus.png")
result.labels       # (H, W) label ids, as in the training masks
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinoseg.evaluation.dinov3_functions import (
        calculate_intersect_and_union as calculate_intersect_and_union,
    )
    from dinoseg.evaluation.dinov3_functions import (
        calculate_segmentation_metrics as calculate_segmentation_metrics,
    )
    from dinoseg.evaluation.dinov3_functions import (
        evaluate_segmentation_model as evaluate_segmentation_model,
    )
    from dinoseg.evaluation.dinov3_functions import make_inference as make_inference
    from dinoseg.inference.predictor import Prediction as Prediction
    from dinoseg.inference.predictor import Predictor as Predictor
    from dinoseg.inference.predictor import load as load
    from dinoseg.labels import LabelSpace as LabelSpace
    from dinoseg.labels import ReduceZeroLabel as ReduceZeroLabel
    from dinoseg.labels import preprocess_nonzero_labels as preprocess_nonzero_labels
    from dinoseg.labels import restore_original_labels as restore_original_labels

__version__ = "0.1.0"

_HOMES = {
    "dinoseg.inference.predictor": ("load", "Prediction", "Predictor"),
    "dinoseg.labels": ("LabelSpace", "ReduceZeroLabel", "preprocess_nonzero_labels", "restore_original_labels"),
    "dinoseg.evaluation.dinov3_functions": (
        "calculate_intersect_and_union",
        "calculate_segmentation_metrics",
        "evaluate_segmentation_model",
        "make_inference",
    ),
}
__all__ = sorted(["__version__", *(name for names in _HOMES.values() for name in names)])


def __getattr__(name: str) -> object:
    """Loads a public name when it is first used, so that ``dinoseg --help`` does not wait for PyTorch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'dinoseg' has no attribute {name!r}")
