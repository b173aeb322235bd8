"""GroupNorm that takes maps of any size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """GroupNorm that takes maps of one cell, too: a window of 32 px has one at stride 32.

    PyTorch's own refuses a group of one value, whose normalised value is 0.
    """

    def forward(self, input: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch channels *size"]:
        """The normalised map."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
