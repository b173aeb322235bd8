"""Weighted sums of bilinear samples of maps: the kernel of deformable attention, in plain PyTorch for any device.

All samples of a query and head are one bag of rows of one table, summed by one fused operation, so the samples
themselves (gigabytes over the layers of an encoder) are never written out. The gradient of the values is such a sum
too, over bags made by sorting: no atomic additions, hence the same result every time on a GPU as well.

Heads come before queries in everything below: the rows that one head of one image reads lie together, in a processor's
cache. And each quantity of a sample has an array of its own, so that arithmetic runs along contiguous memory.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Shapes = tuple[tuple[int, int], ...]

# Zeros around each map: a sample outside it reads two border cells along the axis where it is outside.
_BORDER = 2
# Bytes of cells gathered at once for the gradient of the weights: in cache on a CPU, a small share of a GPU's memory.
_GATHERED = {"cpu": 1 << 23}
_GATHERED_ELSEWHERE = 1 << 27


def sample_levels(
    values: Float[Tensor, "batch tokens heads channels"],
    shapes: Shapes,
    references: Float[Tensor, "queries 2"],
    steering: Float[Tensor, "batch queries 3 heads levels points"],
) -> Float[Tensor, "batch queries heads_times_channels"]:
    """Weighted mean over levels and points of the values around the references; zero outside the maps.

    Values, references and steering have one floating type, fp32 or fp64. Differentiable once with respect to values
    and steering.

    Args:
        values: cells of all maps, row by row, map after map.
        shapes: height and width of each map.
        references: x and y as shares of width and height of each map; 0 and 1 are the outer edges of the map.
        steering: of each sample, how many cells of its level it lies right of and below the reference, and the
            logit of its weight; the weights of a query and head are the softmax over levels and points.
    """
    return _WeightedSamples.apply(values, shapes, references, steering)


class _WeightedSamples(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, shapes: Shapes, references: Tensor, steering: Tensor) -> Tensor:
        table = _bordered(values, shapes)
        first, shares, weights = _cells(references, steering, shapes)
        ctx.shapes = shapes
        ctx.save_for_backward(table, first, shares, weights)
        summed = functional.embedding_bag(
            _corner_rows(first, shapes).flatten(0, 2).flatten(1),
            table.flatten(0, 2),
            per_sample_weights=_corner_weights(shares, weights).flatten(0, 2).flatten(1),
            mode="sum",
        )
        return summed.view(*first.shape[:3], -1).transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, Tensor]:
        table, first, shares, weights = ctx.saved_tensors
        bags = gradient.unflatten(2, (table.shape[1], -1)).transpose(1, 2).flatten(0, 2)
        to_values = _value_gradient(bags, table, first, shares, weights, ctx.shapes)
        # How well each of the four cells of a sample agrees with the gradient of its bag.
        upper_left, upper_right, lower_left, lower_right = _corner_products(bags, table, first, ctx.shapes).unbind(3)
        right, below = shares
        upper = torch.lerp(upper_left, upper_right, right)
        lower = torch.lerp(lower_left, lower_right, right)
        to_steering = weights.new_empty(3, *weights.shape)
        torch.lerp(upper_right.sub_(upper_left), lower_right.sub_(lower_left), below, out=to_steering[0])
        torch.sub(lower, upper, out=to_steering[1])
        torch.lerp(upper, lower, below, out=to_steering[2])
        to_steering *= weights
        to_steering[2] -= weights * to_steering[2].sum(dim=-1, keepdim=True)
        levels = len(ctx.shapes)
        return to_values, None, None, to_steering.permute(1, 3, 0, 2, 4).unflatten(4, (levels, -1))


def _bordered(
    values: Float[Tensor, "batch tokens heads channels"], shapes: Shapes
) -> Float[Tensor, "batch heads bordered_tokens channels"]:
    batch, _, heads, channels = values.shape
    table = values.new_zeros(batch, heads, sum(_bordered_counts(shapes)), channels)
    maps = values.split([height * width for height, width in shapes], dim=1)
    for grid, cells, shape in zip(_grids(table, shapes), maps, shapes, strict=True):
        inside = grid[:, :, _BORDER:-_BORDER, _BORDER:-_BORDER]
        inside.copy_(cells.unflatten(1, shape).permute(0, 3, 1, 2, 4))
    return table


def _bordered_counts(shapes: Shapes) -> list[int]:
    return [(height + 2 * _BORDER) * (width + 2 * _BORDER) for height, width in shapes]


def _grids(table: Float[Tensor, "batch heads bordered_tokens channels"], shapes: Shapes) -> list[Tensor]:
    """The table's part of each level as a map, (batch, heads, height, width, channels), borders included."""
    parts = table.split(_bordered_counts(shapes), dim=2)
    return [
        part.unflatten(2, (height + 2 * _BORDER, width + 2 * _BORDER))
        for part, (height, width) in zip(parts, shapes, strict=True)
    ]


