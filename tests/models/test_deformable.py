"""Deformable attention: what it samples, its gradients, its start."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from dinoseg.models import deformable, deformable_sampling
from dinoseg.models.deformable import DeformableAttention, cell_centres
from dinoseg.models.deformable_layout import Shapes
from dinoseg.models.deformable_sampling import sample_levels


def inputs(
    shapes: Shapes, batch: int = 2, queries: int = 5, heads: int = 2, channels: int = 3, points: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, references, and steering from well inside to well outside the maps; fp64."""
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(height * width for height, width in shapes)
    values = torch.randn(batch, tokens, heads, channels, generator=generator, dtype=torch.float64)
    references = torch.rand(queries, 2, generator=generator, dtype=torch.float64)
    grid = (batch, queries, heads, 3, len(shapes), points)
    return values, references, 4 * torch.randn(grid, generator=generator, dtype=torch.float64)


def by_grid_sample(values: Tensor, shapes: Shapes, references: Tensor, steering: Tensor) -> Tensor:
    batch, _, heads, channels = values.shape
    queries = steering.shape[1]
    weights = steering[:, :, :, 2].flatten(3).softmax(dim=-1).view_as(steering[:, :, :, 2])
    total = torch.zeros(batch, queries, heads, channels, dtype=values.dtype)
    start = 0
    for level, (height, width) in enumerate(shapes):
        cells = values[:, start : start + height * width]
        start += height * width
        for head in range(heads):
            maps = cells[:, :, head].transpose(1, 2).reshape(batch, channels, height, width)
            x = references[:, None, 0] + steering[:, :, head, 0, level] / width
            y = references[:, None, 1] + steering[:, :, head, 1, level] / height
            grid = 2 * torch.stack([x, y], dim=-1) - 1
            samples = functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
            total[:, :, head] += torch.einsum("bcqp,bqp->bqc", samples, weights[:, :, head, level])
    return total.flatten(2)


def test_samples_between_cells_are_bilinear_and_outside_is_zero() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)  # [[1, 2], [3, 4]]
    references = torch.tensor([(0.25, 0.25), (0.5, 0.5), (0.5, 0.25), (0.0, 0.25), (-1.0, 0.5), (0.25, 0.25)])
    steering = torch.zeros(1, len(references), 1, 3, 1, 1)
    steering[0, 5, 0, :2] = torch.tensor([1e20, -1e20]).view(2, 1, 1)
    sampled = sample_levels(values, ((2, 2),), references, steering).flatten()
    # The fourth point is on the map's edge: half of its cell of 1, half of nothing.
    torch.testing.assert_close(sampled, torch.tensor([1.0, 2.5, 1.5, 0.5, 0.0, 0.0]))


