"""The confusion matrix of two class-index maps: exact integers, one pass over the pixels."""

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor

ClassMap = Integer[Tensor, "..."] | Integer[np.ndarray, "..."]

# Pixels counted at a time on the CPU: their pair codes (2 to 8 bytes each) stay in the second-level cache.
_CHUNK = 1 << 18
# Pairs change more rarely than this along a row of a real label map, and are then counted by runs.
_MOST_CHANGES = 0.2


def confusion_matrix(
    prediction: ClassMap, truth: ClassMap, num_classes: int, ignore_index: int = 255
) -> Int[Tensor, "{num_classes} {num_classes}"]:
    """Counts the pixels of every pair of true and predicted class; rows are truth, columns prediction.

    Args:
        prediction: class indices of any integer type; ignored pixels may hold anything.
        truth: same shape and device; class indices, or ``ignore_index`` where a pixel counts nowhere.
        num_classes: C; class indices are 0 .. C-1.
        ignore_index: any integer.

    Returns:
        int64 (C, C), on the device of the inputs (the CPU for arrays).

    Raises:
        ValueError: shapes differ, or a counted pixel is outside 0 .. C-1 in truth or prediction.
    """
    if tuple(prediction.shape) != tuple(truth.shape):
        raise ValueError(f"the prediction is {tuple(prediction.shape)} pixels, the truth {tuple(truth.shape)}")
    if isinstance(truth, Tensor) and isinstance(prediction, Tensor) and truth.device.type != "cpu":
        return _count_coded(prediction.flatten(), truth.flatten(), num_classes, ignore_index)
    predicted, true = _as_array(prediction), _as_array(truth)
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    bytewise = np.zeros((256, 256), np.int64)
    for start in range(0, true.size, _CHUNK):
        chunk = predicted[start : start + _CHUNK], true[start : start + _CHUNK]
        if all(_fits_byte(part) for part in chunk):
            bytewise += _count_bytes(*chunk)
        else:
            pixels = [torch.from_numpy(part.astype(np.int64)) for part in chunk]
            matrix += _count_coded(pixels[0], pixels[1], num_classes, ignore_index)
    return matrix + torch.from_numpy(_cut_to_classes(bytewise, num_classes, ignore_index))


def _as_array(class_map: ClassMap) -> Integer[np.ndarray, " pixels"]:
    array = class_map.cpu().numpy() if isinstance(class_map, Tensor) else class_map
    return array.reshape(-1)


def _fits_byte(values: Integer[np.ndarray, " pixels"]) -> bool:
    return values.dtype == np.uint8 or bool(values.min() >= 0 and values.max() <= 255)


def _count_bytes(
    prediction: Integer[np.ndarray, " pixels"], truth: Integer[np.ndarray, " pixels"]
) -> Int[np.ndarray, "256 256"]:
    """Counts of all pairs of bytes: what is ignored or out of range is sorted out in the table, not in the pixels."""
    codes = truth.astype(np.uint16)
    codes <<= 8
    codes |= prediction.astype(np.uint8, copy=False)
    ends = np.flatnonzero(codes[1:] != codes[:-1])
    if len(ends) > _MOST_CHANGES * len(codes):
        return np.bincount(codes, minlength=1 << 16).reshape(256, 256)
    # Label maps are made of runs. Weights are float64: exact, as no sum exceeds the chunk.
    lengths = np.diff(ends, prepend=-1, append=len(codes) - 1)
    counts = np.bincount(np.append(codes[ends], codes[-1]), weights=lengths, minlength=1 << 16)
    return counts.astype(np.int64).reshape(256, 256)


def _cut_to_classes(
    table: Int[np.ndarray, "256 256"], num_classes: int, ignore_index: int
) -> Int[np.ndarray, "{num_classes} {num_classes}"]:
    """The table's valid part, as large as the classes are many."""
    if 0 <= ignore_index < 256:
        table[ignore_index] = 0
    side = min(num_classes, 256)
    outside_truth, outside_prediction = int(table[side:].sum()), int(table[:side, side:].sum())
    _refuse_outside(outside_truth, outside_prediction, num_classes, ignore_index)
    matrix = np.zeros((num_classes, num_classes), np.int64)
    matrix[:side, :side] = table[:side, :side]
    return matrix


def _count_coded(
    prediction: Integer[Tensor, " pixels"], truth: Integer[Tensor, " pixels"], num_classes: int, ignore_index: int
) -> Int[Tensor, "{num_classes} {num_classes}"]:
    """Any integers on any device, through one code a pixel; three codes beyond the matrix mark what it cannot hold."""
    prediction, truth = prediction.long(), truth.long()
    cells = num_classes * num_classes
    codes = truth * num_classes + prediction
    codes[(prediction < 0) | (prediction >= num_classes)] = cells + 1
    codes[(truth < 0) | (truth >= num_classes)] = cells + 2
    codes[truth == ignore_index] = cells
    counts = torch.bincount(codes, minlength=cells + 3)
    _, outside_prediction, outside_truth = counts[cells:].tolist()
    _refuse_outside(outside_truth, outside_prediction, num_classes, ignore_index)
    return counts[:cells].reshape(num_classes, num_classes)


def _refuse_outside(truth: int, prediction: int, num_classes: int, ignore_index: int) -> None:
    for name, pixels in (("truth", truth), ("prediction", prediction)):
        if pixels:
            raise ValueError(
                f"{pixels} pixels of the {name} are outside the class indices 0..{num_classes - 1} where the truth is "
                f"not ignored ({ignore_index}); do num_classes and the label space of the masks agree?"
            )