def _cells(
    references: Float[Tensor, "queries 2"],
    steering: Float[Tensor, "batch queries 3 heads levels points"],
    shapes: Shapes,
) -> tuple[
    Int[Tensor, "batch heads queries samples"],
    Float[Tensor, "2 batch heads queries samples"],
    Float[Tensor, "batch heads queries samples"],
]:
    """Table row of the upper left of the four cells of each sample, shares of the right and lower cells, weights."""
    batch, queries, _, heads, _, points = steering.shape
    planes = steering.permute(2, 0, 3, 1, 4, 5).flatten(4).clone(memory_format=torch.contiguous_format)

    def every_sample(numbers: Tensor) -> Tensor:
        """Numbers of each (axis, query, level), written out for all samples, so that arithmetic is vectorised."""
        whole = numbers[..., None].expand(*numbers.shape[:-2], queries, -1, points)
        return whole.flatten(-2).contiguous()[:, None, None]

    sizes = references.new_tensor([[width for _, width in shapes], [height for height, _ in shapes]])[:, None]
    pixels = planes[:2].add_(every_sample(references.t()[:, :, None] * sizes + (_BORDER - 0.5)))
    # Far outside is as good as just outside.
    limits = every_sample(sizes + (2 * _BORDER - 1))
    pixels = torch.minimum(pixels.clamp_(min=0), limits, out=pixels)
    # NaN must be no row outside the table. The shares stay NaN, so that it reaches the loss, where it is reported.
    corner = pixels.floor().nan_to_num_(0.0)
    corner = torch.minimum(corner, limits - 1, out=corner)
    shares = pixels.sub_(corner)
    column, row = corner.to(torch.int32)

    counts = _bordered_counts(shapes)
    starts = [sum(counts[:level]) for level in range(len(shapes))]
    layout = torch.tensor([[width + 2 * _BORDER for _, width in shapes], starts], dtype=torch.int32, device=row.device)
    widths, places = every_sample(layout[:, None])[:, 0, 0]
    heads_before = torch.arange(batch * heads, dtype=torch.int32, device=row.device).view(batch, heads, 1, 1)
    first = row.mul_(widths).add_(column).add_(places).add_(heads_before * sum(counts))
    return first, shares, _softmax(planes[2])


def _softmax(logits: Float[Tensor, "batch heads queries samples"]) -> Float[Tensor, "batch heads queries samples"]:
    """Softmax over the samples, in place; PyTorch's own takes six times as long over rows of a dozen."""
    powers = logits.sub_(logits.amax(dim=-1, keepdim=True)).exp_()
    return powers.div_(powers.sum(dim=-1, keepdim=True))


def _corner_rows(
    first: Int[Tensor, "batch heads queries samples"], shapes: Shapes
) -> Int[Tensor, "batch heads queries 4 samples"]:
    """Table rows of each query and head: upper left cells of all samples, upper right, lower left, lower right."""
    points = first.shape[-1] // len(shapes)
    below = first.new_tensor([width + 2 * _BORDER for _, width in shapes]).repeat_interleave(points)
    rows = first.new_empty(*first.shape[:-1], 4, first.shape[-1])
    for corner, step in enumerate((torch.zeros_like(below), torch.ones_like(below), below, below + 1)):
        torch.add(first, step, out=rows[..., corner, :])
    return rows


