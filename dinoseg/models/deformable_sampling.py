"""Weighted sums of bilinear samples of maps: the kernel of deformable attention, in plain PyTorch for any device.

All samples of a query and head are one bag of rows of one table, summed by one fused operation. The samples themselves,
gigabytes over the layers of an encoder, are never written out. The gradient of the values is such a sum too, over bags
made by sorting: no atomic additions, hence the same result every time on a GPU as well.

The work is done in parts, a few heads of one image each. What a part reads and writes stays in a processor's cache, and
its buffers serve the next one.
"""

import warnings
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dinoseg.models.deformable_layout import BORDER, PartBuffers, SampleLayout, Shapes

# Samples of a part: on a CPU for each thread, enough to make little of the time in which operations start; elsewhere as
# many as leave the cells gathered for them, 16 times their channels in bytes each, a small share of the memory.
_SAMPLES_OF_A_THREAD = 1 << 17
_SAMPLES_ELSEWHERE = 1 << 18


def sample_levels(
    values: Float[Tensor, "batch tokens heads channels"],
    shapes: Shapes,
    references: Float[Tensor, "queries 2"],
    steering: Float[Tensor, "batch queries heads 3 levels points"],
) -> Float[Tensor, "batch queries heads_times_channels"]:
    """Weighted mean over levels and points of the values around the references; zero outside the maps.

    Values, references and steering have one floating type, fp32 or fp64. Differentiable once with respect to values
    and steering.

    Args:
        values: cells of all maps, row by row, map after map.
        shapes: height and width of each map.
        references: x and y as shares of width and height of each map; 0 and 1 are the outer edges of the map.
        steering: of each sample, how many cells of its level it lies right of and below the reference, and the
            logit of its weight. The weights of a query and head are the softmax over levels and points.
    """
    if torch.compiler.is_compiling():
        return plain_samples(values, shapes, references, steering)
    return _WeightedSamples.apply(values, shapes, references, steering)


def plain_samples(
    values: Float[Tensor, "batch tokens heads channels"],
    shapes: Shapes,
    references: Float[Tensor, "queries 2"],
    steering: Float[Tensor, "batch queries heads 3 levels points"],
) -> Float[Tensor, "batch queries heads_times_channels"]:
    """The same in gathers and sums alone, for graphs that other engines run.

    Not by ``grid_sample``, which engines get wrong at borders and in fp16.
    """
    batch, tokens, heads, channels = values.shape
    levels, points = steering.shape[-2:]
    # Width and height of each level, and where its cells begin among the tokens of an image.
    sizes = torch.tensor([[width, height] for height, width in shapes], dtype=values.dtype, device=values.device)
    begins = torch.tensor([0, *(height * width for height, width in shapes[:-1])], device=values.device).cumsum(0)
    begins = begins[:, None] + tokens * torch.arange(batch * heads, device=values.device).view(batch, 1, heads, 1, 1)
    centres = references[:, :, None] * sizes.t() - 0.5
    places = steering[:, :, :, :2] + centres[:, None, :, :, None]
    weights = steering[:, :, :, 2].flatten(3).softmax(dim=-1).unflatten(3, (levels, points))
    low = places.floor()
    # Of the four cells around each sample, first along x, then along y.
    corners = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=values.dtype, device=values.device)[..., None, None]
    sides = sizes.t()[:, :, None]
    cells = low[:, :, :, None] + corners
    shares = (1 - corners - (places - low)[:, :, :, None]).abs() * ((cells >= 0) & (cells < sides)).to(values.dtype)
    shares = shares[..., 0, :, :] * shares[..., 1, :, :] * weights[:, :, :, None]
    column, row = torch.minimum(cells.clamp(min=0), sides - 1).unbind(4)
    rows = begins[:, :, :, None] + (row * sides[0] + column).long()
    table = values.transpose(1, 2).reshape(-1, channels)
    total = values.new_zeros(batch, steering.shape[1], heads, channels)
    # One after the other: all four would be four times the largest tensor.
    for numbers, share in zip(rows.unbind(3), shares.unbind(3), strict=True):
        gathered = table.index_select(0, numbers.flatten()).view(batch, -1, heads, levels * points, channels)
        total = total + (gathered * share.flatten(3)[..., None]).sum(dim=3)
    return total.flatten(2)


