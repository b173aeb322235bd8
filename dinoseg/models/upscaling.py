"""Patches to a map of higher resolution, which masks are products with (Kerssies et al. 2025, EoMT, section 3.2).

Names of submodules are those of the published state dicts of EoMT and PMT (``upscale.*``).
"""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ScaleBlock(nn.Module):
    """Twice the height and width: transposed 2x2 convolution, GELU, depth-wise 3x3 convolution, LayerNorm.

    Channels lie last in memory throughout, where LayerNorm wants them and the patches of a sequence have them.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.conv2 = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(
        self, patches: Float[Tensor, "batch dim height width"]
    ) -> Float[Tensor, "batch dim double_height double_width"]:
        """The upscaled patches."""
        upscaled = self.conv2(functional.gelu(self.conv1(patches)))
        return self.norm(upscaled.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def upscaling(dim: int, patch_size: int) -> nn.Sequential:
    """As many doublings as lead to cells of 4 to 7 pixels, one at least: two for patches of 16, one for 14."""
    doublings = max(1, int(math.log2(patch_size)) - 2)
    return nn.Sequential(*(ScaleBlock(dim) for _ in range(doublings)))
