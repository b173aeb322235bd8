"""Weighted sums of bilinear samples of maps: the kernel of deformable attention, in plain PyTorch for any device.

All samples of a query and head are one bag of rows of one table, summed by one fused operation, so the samples
themselves (gigabytes over the layers of an encoder) are never written out. The gradient of the values is such a sum
too, over bags made by sorting: no atomic additions, hence the same result every time on a GPU as well.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Shapes = tuple[tuple[int, int], ...]

# Zeros around each map: a sample outside it reads two border cells along the axis where it is outside.
_BORDER = 2


def sample_levels(
    values: Float[Tensor, "batch tokens heads channels"],
    shapes: Shapes,
    locations: Float[Tensor, "batch queries heads levels points 2"],
    weights: Float[Tensor, "batch queries heads levels points"],
) -> Float[Tensor, "batch queries heads_times_channels"]:
    """Sum over levels and points of ``weights`` times the value at the location; zero outside the maps.

    Values, locations and weights have one floating type, fp32 or fp64. Differentiable once with respect to all three.

    Args:
        values: cells of all maps, row by row, map after map.
        shapes: height and width of each map.
        locations: x and y as shares of width and height of each map; 0 and 1 are the outer edges of the map.
    """
    return _WeightedSamples.apply(values, shapes, locations, weights)


class _WeightedSamples(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        batch, _, heads, channels = values.shape
        table = _bordered(values, shapes)
        first, shares = _cells(locations, shapes)
        ctx.shapes = shapes
        ctx.save_for_backward(table, first, shares, weights)
        bags = weights.shape[:3].numel()
        summed = functional.embedding_bag(
            _corner_rows(first, shapes),
            table.flatten(0, 2),
            per_sample_weights=_corner_weights(shares, weights).view(bags, -1),
            mode="sum",
        )
        return summed.view(batch, -1, heads * channels)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        table, first, shares, weights = ctx.saved_tensors
        bags = gradient.reshape(-1, table.shape[-1])
        to_values = _value_gradient(bags, table, first, shares, weights, ctx.shapes)
        # How well each of the four cells of a sample agrees with the gradient of its bag.
        upper_left, upper_right, lower_left, lower_right = _corner_products(bags, table, first, ctx.shapes)
        right, below = shares
        upper = torch.lerp(upper_left, upper_right, right)
        lower = torch.lerp(lower_left, lower_right, right)
        along_x = torch.lerp(upper_right - upper_left, lower_right - lower_left, below)
        to_pixels = torch.stack([along_x, lower - upper], dim=-1) * weights[..., None]
        return to_values, None, to_pixels * _sizes(ctx.shapes, to_pixels), torch.lerp(upper, lower, below)


def _sizes(shapes: Shapes, like: Tensor) -> Float[Tensor, "levels 1 2"]:
    return like.new_tensor([[(width, height)] for height, width in shapes])


def _bordered(
    values: Float[Tensor, "batch tokens heads channels"], shapes: Shapes
) -> Float[Tensor, "batch bordered_tokens heads channels"]:
    maps = values.split([height * width for height, width in shapes], dim=1)
    return torch.cat(
        [
            functional.pad(cells.unflatten(1, shape), (0, 0, 0, 0, *([_BORDER] * 4))).flatten(1, 2)
            for cells, shape in zip(maps, shapes, strict=True)
        ],
        dim=1,
    )


def _cells(
    locations: Float[Tensor, "batch queries heads levels points 2"], shapes: Shapes
) -> tuple[Int[Tensor, "batch queries heads levels points"], Float[Tensor, "2 batch queries heads levels points"]]:
    """Table row of the upper left of the four cells around each location; shares of the right and the lower cells."""
    batch, _, heads = locations.shape[:3]
    # Written out for all heads and points: rows of two numbers would keep the loops below from being vectorised.
    sizes = _sizes(shapes, locations).expand(locations.shape[2:]).contiguous()
    pixels = (locations * sizes).sub_(0.5 - _BORDER)
    # Far outside is as good as just outside.
    pixels = pixels.clamp_(min=0).minimum(sizes + (2 * _BORDER - 1))
    corner = pixels.floor().minimum(sizes + (2 * _BORDER - 2))
    shares = (pixels - corner).movedim(-1, 0).contiguous()
    column, row = corner.to(torch.int32).unbind(-1)

    counts = [(height + 2 * _BORDER) * (width + 2 * _BORDER) for height, width in shapes]
    starts = [sum(counts[:level]) for level in range(len(shapes))]
    device = locations.device
    widths = torch.tensor([[width + 2 * _BORDER] for _, width in shapes], dtype=torch.int32, device=device)
    images = torch.arange(batch, dtype=torch.int32, device=device)[:, None, None, None, None] * sum(counts)
    places = images + torch.tensor(starts, dtype=torch.int32, device=device)[:, None]
    head = torch.arange(heads, dtype=torch.int32, device=device)[:, None, None]
    return (column + row * widths).add_(places).mul_(heads).add_(head), shares


def _corner_rows(first: Int[Tensor, "batch queries heads levels points"], shapes: Shapes) -> Int[Tensor, "bags rows"]:
    """Table rows of all samples of each query and head: upper left, upper right, lower left, lower right."""
    batch, queries, heads = first.shape[:3]
    below = [width + 2 * _BORDER for _, width in shapes]
    steps = first.new_tensor([[(0, 1, step, step + 1)] for step in below]) * heads
    return (first[..., None] + steps).view(batch * queries * heads, -1)


def _corner_weights(
    shares: Float[Tensor, "2 batch queries heads levels points"],
    weights: Float[Tensor, "batch queries heads levels points"],
) -> Float[Tensor, "batch queries heads levels points 4"]:
    """The weight of each sample spread over its four cells."""
    right, below = shares
    lower = weights * below
    upper = weights - lower
    lower_right, upper_right = lower * right, upper * right
    return torch.stack([upper - upper_right, upper_right, lower - lower_right, lower_right], dim=-1)


def _corner_products(
    bags: Float[Tensor, "bags channels"],
    table: Float[Tensor, "batch bordered_tokens heads channels"],
    first: Int[Tensor, "batch queries heads levels points"],
    shapes: Shapes,
) -> tuple[Tensor, ...]:
    """Products of each bag's gradient with the four cells of each of its samples."""
    rows = _corner_rows(first, shapes)
    with torch.enable_grad():
        weights = torch.zeros(rows.shape, dtype=table.dtype, device=table.device, requires_grad=True)
        summed = functional.embedding_bag(rows, table.flatten(0, 2), per_sample_weights=weights, mode="sum")
        (products,) = torch.autograd.grad(summed, weights, bags)
    return products.view(*first.shape, 4).unbind(-1)


