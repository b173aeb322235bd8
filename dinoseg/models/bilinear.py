"""Bilinear resampling of score maps, a few output rows at a time.

Rows of an output are computed from explicit weights by single-rounding operations in a fixed order. So a row comes out
the same, to the last bit, whether it is computed alone or with all others.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Cells that are gathered at once along the width: they stay in a processor's cache.
_BLOCK_CELLS = 1 << 18


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
    scores: Float[Tensor, "*maps source_rows source_width"], first_source: int, rows: AxisMap, first: int, last: int
) -> Float[Tensor, "*maps rows source_width"]:
    """Output rows ``first`` to ``last`` (exclusive).

    Args:
        scores: at least the source rows of these; the first one is ``first_source``.
    """
    if rows.is_identity:
        return scores[..., first - first_source : last - first_source, :]
    share = rows.share[first:last, None]
    upper = scores[..., rows.upper[first:last] - first_source, :].mul_(share)
    return scores[..., rows.lower[first:last] - first_source, :].mul_(1 - share).add_(upper)


def resample_columns(
    scores: Float[Tensor, "*maps rows source_width"], columns: AxisMap
) -> Float[Tensor, "*maps rows width"]:
    """The rows at the output's width."""
    if columns.is_identity:
        return scores
    if scores.device.type != "cpu" or scores.requires_grad:
        upper = scores.index_select(-1, columns.upper).mul_(columns.share)
        return scores.index_select(-1, columns.lower).mul_(1 - columns.share).add_(upper)
    # A CPU takes five times as long to gather along the last dimension: block by block, columns become rows for it.
    rows = scores.flatten(0, -2)
    result = rows.new_empty(len(rows), len(columns.lower))
    length, share = max(1, _BLOCK_CELLS // result.shape[1]), columns.share[:, None]
    for part, out in zip(rows.split(length), result.split(length), strict=True):
        cells = part.t().contiguous()
        upper = cells.index_select(0, columns.upper).mul_(share)
        out.copy_(cells.index_select(0, columns.lower).mul_(1 - share).add_(upper).t())
    return result.view(*scores.shape[:-1], -1)
