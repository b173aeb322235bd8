"""Bilinear resampling of score maps, a few output rows at a time.

``resample_rows`` and ``resample_columns`` use explicit weights and single-rounding operations in a fixed order. So a
row comes out the same, to the last bit, whether it is computed alone or with all others, as the window engine promises.
``upsample_rows`` promises less and is faster, for the masks of a hundred queries.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

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
    length, share = max(1, _BLOCK_CELLS // max(rows.shape[1], result.shape[1])), columns.share[:, None]
    for part, out in zip(rows.split(length), result.split(length), strict=True):
        cells = part.t().contiguous()
        upper = cells.index_select(0, columns.upper).mul_(share)
        out.copy_(cells.index_select(0, columns.lower).mul_(1 - share).add_(upper).t())
    return result.view(*scores.shape[:-1], -1)


def upsample_rows(
    maps: Float[Tensor, "batch maps map_height map_width"], size: tuple[int, int], first: int, last: int
) -> Float[Tensor, "batch maps rows width"]:
    """Rows ``first`` to ``last`` (exclusive) of the maps resized bilinearly to ``size``, without forming the rest.

    Interpolated in one pass, which takes half the time of ``resample_rows`` and ``resample_columns``. The last bit of a
    row may depend on the rows that it is computed with.
    """
    height = maps.shape[-2]
    position = (torch.arange(first, last, device=maps.device) + 0.5) * (height / size[0]) - 0.5
    position = position.clamp(min=0)
    above = position.floor().long()
    below = (above + 1).clamp(max=height - 1)
    share = (position - above)[:, None]
    rows = torch.lerp(maps[:, :, above], maps[:, :, below], share)
    return _upsample_columns(rows, size[1])


def _upsample_columns(
    rows: Float[Tensor, "batch maps rows map_width"], width: int
) -> Float[Tensor, "batch maps rows width"]:
    """The rows resized bilinearly to ``width``."""
    cells = rows.shape[-1]
    if width % cells or rows.requires_grad:
        return functional.interpolate(rows, size=(rows.shape[-2], width), mode="bilinear", align_corners=False)
    # Whole steps, the usual case, have few shares: a pass for each takes half the time, and has no gradient.
    step = width // cells
    padded = torch.cat([rows[..., :1], rows, rows[..., -1:]], dim=-1)
    result = rows.new_empty(*rows.shape, step)
    for place in range(step):
        position = (place + 0.5) / step + 0.5
        left = int(position)
        pair = padded[..., left : left + cells], padded[..., left + 1 : left + 1 + cells]
        torch.lerp(*pair, position - left, out=result[..., place])
    return result.flatten(-2)
