"""Multi-scale deformable attention (Zhu et al. 2021, Deformable DETR, section 4.1) in plain PyTorch."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.models.deformable_layout import Shapes
from dinoseg.models.deformable_sampling import sample_levels


class DeformableAttention(nn.Module):
    """Every query looks at a few points around its reference point, on every level, at learned offsets.

    Args:
        dim: width of queries and tokens.
        num_heads: heads; offsets and weights are per head.
        num_levels: maps that the tokens come from.
        num_points: points per head and level.
        value_ratio: width of the values over ``dim``.
    """

    def __init__(self, *, dim: int, num_heads: int, num_levels: int, num_points: int, value_ratio: float = 1.0) -> None:
        super().__init__()
        value_dim = int(dim * value_ratio)
        if value_dim % num_heads:
            raise ValueError(f"deformable attention: value width {value_dim} is not a multiple of {num_heads} heads")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, value_dim)
        self.output_proj = nn.Linear(value_dim, dim)
        self._initialise()

    def _initialise(self) -> None:
        # Heads look in directions evenly spread over the circle, points ever further out; no query matters yet.
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)
        bias = directions[:, None, None] * steps[:, None]
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.num_levels, -1, -1).reshape(-1))
            self.attention_weights.weight.zero_()
            self.attention_weights.bias.zero_()
            for layer in (self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(layer.weight)
                layer.bias.zero_()

    def forward(
        self,
        queries: Float[Tensor, "batch queries dim"],
        references: Float[Tensor, "queries 2"],
        tokens: Float[Tensor, "batch tokens dim"],
        shapes: Shapes,
    ) -> Float[Tensor, "batch queries dim"]:
        """Attended values.

        Args:
            references: x and y of each query as shares of width and height, 0..1, the same on every level.
            tokens: the maps of all levels, flattened row by row, one after the other.
            shapes: height and width of each level.
        """
        steering = self._steer(queries)
        values = self.value_proj(tokens).float().unflatten(2, (self.num_heads, -1))
        sampled = sample_levels(values, shapes, references.float(), steering)
        return self.output_proj(sampled.to(queries.dtype))

    def _steer(
        self, queries: Float[Tensor, "batch queries dim"]
    ) -> Float[Tensor, "batch queries heads 3 levels points"]:
        """Offsets along x and y in cells, and the logits of the weights, of all samples."""
        # One product for all three: of each head all offsets along x, all along y, all logits. So it comes out in the
        # order in which the sampling reads it.
        offsets, logits = self.sampling_offsets, self.attention_weights
        heads, dim = self.num_heads, queries.shape[-1]
        along = offsets.weight.view(heads, -1, 2, dim).unbind(2)
        weight = torch.stack([*along, logits.weight.view(heads, -1, dim)], dim=1).flatten(0, 2)
        bias = torch.stack([*offsets.bias.view(heads, -1, 2).unbind(2), logits.bias.view(heads, -1)], dim=1).flatten()
        # Where to look must not be rounded to bf16: a 64th of a map is a pixel.
        steering = functional.linear(queries, weight, bias).float()
        return steering.unflatten(2, (heads, 3, self.num_levels, self.num_points))


def cell_centres(shapes: Shapes, device: torch.device) -> Float[Tensor, "cells 2"]:
    """x and y of every cell of the maps as shares of width and height, row by row, map after map."""
    centres = []
    for height, width in shapes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        centres.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1))
    return torch.cat(centres)
