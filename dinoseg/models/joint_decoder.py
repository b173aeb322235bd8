"""Queries and tokens of the image in one sequence: what the decoders of EoMT and PMT have alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dinoseg.models.mask_annealing import annealed_shares
from dinoseg.models.mask_output import MaskOutput, shrink_maps

# A block: the sequence, and what each query sees of it; None for all.
JointBlock = Callable[[Tensor, Tensor | None], Tensor]


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


class JointDecoder(nn.Module, ABC):
    """Learned queries through blocks in which they and the image's tokens attend to each other.

    Supervised before each block and after the last. In training a query sees, besides queries and prefix tokens, the
    patches of its own mask (Kerssies et al. 2025, EoMT, section 3). ``attn_mask_probs`` holds the share of queries
    whose mask counts, for each block; ``anneal`` sets it.

    A subclass makes the parts, in the order and under the names of its published state dicts.

    Attributes:
        q: the queries.
        class_head, mask_head: of a query's class, "no object" last, and of what its mask is the product with.
        upscale: of the patches; see ``upscaling``.
        activation_checkpointing: recompute activations in the backward pass, which saves memory.
    """

    q: nn.Embedding
    class_head: nn.Linear
    mask_head: nn.Sequential
    upscale: nn.Sequential
    attn_mask_probs: Tensor
    activation_checkpointing: bool

    @abstractmethod
    def normalised(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The tokens as predictions are made of them."""

    @abstractmethod
    def spans(self) -> Sequence[tuple[float, float]]:
        """Begin and length of each block's annealing, as shares of the training."""

    def anneal(self, progress: float) -> None:
        """Sets the share of queries whose mask counts to that after ``progress`` (0 to 1) of the training."""
        self.attn_mask_probs.copy_(torch.tensor(annealed_shares(progress, self.spans())))

    def joint_stages(
        self,
        image_tokens: Float[Tensor, "batch tokens dim"],
        grid: tuple[int, int],
        blocks: Sequence[JointBlock],
        shares: Sequence[float] | None,
    ) -> tuple[MaskOutput, ...]:
        """Predictions before each block and after the last, each with mask features of its own.

        Args:
            image_tokens: prefix tokens, then the patches of the grid.
            blocks: the transformer.
            shares: of the queries whose mask counts, for each block; None for the last prediction alone, without masks.
        """
        tokens = torch.cat([self.q.weight.expand(image_tokens.shape[0], -1, -1), image_tokens], dim=1)
        places = Places(self.q.num_embeddings, tokens.shape[1] - grid[0] * grid[1], grid)
        outputs = []
        for number, block in enumerate(blocks):
            visible = None
            if shares is not None:
                outputs.append(self.predict(tokens, places))
                visible = visible_tokens(outputs[-1], places, shares[number])
            tokens = block(tokens, visible)
        return (*outputs, self.predict(tokens, places))

    def predict(self, tokens: Float[Tensor, "batch tokens dim"], places: Places) -> MaskOutput:
        """Class and mask of each query, as one stage."""
        queries = self.normalised(tokens[:, : places.queries])
        embeddings = self.mask_head(queries)[None]
        features = self.recomputed(self._mask_features, tokens, places)
        return MaskOutput(
            self.class_head(queries)[None], embeddings, embeddings.new_zeros(embeddings.shape[:3]), features
        )

    def _mask_features(
        self, tokens: Float[Tensor, "batch tokens dim"], places: Places
    ) -> Float[Tensor, "batch dim map_height map_width"]:
        patches = self.normalised(tokens[:, places.first_patch :])
        return self.upscale(patches.transpose(1, 2).unflatten(2, places.grid))

    def recomputed(self, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """What the function gives; in training computed a second time backwards, if the option says so."""
        if self.activation_checkpointing and self.training:
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)


def mask_mlp(dim: int) -> nn.Sequential:
    """Three layers, by which a query becomes what its mask is the product with."""
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))


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
