"""The label functions of DINOv3's segmentation code, by their own names, right for every integer dtype.

dinoseg itself needs none of them: a ``LabelSpace`` with ``reduce_zero_label`` does the same by its table.
"""

import torch
from jaxtyping import Integer
from torch import Tensor


def preprocess_nonzero_labels(label: Integer[Tensor, "..."], ignore_index: int = 255) -> Integer[Tensor, "..."]:
    """Label id 0 becomes the ignore index, existing ignore index stays, every other id goes down by one.

    Raises:
        ValueError: ``ignore_index`` does not fit the dtype of ``label``.
    """
    _check_fits(label, ignore_index)
    ignored = (label == 0) | (label == ignore_index)
    return torch.where(ignored, torch.full_like(label, ignore_index), label - 1)


def restore_original_labels(prediction: Integer[Tensor, "..."], ignore_index: int = 255) -> Integer[Tensor, "..."]:
    """The inverse of ``preprocess_nonzero_labels``: every class index goes up by one, the ignore index becomes 0.

    Raises:
        ValueError: ``ignore_index`` does not fit the dtype of ``prediction``.
    """
    _check_fits(prediction, ignore_index)
    return torch.where(prediction == ignore_index, torch.zeros_like(prediction), prediction + 1)


class ReduceZeroLabel:
    """``preprocess_nonzero_labels`` as a transform of a label, or of an image (left as it is) and its label."""

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index

    def __call__(self, *image_and_label: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """``transform(label)`` gives the label, ``transform(image, label)`` the pair.

        Raises:
            ValueError: neither one nor two tensors.
        """
        if len(image_and_label) not in (1, 2):
            raise ValueError(
                f"ReduceZeroLabel takes a label, or an image and a label; got {len(image_and_label)} values"
            )
        label = preprocess_nonzero_labels(image_and_label[-1], self.ignore_index)
        return label if len(image_and_label) == 1 else (image_and_label[0], label)


def _check_fits(label: Tensor, ignore_index: int) -> None:
    limits = torch.iinfo(label.dtype)
    if not limits.min <= ignore_index <= limits.max:
        raise ValueError(
            f"ignore_index={ignore_index} does not fit {label.dtype}; convert the label to torch.int64 first"
        )
