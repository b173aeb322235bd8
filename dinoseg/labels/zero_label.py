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
    wide = _widened(label)
    ignored = (wide == 0) | (wide == ignore_index)
    return torch.where(ignored, torch.full_like(wide, ignore_index), wide - 1).to(label.dtype)


def restore_original_labels(prediction: Integer[Tensor, "..."], ignore_index: int = 255) -> Integer[Tensor, "..."]:
    """The inverse of ``preprocess_nonzero_labels``: every class index goes up by one, the ignore index becomes 0.

    Raises:
        ValueError: ``ignore_index`` does not fit the dtype of ``prediction``.
    """
    _check_fits(prediction, ignore_index)
    wide = _widened(prediction)
    return torch.where(wide == ignore_index, torch.zeros_like(wide), wide + 1).to(prediction.dtype)


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


def _widened(label: Integer[Tensor, "..."]) -> Integer[Tensor, "..."]:
    """A type that torch can calculate with: it has none of the wide unsigned ones on a CPU."""
    return label.to(torch.int64) if label.dtype in (torch.uint16, torch.uint32, torch.uint64) else label


def _check_fits(label: Tensor, ignore_index: int) -> None:
    limits = torch.iinfo(label.dtype)
    if not limits.min <= ignore_index <= limits.max:
        raise ValueError(
            f"ignore_index={ignore_index} does not fit {label.dtype}; convert the label to torch.int64 first"
        )