def _corner_weights(
    shares: Float[Tensor, "2 batch heads queries samples"], weights: Float[Tensor, "batch heads queries samples"]
) -> Float[Tensor, "batch heads queries 4 samples"]:
    """The weight of each sample spread over its four cells, in the order of the rows."""
    spread = weights.new_empty(*weights.shape[:-1], 4, weights.shape[-1])
    _spread(shares[0], shares[1], weights, spread.movedim(-2, 0))
    return spread


def _spread(right: Tensor, below: Tensor, weights: Tensor, corners: Tensor) -> None:
    """Writes the weights of the four cells, upper left, upper right, lower left, lower right, into ``corners``."""
    lower = weights * below
    upper = weights - lower
    torch.mul(upper, right, out=corners[1])
    torch.mul(lower, right, out=corners[3])
    torch.sub(upper, corners[1], out=corners[0])
    torch.sub(lower, corners[3], out=corners[2])


def _corner_products(
    bags: Float[Tensor, "bags channels"],
    table: Float[Tensor, "batch heads bordered_tokens channels"],
    first: Int[Tensor, "batch heads queries samples"],
    shapes: Shapes,
) -> Float[Tensor, "batch heads queries 4 samples"]:
    """Products of each bag's gradient with the four cells of each of its samples.

    The cells are gathered in slices: all of them would be the largest tensor of the network.
    """
    rows = _corner_rows(first, shapes)
    products = torch.empty_like(rows, dtype=table.dtype)
    per_bag, channels = 4 * first.shape[-1], table.shape[-1]
    limit = _GATHERED.get(table.device.type, _GATHERED_ELSEWHERE)
    count = max(1, limit // (per_bag * channels * table.element_size()))
    gathered = table.new_empty(min(count, len(bags)) * per_bag, channels)
    parts = (tensor.split(count) for tensor in (bags, rows.view(-1, per_bag), products.view(-1, 1, per_bag)))
    for bag, row, out in zip(*parts, strict=True):
        cells = gathered[: row.numel()]
        torch.index_select(table.view(-1, channels), 0, row.flatten(), out=cells)
        torch.bmm(bag[:, None], cells.view(len(bag), per_bag, channels).transpose(1, 2), out=out)
    return products


def _value_gradient(
    bags: Float[Tensor, "bags channels"],
    table: Float[Tensor, "batch heads bordered_tokens channels"],
    first: Int[Tensor, "batch heads queries samples"],
    shares: Float[Tensor, "2 batch heads queries samples"],
    weights: Float[Tensor, "batch heads queries samples"],
    shapes: Shapes,
) -> Float[Tensor, "batch tokens heads channels"]:
    """For each cell, the sum of the gradients of the bags that it went into.

    Samples are sorted by their upper left cell once. The sums for the other three corners have the same bags, and
    belong to the cells one to the right, below, and both.
    """
    cells, order = first.flatten().sort(stable=True)
    every_cell = torch.arange(table.shape[:3].numel(), dtype=cells.dtype, device=cells.device)
    starts = torch.searchsorted(cells, every_cell, out_int32=True)
    sources = (order // weights.shape[-1]).to(torch.int32)
    corners = weights.new_empty(4, weights.numel())
    right, below, weight = (numbers.flatten().index_select(0, order) for numbers in (*shares, weights))
    _spread(right, below, weight, corners)
    batch, heads, _, channels = table.shape
    gradients = bags.new_zeros(batch, sum(height * width for height, width in shapes), heads, channels)
    levels = gradients.split([height * width for height, width in shapes], dim=1)
    for number, corner in enumerate(corners):
        sums = functional.embedding_bag(sources, bags, starts, per_sample_weights=corner, mode="sum").view_as(table)
        top, left = _BORDER - number // 2, _BORDER - number % 2
        for (height, width), level, grid in zip(shapes, levels, _grids(sums, shapes), strict=True):
            part = grid[:, :, top : top + height, left : left + width]
            level.unflatten(1, (height, width)).add_(part.permute(0, 2, 3, 1, 4))
    return gradients