def test_offsets_are_in_cells_and_weights_a_softmax() -> None:
    values = torch.arange(12.0).view(1, 12, 1, 1)  # 3 rows of 4
    references = torch.tensor([[0.375, 0.5]])  # row 1, column 1: 5
    steering = torch.zeros(1, 1, 1, 3, 1, 2)
    steering[0, 0, 0, 0, 0] = torch.tensor([2.0, -0.5])  # 7 and 4.5
    steering[0, 0, 0, 1, 0] = torch.tensor([0.0, 0.25])  # and a quarter of a row further
    steering[0, 0, 0, 2, 0] = torch.tensor([math.log(3.0), 0.0])
    sampled = sample_levels(values, ((3, 4),), references, steering)
    torch.testing.assert_close(sampled, torch.tensor([[[0.75 * 7 + 0.25 * 5.5]]]))


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    batch=st.integers(1, 2),
    queries=st.integers(1, 4),
    heads=st.integers(1, 3),
    points=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_values_and_gradients_equal_grid_sample(
    shapes: list[tuple[int, int]], batch: int, queries: int, heads: int, points: int, seed: int
) -> None:
    values, references, steering = inputs(tuple(shapes), batch, queries, heads, points=points, seed=seed)
    results = []
    for function in (sample_levels, by_grid_sample):
        leaves = values.clone().requires_grad_(), steering.clone().requires_grad_()
        output = function(leaves[0], tuple(shapes), references, leaves[1])
        (output * torch.arange(output.numel()).view_as(output)).sum().backward()
        results.append((output, *(leaf.grad for leaf in leaves)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def _gradients() -> list[Tensor]:
    values, references, steering = inputs(((3, 4), (2, 2)), heads=3)
    leaves = values.requires_grad_(), steering.requires_grad_()
    sample_levels(values, ((3, 4), (2, 2)), references, steering).square().sum().backward()
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _gradients()
    # 5 queries have 8 samples each: one head at a time, two and then the third, all three.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for limit in (1, 80, 10_000):
        monkeypatch.setattr(deformable_sampling, "_SAMPLES_OF_A_THREAD", limit)
        for found, same in zip(_gradients(), expected, strict=True):
            assert torch.equal(found, same)


def test_gathered_products_are_those_of_the_sparse_product(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _gradients()
    gather = deformable_sampling._gathered_products
    monkeypatch.setattr(deformable_sampling, "_products", lambda bags, table, rows, buffer: gather(bags, table, rows))
    for found, same in zip(_gradients(), expected, strict=True):
        torch.testing.assert_close(found, same)


def test_sparse_products_are_no_news_to_the_user() -> None:
    # PyTorch says it once in a process: in a new one.
    script = """
import torch
from dinoseg.models.deformable_sampling import sample_levels
steering = torch.zeros(1, 1, 1, 3, 1, 1, requires_grad=True)
sample_levels(torch.ones(1, 4, 1, 1), ((2, 2),), torch.zeros(1, 2), steering).sum().backward()
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("shapes", [((3, 4), (2, 2)), ((1, 1),), ((1, 5), (4, 1), (2, 3))])
def test_gradients_equal_finite_differences(shapes: Shapes) -> None:
    values, references, steering = inputs(shapes, queries=3, points=2)
    assert torch.autograd.gradcheck(
        lambda values, steering: sample_levels(values, shapes, references, steering),
        (values.requires_grad_(), steering.requires_grad_()),
    )


def test_gradients_are_finite_and_zero_far_outside() -> None:
    values, references, steering = inputs(((3, 4),))
    steering[:, :, :, 0] = 1e30 * steering[:, :, :, 0].sign()
    steering[:, :, :, 1] = 10.0 * steering[:, :, :, 1].sign()
    values.requires_grad_(), steering.requires_grad_()
    output = sample_levels(values, ((3, 4),), references, steering)
    output.sum().backward()
    for tensor in (output, values.grad, steering.grad):
        assert tensor is not None
        assert not tensor.any()


def test_large_logits_give_finite_weights() -> None:
    values, references, steering = inputs(((3, 4),))
    steering[:, :, :, 2] *= 1e4
    steering.requires_grad_()
    output = sample_levels(values, ((3, 4),), references, steering)
    output.sum().backward()
    assert output.isfinite().all()
    assert steering.grad is not None
    assert steering.grad.isfinite().all()


def test_an_offset_that_is_no_number_reaches_the_output() -> None:
    values, references, steering = inputs(((3, 4),))
    steering[0, 2, 0, 0, 0, 0] = math.nan
    unknown = sample_levels(values, ((3, 4),), references, steering).isnan().unflatten(2, (2, 3))
    assert unknown[0, 2, 0].all()
    assert unknown.sum() == 3


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    values, references, steering = inputs(((3, 4),))
    steering.requires_grad_()
    sample_levels(values, ((3, 4),), references, steering).sum().backward()
    assert steering.grad is not None
    assert steering.grad.any()
    assert values.grad is None


def test_offsets_count_cells_of_their_own_level() -> None:
    attention = DeformableAttention(dim=2, num_heads=1, num_levels=2, num_points=1)
    with torch.no_grad():
        for layer in (attention.value_proj, attention.output_proj):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
        # One cell to the right on the first level, one down on the second; equal weights.
        attention.sampling_offsets.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 1.0]))
    shapes = ((2, 4), (6, 4))
    numbers = torch.arange(32.0)
    tokens = torch.stack([numbers * (numbers < 8), numbers * (numbers >= 8)], dim=-1)[None]
    references = torch.tensor([[0.375, 0.25]])  # row 0, column 1 of the first level; row 1, column 1 of the second
    attended = attention(torch.zeros(1, 1, 2), references, tokens, shapes)
    torch.testing.assert_close(attended, torch.tensor([[[0.5 * 2, 0.5 * (8 + 2 * 4 + 1)]]]))


def test_starts_on_rings_of_directions_with_equal_weights() -> None:
    attention = DeformableAttention(dim=16, num_heads=8, num_levels=2, num_points=3)
    offsets = attention.sampling_offsets.bias.view(8, 2, 3, 2)
    for head in range(8):
        direction = torch.tensor([math.cos(head * math.pi / 4), math.sin(head * math.pi / 4)])
        direction = direction / direction.abs().max()
        for point in range(3):
            for level in range(2):
                torch.testing.assert_close(offsets[head, level, point], direction * (point + 1))
    for parameter in (attention.sampling_offsets.weight, *attention.attention_weights.parameters()):
        assert not parameter.any()


def test_value_width_must_divide_into_heads() -> None:
    with pytest.raises(ValueError, match="value width 15 is not a multiple of 4 heads"):
        DeformableAttention(dim=30, num_heads=4, num_levels=1, num_points=1, value_ratio=0.5)


def test_under_bf16_autocast_sampling_stays_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(values: Tensor, shapes: Shapes, references: Tensor, steering: Tensor) -> Tensor:
        seen.extend([values.dtype, references.dtype, steering.dtype])
        return sample_levels(values, shapes, references, steering)

    monkeypatch.setattr(deformable, "sample_levels", spy)
    attention = DeformableAttention(dim=8, num_heads=2, num_levels=1, num_points=2)
    references = cell_centres(((3, 3),), torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attended = attention(torch.randn(1, 9, 8), references, torch.randn(1, 9, 8), ((3, 3),))
    assert seen == [torch.float32] * 3
    assert attended.isfinite().all()


def test_cell_centres_are_shares_of_width_and_height() -> None:
    centres = cell_centres(((1, 2), (2, 1)), torch.device("cpu"))
    torch.testing.assert_close(centres, torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]))
