"""The decoder of the Plain Mask Transformer (Cavagnero et al. 2026): queries and frozen patches in one sequence.

Names of submodules are those of its published state dicts (``network.decoder.*``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinoseg.models.joint_decoder import JointBlock, JointDecoder, mask_mlp
from dinoseg.models.mask_output import MaskOutput
from dinoseg.models.pmt_blocks import Block, Positions
from dinoseg.models.rotary import rotary_tables
from dinoseg.models.upscaling import upscaling

# The places of the patches are multiplied by 1 / this to this in training, as in DINOv3.
_MOST_RESCALE = 2.0


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


class PlainMaskDecoder(JointDecoder):
    """Learned queries and the summed tokens of the tapped layers, through blocks of the decoder's own."""

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
        self.mask_head = mask_mlp(dim)
        self.upscale = upscaling(dim, sizes.patch_size)
        self.register_buffer("attn_mask_probs", torch.ones(sizes.num_blocks))

    def normalised(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The tokens after the decoder's norm."""
        return self.decoder_norm(tokens)

    def spans(self) -> list[tuple[float, float]]:
        """As ``annealing_spans``."""
        return annealing_spans(len(self.blocks))

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
        positions = Positions(*rotary_tables(grid, self.head_dim, rescale=rescale, device=layers[0].device))

        def run(block: nn.Module) -> JointBlock:
            return lambda tokens, visible: self.recomputed(block, tokens, positions, visible)

        return self.joint_stages(self._summed(layers), grid, [run(block) for block in self.blocks], shares)

    def _summed(self, layers: Sequence[Float[Tensor, "batch tokens dim"]]) -> Float[Tensor, "batch tokens dim"]:
        """The sum of all layers, each with its own small residual network and scale."""
        scaled = [
            (tokens + project(tokens)) * scale
            for tokens, project, scale in zip(layers, self.lateral_projections, self.scalers, strict=True)
        ]
        return sum(scaled[1:], scaled[0])


def annealing_spans(num_blocks: int) -> list[tuple[float, float]]:
    """Begin and length of each block's annealing, as shares of the training, as published for ADE20K.

    The first block within the first 15 % of the training; the others in a sixth of it each, beginning at even distances
    from 4/15 to 2/3.
    """
    later = max(1, num_blocks - 2)
    return [(0.0, 0.15), *((4 / 15 + 0.4 * block / later, 1 / 6) for block in range(num_blocks - 1))]