class _WeightedSamples(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, shapes: Shapes, references: Tensor, steering: Tensor) -> Tensor:
        layout = SampleLayout.build(shapes, references, steering.shape[-1])
        parts = _parts(steering)
        buffers = PartBuffers(layout, values, parts[0][1])
        result = values.new_empty(*steering.shape[:3], values.shape[3])
        for image, heads in parts:
            first, shares, weights = _cells(steering[image, :, heads].flatten(3), layout)
            spread = buffers.numbers[: len(first)]
            _spread(shares[0], shares[1], weights, spread.movedim(-2, 0))
            summed = functional.embedding_bag(
                buffers.corner_rows(first).flatten(0, 1).flatten(1),
                buffers.table(values[image, :, heads]).flatten(0, 1),
                per_sample_weights=spread.flatten(0, 1).flatten(1),
                mode="sum",
            )
            result[image, :, heads] = summed.view(*first.shape[:2], -1).transpose(0, 1)
        ctx.layout = layout
        ctx.save_for_backward(values, steering)
        return result.flatten(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, Tensor]:
        values, steering = ctx.saved_tensors
        layout, parts = ctx.layout, _parts(steering)
        buffers = PartBuffers(layout, values, parts[0][1])
        gradient = gradient.unflatten(2, values.shape[2:])
        to_values, to_steering = torch.empty_like(values), torch.empty_like(steering)
        for image, heads in parts:
            # Found anew: kept for all parts they would be a third larger than the steering.
            first, shares, weights = _cells(steering[image, :, heads].flatten(3), layout)
            bags = gradient[image, :, heads].transpose(0, 1).flatten(0, 1)
            _value_gradient(bags, first, shares, weights, layout, to_values[image, :, heads])
            # How well each of the four cells of a sample agrees with the gradient of its bag.
            table = buffers.table(values[image, :, heads]).flatten(0, 1)
            rows, numbers = buffers.corner_rows(first), buffers.numbers[: len(first)]
            products = _products(bags, table, rows.flatten(0, 1).flatten(1), numbers.flatten(0, 1).flatten(1))
            _steering_gradient(products.view_as(rows), shares, weights, to_steering[image, :, heads].flatten(3))
        return to_values, None, None, to_steering


