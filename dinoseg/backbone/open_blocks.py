"""The last blocks of a ViT, opened to a head that puts tokens of its own among those of the image."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dinoseg.backbone.attention import quick_attention


class OpenBlocks:
    """What a head that joins the backbone's last blocks is given of it.

    The backbone then stops before them, and the head runs them one by one over a sequence of its own tokens, prefix
    tokens and patches. No module, and nothing is copied: blocks and norm stay the backbone's, under its names. So what
    of them is trained, adapters, learning rates by layer, checkpoints and exports are as for any other head.

    Args:
        model: a timm ViT.
        first: index of the first open block.
        last: index of the last.
        use_norm: whether ``normalised`` applies the model's final norm.
    """

    def __init__(self, model: Any, first: int, last: int, *, use_norm: bool) -> None:
        self._model = model
        self._indices = range(first, last + 1)
        self._use_norm = use_norm

    def __len__(self) -> int:
        return len(self._indices)

    def normalised(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The tokens after the backbone's final norm; as they are where that is not used."""
        return self._model.norm(tokens) if self._use_norm else tokens

    def run(
        self,
        number: int,
        grid: tuple[int, int],
        tokens: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch queries tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The sequence after one block.

        Args:
            number: of the open block, from 0.
            grid: rows and columns of patches.
            tokens: of the head, then prefix tokens, then the patches.
            visible: what the first tokens see; all see everything when left out, and so do the others always.
        """
        index = self._indices[number]
        arguments: dict[str, Any] = {"attn_mask": None if visible is None else _whole_mask(visible)}
        if getattr(self._model, "rope", None) is not None:
            arguments["rope"] = self._positions(index, tokens.shape[1], grid)
        block = self._model.blocks[index]
        if self._model.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False, **arguments)
        with quick_attention(tokens):
            return block(tokens, **arguments)

    def _positions(self, index: int, count: int, grid: tuple[int, int]) -> Tensor:
        """The rotary table of a block for so many tokens, of which the patches are the last.

        timm leaves the first tokens out, as many as the model has prefix tokens; its table is of the others. Those of
        them that are no patches get angles of zero, which turn nothing.
        """
        table = self._model.rope.get_embed(shape=list(grid))
        if getattr(self._model, "rope_mixed", False):
            table = table[index]
        sines, cosines = table.chunk(2, dim=-1)
        more = count - int(self._model.num_prefix_tokens) - grid[0] * grid[1]
        return torch.cat(
            [functional.pad(sines, (0, 0, more, 0)), functional.pad(cosines, (0, 0, more, 0), value=1.0)], dim=-1
        )


def _whole_mask(visible: Bool[Tensor, "batch queries tokens"]) -> Bool[Tensor, "batch 1 tokens tokens"]:
    """One mask for all heads: the rows of the first tokens, and all true for the others."""
    others = visible.shape[2] - visible.shape[1]
    return functional.pad(visible, (0, 0, 0, others), value=True)[:, None]
