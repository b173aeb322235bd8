"""Semantic segmentation on frozen DINO backbones.

    import dinoseg

    run = dinoseg.train({"datasets.root": "data/retina", "output_dir": "runs/retina"})
    evaluation = dinoseg.evaluate(run, split="test")
    segmenter = dinoseg.load(run)
    result = segmenter.predict("fundus.png")
    result.labels  # (height, width) label ids, as in the training masks

Work:

    train       trains a head on a backbone; returns the run
    evaluate    figures of a run on a split, or on a data set of your own
    load        a run folder as a predictor; of several, the mean

What they give and take:

    Run, Config, Evaluation, Metrics, Predictor, Prediction, ImageFeatures, LabelSpace, OwnDataset

Functions of DINOv3's segmentation code, under their own names:

    make_inference, evaluate_segmentation_model, calculate_intersect_and_union, calculate_segmentation_metrics,
    preprocess_nonzero_labels, ReduceZeroLabel, restore_original_labels

A name is loaded when it is first used. docs/api.md has examples.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinoseg.api.evaluation import evaluate as evaluate
    from dinoseg.api.run import Run as Run
    from dinoseg.api.training import train as train
    from dinoseg.config import Config as Config
    from dinoseg.data.items import OwnDataset as OwnDataset
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
    from dinoseg.evaluation.evaluate import Evaluation as Evaluation
    from dinoseg.evaluation.metrics import Metrics as Metrics
    from dinoseg.inference.features import ImageFeatures as ImageFeatures
    from dinoseg.inference.prediction import Prediction as Prediction
    from dinoseg.inference.predictor import Predictor as Predictor
    from dinoseg.inference.predictor import load as load
    from dinoseg.labels import LabelSpace as LabelSpace
    from dinoseg.labels import ReduceZeroLabel as ReduceZeroLabel
    from dinoseg.labels import preprocess_nonzero_labels as preprocess_nonzero_labels
    from dinoseg.labels import restore_original_labels as restore_original_labels

__version__ = "0.1.0"

_HOMES = {
    "dinoseg.api.evaluation": ("evaluate",),
    "dinoseg.api.run": ("Run",),
    "dinoseg.api.training": ("train",),
    "dinoseg.config": ("Config",),
    "dinoseg.data.items": ("OwnDataset",),
    "dinoseg.evaluation.evaluate": ("Evaluation",),
    "dinoseg.evaluation.metrics": ("Metrics",),
    "dinoseg.inference.features": ("ImageFeatures",),
    "dinoseg.inference.prediction": ("Prediction",),
    "dinoseg.inference.predictor": ("load", "Predictor"),
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


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return __all__
