"""What the backbone hands to a head, for each tapped layer."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FeatureMap:
    """What one tapped layer gives.

    ``map``: patch features, possibly a strided view of the token sequence. ``cls``: the class token; for a
    ConvNeXt the mean over the map; None for a ViT without class token. ``prefix``: what stands before the patches in a
    ViT's sequence: class token and registers; None where there is no such token.
    """

    map: Float[Tensor, "batch channels height width"]
    cls: Float[Tensor, "batch channels"] | None
    prefix: Float[Tensor, "batch prefix_tokens channels"] | None = None

    def to(self, device: torch.device) -> "FeatureMap":
        """The same on a device."""
        parts = (None if part is None else part.to(device) for part in (self.cls, self.prefix))
        return FeatureMap(self.map.to(device), *parts)

    def tokens(self) -> Float[Tensor, "batch tokens channels"]:
        """The sequence as the ViT has it: prefix tokens, then the patches row by row."""
        patches = self.map.flatten(2).transpose(1, 2)
        return patches if self.prefix is None else torch.cat([self.prefix, patches], dim=1)
