"""Bilinear resampling of score maps, a few output rows at a time, and the argmax over classes.

Rows of an output are computed from explicit weights by single-rounding operations in a fixed order, so a row comes
out the same, to the last bit, whether it is computed alone or with all others.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class AxisMap:
    """Bilinear resampling along one axis: output pixel i is ``lower[i] * (1 - share[i]) + upper[i] * share[i]``.

    Pixel centres at half-integers, borders repeated, no antialiasing (``align_corners=False``).
    """

    lower: Int[Tensor, " output"]
    upper: Int[Tensor, " output"]
    share: Float[Tensor, " output"]
    is_identity: bool

    @staticmethod
    def between(source: int, output: int, device: torch.device) -> "AxisMap":
        """From ``source`` pixels to ``output`` pixels."""
        # On the CPU in float64, whatever the device: positions of large images want more than 24 bits.
        position = ((torch.arange(output, dtype=torch.float64) + 0.5) * (source / output) - 0.5).clamp_(0, source - 1)
        lower = position.floor()
        upper = (lower + 1).clamp_(max=source - 1)
        share = (position - lower).float()
        return AxisMap(lower.long().to(device), upper.long().to(device), share.to(device), source == output)

    def source_rows(self, first: int, last: int) -> tuple[int, int]:
        """The range of source pixels that output pixels ``first`` to ``last`` (exclusive) are made of."""
        if self.is_identity:
            return first, last
        return int(self.lower[first]), int(self.upper[last - 1]) + 1


def resample_rows(
    scores: Float[Tensor, "classes source_rows source_width"], first_source: int, rows: AxisMap, first: int, last: int
) -> Float[Tensor, "classes rows source_width"]:
    """Output rows ``first`` to ``last`` from the source rows that begin at ``first_source``."""
    if rows.is_identity:
        return scores
    share = rows.share[first:last, None]
    upper = scores[:, rows.upper[first:last] - first_source].mul_(share)
    return scores[:, rows.lower[first:last] - first_source].mul_(1 - share).add_(upper)


def resample_columns(
    scores: Float[Tensor, "classes rows source_width"], columns: AxisMap
) -> Float[Tensor, "classes rows width"]:
    """The rows at the output's width."""
    if columns.is_identity:
        return scores
    upper = scores.index_select(-1, columns.upper).mul_(columns.share)
    return scores.index_select(-1, columns.lower).mul_(1 - columns.share).add_(upper)


def resize_image(
    image: Float[Tensor, "3 height width"], size: tuple[int, int]
) -> Float[Tensor, "3 new_height new_width"]:
    """Bilinear with antialiasing; the image itself where the size is its own."""
    if tuple(image.shape[-2:]) == size:
        return image
    return functional.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


def argmax_classes(
    scores: Float[Tensor, "classes height width"],
) -> UInt8[Tensor, "height width"] | Int[Tensor, "height width"]:
    """Index of the largest score, the first where several are; uint8 on the CPU up to 256 classes, else integers.

    On the CPU one pass over the classes with the running maximum in cache: an order of magnitude faster than
    ``torch.argmax`` over the leading dimension.
    """
    if scores.device.type != "cpu":
        return scores.argmax(dim=0).to(torch.uint8 if len(scores) <= 256 else torch.int32)
    values = scores.numpy()
    dtype = np.uint8 if len(values) <= 256 else np.int32
    best = values[0].copy()
    winner = np.zeros(best.shape, dtype)
    larger = np.empty(best.shape, bool)
    candidate = np.empty(best.shape, dtype)
    for index in range(1, len(values)):
        np.greater(values[index], best, out=larger)
        np.multiply(larger, dtype(index), out=candidate)
        # Indices ascend, so the largest index that ever won is the winner.
        np.maximum(winner, candidate, out=winner)
        np.maximum(best, values[index], out=best)
    return torch.from_numpy(winner)
