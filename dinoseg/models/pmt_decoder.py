"""The decoder of the Plain Mask Transformer (Cavagnero et al. 2026): queries and frozen patches in one sequence.

Names of submodules are those of its published state dicts (``network.decoder.*``).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dinoseg.models.mask_output import MaskOutput, shrink_maps
from dinoseg.models.pmt_blocks import Block, Positions, ScaleBlock
from dinoseg.models.rotary import rotary_tables

# The places of the patches are multiplied by 1 / this to this in training, as in DINOv3.
_MOST_RESCALE = 2.0
# Of the polynomial by which the share of queries whose mask counts falls.
_POWER = 0.9


@dataclass(frozen=True, kw_only=True)
class DecoderSizes:
    """Sizes of the decoder.

    Attributes:
        dim: width of all tokens.
        num_layers: layers of the backbone that are summed.
        num_classes: without "no object".
        num_queries: masks that can be found in an image.
        num_blocks, num_heads, ffn_dim: of the transformer.
        patch_size: pixels a patch.
    """

    dim: int
    num_layers: int
    num_classes: int
    num_queries: int
    num_blocks: int
    num_heads: int
    ffn_dim: int
    patch_size: int


@dataclass(frozen=True)
class Places:
    """What stands where in a sequence: queries, prefix tokens, then the patches of a grid.

    Attributes:
        queries: how many.
        first_patch: how many tokens come before the patches.
        grid: rows and columns of patches.
    """

    queries: int
    first_patch: int
    grid: tuple[int, int]


class PlainMaskDecoder(nn.Module):
    """Learned queries through blocks of self-attention with all patches, supervised before each and after the last.

    In training a query sees, besides queries and prefix tokens, the patches of its own mask. ``attn_mask_probs`` holds
    the share of queries whose mask counts, for each block; ``anneal`` sets it.
    """

    attn_mask_probs: Tensor

    def __init__(self, sizes: DecoderSizes, activation_checkpointing: bool = False) -> None:
        super().__init__()
        dim = sizes.dim
        self.head_dim = dim // sizes.num_heads
        self.activation_checkpointing = activation_checkpointing
        self.lateral_projections = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim))
            for _ in range(sizes.num_layers)
        )
        self.scalers = nn.ParameterList(nn.Parameter(torch.ones(dim)) for _ in range(sizes.num_layers))
        self.q = nn.Embedding(sizes.num_queries, dim)
        self.blocks = nn.ModuleList(
            Block(dim=dim, num_heads=sizes.num_heads, ffn_dim=sizes.ffn_dim) for _ in range(sizes.num_blocks)
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.class_head = nn.Linear(dim, sizes.num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )
        doublings = max(1, int(math.log2(sizes.patch_size)) - 2)
        self.upscale = nn.Sequential(*(ScaleBlock(dim) for _ in range(doublings)))
        self.register_buffer("attn_mask_probs", torch.ones(sizes.num_blocks))

    def anneal(self, progress: float) -> None:
        """Sets the share of queries whose mask counts to that after ``progress`` (0 to 1) of the training."""
        self.attn_mask_probs.copy_(torch.tensor(mask_shares(progress, len(self.blocks))))

    def forward(
        self, layers: Sequence[Float[Tensor, "batch tokens dim"]], grid: tuple[int, int]
    ) -> tuple[MaskOutput, ...]:
        """In training the predictions of all stages, in evaluation those after the last block, without masks.

        Args:
            layers: normalised tokens of the tapped layers, prefix tokens first, then the patches of the grid.
        """
        if not self.training:
            return self.stages(layers, grid)
        rescale = math.exp(float(torch.empty(()).uniform_(-1, 1)) * math.log(_MOST_RESCALE))
        return self.stages(layers, grid, shares=self.attn_mask_probs.tolist(), rescale=rescale)

    def stages(
        self,
        layers: Sequence[Float[Tensor, "batch tokens dim"]],
        grid: tuple[int, int],
        *,
        shares: Sequence[float] | None = None,
        rescale: float = 1.0,
    ) -> tuple[MaskOutput, ...]:
        """Predictions before each block and after the last, each with mask features of its own.

        Args:
            layers: as in ``forward``.
            shares: of the queries whose mask counts, for each block; None for the last prediction alone, without masks.
            rescale: factor on the places of the patches.
        """
        tokens = self._sequence(layers)
        places = Places(self.q.num_embeddings, tokens.shape[1] - grid[0] * grid[1], grid)
        positions = Positions(*rotary_tables(grid, self.head_dim, rescale=rescale, device=tokens.device))
        outputs = []
        for number, block in enumerate(self.blocks):
            visible = None
            if shares is not None:
                outputs.append(self._predict(tokens, places))
                visible = visible_tokens(outputs[-1], places, shares[number])
            tokens = self._recomputed(block, tokens, positions, visible)
        return (*outputs, self._predict(tokens, places))

    def _sequence(self, layers: Sequence[Float[Tensor, "batch tokens dim"]]) -> Float[Tensor, "batch more_tokens dim"]:
        """The queries, and behind them the sum of all layers, each with its own small residual network and scale."""
        queries = self.q.weight.expand(layers[0].shape[0], -1, -1)
        scaled = [
            (tokens + project(tokens)) * scale
            for tokens, project, scale in zip(layers, self.lateral_projections, self.scalers, strict=True)
        ]
        return torch.cat([queries, sum(scaled[1:], scaled[0])], dim=1)

    def _predict(self, tokens: Float[Tensor, "batch tokens dim"], places: Places) -> MaskOutput:
        queries = self.decoder_norm(tokens[:, : places.queries])
        embeddings = self.mask_head(queries)[None]
        features = self._recomputed(self._mask_features, tokens, places)
        return MaskOutput(
            self.class_head(queries)[None], embeddings, embeddings.new_zeros(embeddings.shape[:3]), features
        )

    def _mask_features(
        self, tokens: Float[Tensor, "batch tokens dim"], places: Places
    ) -> Float[Tensor, "batch dim map_height map_width"]:
        patches = self.decoder_norm(tokens[:, places.first_patch :])
        return self.upscale(patches.transpose(1, 2).unflatten(2, places.grid))

    def _recomputed(self, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        if self.activation_checkpointing and self.training:
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)


@torch.no_grad()
def visible_tokens(stage: MaskOutput, places: Places, share: float) -> Bool[Tensor, "batch queries tokens"] | None:
    """What each query sees: all queries and prefix tokens, and the patches on which its mask is positive.

    The mask on the grid of patches is its bilinear resizing, which commutes with the product of query and features:
    masks are formed at that size alone. No gradient goes through it.

    Args:
        share: of the queries that see no other patches, drawn at random; None of them is None, for which all see all.
    """
    if share <= 0:
        return None
    # In fp32: which patches are in must not depend on autocast.
    with torch.autocast(stage.mask_features.device.type, enabled=False):
        small = shrink_maps(stage.mask_features.float(), places.grid)
        visible = stage.mask_embeddings[0].float() @ small > 0
    if share < 1:
        visible |= torch.rand(*visible.shape[:2], 1, device=visible.device) >= share
    return functional.pad(visible, (places.first_patch, 0), value=True)


def mask_shares(progress: float, num_blocks: int) -> list[float]:
    """The share of queries whose mask counts in each block, after ``progress`` (0 to 1) of a training.

    From 1 to 0, one block after the other, as published for ADE20K: the first block within the first 15 % of the
    training; the others in a sixth of it each, beginning at even distances from 4/15 to 2/3. A block falls as
    ``(1 - x) ** 0.9`` of its own span.
    """
    return [(1 - min(1.0, max(0.0, (progress - first) / length))) ** _POWER for first, length in _spans(num_blocks)]


def _spans(num_blocks: int) -> list[tuple[float, float]]:
    """Begin and length of each block's annealing, as shares of the training."""
    later = max(1, num_blocks - 2)
    return [(0.0, 0.15), *((4 / 15 + 0.4 * block / later, 1 / 6) for block in range(num_blocks - 1))]
