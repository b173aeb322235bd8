"""The label space: what a mask value means, mapped to class indices once and back at every exit."""

from importlib import import_module
from typing import TYPE_CHECKING

from dinoseg.labels.settings import LabelClass, LabelError
from dinoseg.labels.space import LabelSpace

if TYPE_CHECKING:
    from dinoseg.labels.zero_label import ReduceZeroLabel as ReduceZeroLabel
    from dinoseg.labels.zero_label import preprocess_nonzero_labels as preprocess_nonzero_labels
    from dinoseg.labels.zero_label import restore_original_labels as restore_original_labels

_OF_TENSORS = ("ReduceZeroLabel", "preprocess_nonzero_labels", "restore_original_labels")
__all__ = [
    "LabelClass",
    "LabelError",
    "LabelSpace",
    "ReduceZeroLabel",
    "preprocess_nonzero_labels",
    "restore_original_labels",
]


def __getattr__(name: str) -> object:
    """Loads what works on tensors when it is first used, so that label ids alone do not wait for PyTorch."""
    if name in _OF_TENSORS:
        return getattr(import_module("dinoseg.labels.zero_label"), name)
    raise AttributeError(f"module 'dinoseg.labels' has no attribute {name!r}")
