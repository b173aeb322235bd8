"""The label space: what a mask value means, mapped to class indices once and back at every exit."""

from dinoseg.labels.settings import LabelClass, LabelError
from dinoseg.labels.space import LabelSpace
from dinoseg.labels.zero_label import ReduceZeroLabel, preprocess_nonzero_labels, restore_original_labels

__all__ = [
    "LabelClass",
    "LabelError",
    "LabelSpace",
    "ReduceZeroLabel",
    "preprocess_nonzero_labels",
    "restore_original_labels",
]