def _parts(steering: Float[Tensor, "batch queries heads 3 levels points"]) -> list[tuple[int, slice]]:
    """Image and heads of each part; the first has as many heads as any."""
    batch, queries, heads, _, levels, points = steering.shape
    on_cpu = steering.device.type == "cpu"
    limit = _SAMPLES_OF_A_THREAD * torch.get_num_threads() if on_cpu else _SAMPLES_ELSEWHERE
    count = max(1, limit // (queries * levels * points))
    return [(image, slice(head, min(head + count, heads))) for image in range(batch) for head in range(0, heads, count)]


def _cells(
    steering: Float[Tensor, "queries heads 3 samples"], layout: SampleLayout
) -> tuple[
    Int[Tensor, "heads queries samples"],
    Float[Tensor, "2 heads queries samples"],
    Float[Tensor, "heads queries samples"],
]:
    """Table row of the upper left of the four cells of each sample, shares of the right and lower cells, weights."""
    planes = steering.permute(2, 1, 0, 3).clone(memory_format=torch.contiguous_format)
    pixels = planes[:2].add_(layout.centres)
    # Far outside is as good as just outside.
    pixels = torch.minimum(pixels.clamp_(min=0), layout.limits, out=pixels)
    # NaN must be no row outside the table. The shares stay NaN, so that it reaches the loss, where it is reported.
    corner = pixels.floor().nan_to_num_(0.0)
    corner = torch.minimum(corner, layout.limits - 1, out=corner)
    shares = pixels.sub_(corner)
    column, row = corner.to(torch.int32)
    heads_before = torch.arange(len(row), dtype=torch.int32, device=row.device)[:, None, None]
    first = row.mul_(layout.widths).add_(column).add_(layout.starts).add_(heads_before * layout.cells)
    # Softmax over the samples; PyTorch's own takes six times as long over rows of a dozen.
    logits = planes[2]
    powers = logits.sub_(logits.amax(dim=-1, keepdim=True)).exp_()
    return first, shares, powers.div_(powers.sum(dim=-1, keepdim=True))


def _spread(right: Tensor, below: Tensor, weights: Tensor, corners: Tensor) -> None:
    """Writes the weights of the four cells, upper left, upper right, lower left, lower right, into ``corners``."""
    lower = weights * below
    upper = weights - lower
    torch.mul(upper, right, out=corners[1])
    torch.mul(lower, right, out=corners[3])
    torch.sub(upper, corners[1], out=corners[0])
    torch.sub(lower, corners[3], out=corners[2])


def _value_gradient(
    bags: Float[Tensor, "heads_times_queries channels"],
    first: Int[Tensor, "heads queries samples"],
    shares: Float[Tensor, "2 heads queries samples"],
    weights: Float[Tensor, "heads queries samples"],
    layout: SampleLayout,
    gradients: Float[Tensor, "tokens heads channels"],
) -> None:
    """Writes for each cell the sum of the gradients of the bags that it went into.

    Samples are sorted by their upper left cell once. The sums for the other three corners have the same bags, and
    belong to the cells one to the right, below, and both.
    """
    heads, _, samples = first.shape
    cells, order = first.flatten().sort(stable=True)
    every_cell = torch.arange(heads * layout.cells, dtype=cells.dtype, device=cells.device)
    starts = torch.searchsorted(cells, every_cell, out_int32=True)
    sources = (order // samples).to(torch.int32)
    corners = weights.new_empty(4, weights.numel())
    right, below, weight = (numbers.flatten().index_select(0, order) for numbers in (*shares, weights))
    _spread(right, below, weight, corners)
    totals = (
        functional.embedding_bag(sources, bags, starts, per_sample_weights=corner, mode="sum") for corner in corners
    )
    grids = [layout.grids(total.view(heads, layout.cells, -1)) for total in totals]
    for level, *sums in zip(layout.maps(gradients), *grids, strict=True):
        _, height, width, _ = level.shape
        upper_left, upper_right, lower_left, lower_right = (
            grid[:, BORDER - down :, BORDER - right :][:, :height, :width]
            for grid, (down, right) in zip(sums, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True)
        )
        level.copy_(upper_left.add_(upper_right).add_(lower_left).add_(lower_right))


def _products(
    bags: Float[Tensor, "bags channels"],
    table: Float[Tensor, "cells channels"],
    rows: Int[Tensor, "bags rows_of_a_bag"],
    buffer: Float[Tensor, "bags rows_of_a_bag"],
) -> Float[Tensor, "bags rows_of_a_bag"]:
    """The product of each bag with each of its rows of the table; lies in the buffer where that can be."""
    if table.device.type != "cpu":
        return _gathered_products(bags, table, rows)
    # The products of all bags with all rows would be a matrix, of which a sparse product finds the entries asked for
    # without gathering; entries asked for twice are found twice.
    _hear_that_sparse_tensors_are_new()
    starts = torch.arange(0, rows.numel() + 1, rows.shape[1], dtype=rows.dtype)
    size, zeros = (len(bags), len(table)), buffer.zero_().flatten()
    entries = torch.sparse_csr_tensor(starts, rows.flatten(), zeros, size=size, check_invariants=False)
    torch.sparse.sampled_addmm(entries, bags, table.t(), beta=0, out=entries)
    return entries.values().view_as(rows)


def _gathered_products(
    bags: Float[Tensor, "bags channels"],
    table: Float[Tensor, "cells channels"],
    rows: Int[Tensor, "bags rows_of_a_bag"],
) -> Float[Tensor, "bags rows_of_a_bag"]:
    gathered = table.index_select(0, rows.flatten()).view(*rows.shape, -1)
    return torch.bmm(bags[:, None], gathered.transpose(1, 2))[:, 0]


@cache
def _hear_that_sparse_tensors_are_new() -> None:
    """PyTorch says it once in a process, and it is no news to who trains a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.eye(1).to_sparse_csr()


def _steering_gradient(
    products: Float[Tensor, "heads queries 4 samples"],
    shares: Float[Tensor, "2 heads queries samples"],
    weights: Float[Tensor, "heads queries samples"],
    gradients: Float[Tensor, "queries heads 3 samples"],
) -> None:
    """Writes the gradients of offsets along x and y and of logits; the products are overwritten."""
    upper_left, upper_right, lower_left, lower_right = products.unbind(2)
    right, below = shares
    upper = torch.lerp(upper_left, upper_right, right)
    lower = torch.lerp(lower_left, lower_right, right)
    planes = weights.new_empty(3, *weights.shape)
    torch.lerp(upper_right.sub_(upper_left), lower_right.sub_(lower_left), below, out=planes[0])
    torch.sub(lower, upper, out=planes[1])
    torch.lerp(upper, lower, below, out=planes[2])
    planes *= weights
    planes[2] -= weights * planes[2].sum(dim=-1, keepdim=True)
    gradients.copy_(planes.permute(2, 1, 0, 3))
