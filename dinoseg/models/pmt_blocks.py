"""The transformer blocks of the Plain Mask Transformer (Cavagnero et al. 2026).

Names of submodules are those of its published state dicts (``network.decoder.*``).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.models.rotary import rotate


@dataclass(frozen=True)
class Positions:
    """Where the patches, which are the last tokens of a sequence, lie: ``rotary.rotary_tables`` of their grid."""

    cosines: Float[Tensor, "cells head_dim"]
    sines: Float[Tensor, "cells head_dim"]


class RotaryAttention(nn.Module):
    """Self-attention with rotary positions of the patches, through PyTorch's fused kernels; keys have no bias."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim)
        self.o_proj = nn.Linear(dim, dim)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        positions: Positions,
        visible: Bool[Tensor, "batch queries tokens"] | None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Attended values; ``visible`` says what the first tokens see. The others see all, and so do these without."""
        query, key, value = (
            projection(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query = rotate(query, positions.cosines, positions.sines)
        key = rotate(key, positions.cosines, positions.sines)
        attended = _attend(query, key, value, visible)
        return self.o_proj(attended.transpose(1, 2).flatten(2))


def _attend(
    query: Float[Tensor, "batch heads tokens head_dim"],
    key: Float[Tensor, "batch heads tokens head_dim"],
    value: Float[Tensor, "batch heads tokens head_dim"],
    visible: Bool[Tensor, "batch queries tokens"] | None,
) -> Float[Tensor, "batch heads tokens head_dim"]:
    if visible is None:
        return functional.scaled_dot_product_attention(query, key, value)
    # A row of attention knows nothing of other rows. So the mask has the rows of the queries alone, one for all heads,
    # and what has no mask takes the kernel that never forms the attention.
    count = visible.shape[1]
    masked = functional.scaled_dot_product_attention(query[:, :, :count], key, value, attn_mask=visible[:, None])
    return torch.cat([masked, functional.scaled_dot_product_attention(query[:, :, count:], key, value)], dim=2)


class LayerScale(nn.Module):
    """A learned factor a channel (Touvron et al. 2021, CaiT)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The scaled tokens."""
        return tokens * self.lambda1


class FeedForward(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(dim, hidden)
        self.down_proj = nn.Linear(hidden, dim)

    def forward(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """What is added to the tokens."""
        return self.down_proj(functional.gelu(self.up_proj(tokens)))


class Block(nn.Module):
    """A pre-norm transformer block over queries, prefix tokens and patches together."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = RotaryAttention(dim=dim, num_heads=num_heads)
        self.layer_scale1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim=dim, hidden=ffn_dim)
        self.layer_scale2 = LayerScale(dim)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        positions: Positions,
        visible: Bool[Tensor, "batch queries tokens"] | None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The tokens after the block; ``visible`` as in ``RotaryAttention``."""
        tokens = tokens + self.layer_scale1(self.attention(self.norm1(tokens), positions, visible))
        return tokens + self.layer_scale2(self.mlp(self.norm2(tokens)))
