"""The decoder of the Encoder-only Mask Transformer (Kerssies et al. 2025): the last blocks of the ViT itself.

Names of submodules are those of its published state dicts (``network.*``); the blocks are the backbone's.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinoseg.backbone.open_blocks import OpenBlocks
from dinoseg.models.joint_decoder import JointDecoder, mask_mlp
from dinoseg.models.mask_output import MaskOutput
from dinoseg.models.upscaling import upscaling


class EncoderOnlyDecoder(JointDecoder):
    """Learned queries through the last blocks of the backbone, with its own tokens.

    Blocks and final norm are reached through ``OpenBlocks``, which is no module: they are the backbone's, and no
    parameter of theirs is one of this decoder.

    Args:
        blocks: the backbone's.
        dim: width of its tokens.
        num_classes: without "no object".
        num_queries: masks that can be found in an image.
        patch_size: pixels a patch.
        activation_checkpointing: recompute the upscaled patches of each stage in the backward pass.
    """

    def __init__(
        self,
        blocks: OpenBlocks,
        *,
        dim: int,
        num_classes: int,
        num_queries: int,
        patch_size: int,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.activation_checkpointing = activation_checkpointing
        self.q = nn.Embedding(num_queries, dim)
        self.class_head = nn.Linear(dim, num_classes + 1)
        self.mask_head = mask_mlp(dim)
        self.upscale = upscaling(dim, patch_size)
        self.register_buffer("attn_mask_probs", torch.ones(len(blocks)))

    def normalised(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The tokens after the backbone's final norm."""
        return self.blocks.normalised(tokens)

    def spans(self) -> list[tuple[float, float]]:
        """As ``annealing_spans``."""
        return annealing_spans(len(self.blocks))

    def forward(self, image_tokens: Float[Tensor, "batch tokens dim"], grid: tuple[int, int]) -> tuple[MaskOutput, ...]:
        """In training the predictions of all stages, in evaluation those after the last block, without masks.

        Args:
            image_tokens: as they go into the first open block: prefix tokens, then the patches of the grid.
        """
        return self.stages(image_tokens, grid, shares=self.attn_mask_probs.tolist() if self.training else None)

    def stages(
        self,
        image_tokens: Float[Tensor, "batch tokens dim"],
        grid: tuple[int, int],
        *,
        shares: Sequence[float] | None,
    ) -> tuple[MaskOutput, ...]:
        """Predictions before each block and after the last, each with mask features of its own.

        Args:
            image_tokens: as in ``forward``.
            shares: of the queries whose mask counts, for each block; None for the last prediction alone, without masks.
        """
        blocks = [partial(self.blocks.run, number, grid) for number in range(len(self.blocks))]
        return self.joint_stages(image_tokens, grid, blocks, shares)


def annealing_spans(num_blocks: int) -> list[tuple[float, float]]:
    """Begin and length of each block's annealing, as shares of the training, as published for ADE20K and COCO.

    A sixth of the training each, beginning at even distances from 1/6 to 2/3.
    """
    return [(1 / 6 + 0.5 * block / max(1, num_blocks - 1), 1 / 6) for block in range(num_blocks)]