def _value_gradient(
    bags: Float[Tensor, "bags channels"],
    table: Float[Tensor, "batch bordered_tokens heads channels"],
    first: Int[Tensor, "batch queries heads levels points"],
    shares: Float[Tensor, "2 batch queries heads levels points"],
    weights: Float[Tensor, "batch queries heads levels points"],
    shapes: Shapes,
) -> Float[Tensor, "batch tokens heads channels"]:
    """For each cell, the sum of the gradients of the bags that it went into.

    Samples are sorted by their upper left cell once. The sums for the other three corners have the same bags, and
    belong to the cells one to the right, below, and both.
    """
    cells, order = first.flatten().sort(stable=True)
    every_cell = torch.arange(table.shape[:3].numel(), dtype=cells.dtype, device=cells.device)
    starts = torch.searchsorted(cells, every_cell, out_int32=True)
    sources = (order // weights.shape[3:].numel()).to(torch.int32)
    # Each sample's four weights move together: the permutation is read once.
    spread = _corner_weights(shares, weights).view(-1, 4).index_select(0, order).t().contiguous()
    corners = [
        functional.embedding_bag(sources, bags, starts, per_sample_weights=corner, mode="sum")
        .view_as(table)
        .split([(height + 2 * _BORDER) * (width + 2 * _BORDER) for height, width in shapes], dim=1)
        for corner in spread
    ]
    gradients = []
    for (height, width), *level in zip(shapes, *corners, strict=True):
        total: Any = 0
        for number, sums in enumerate(level):
            top, left = _BORDER - number // 2, _BORDER - number % 2
            grid = sums.unflatten(1, (height + 2 * _BORDER, width + 2 * _BORDER))
            total = total + grid[:, top : top + height, left : left + width]
        gradients.append(total.flatten(1, 2))
    return torch.cat(gradients, dim=1)
