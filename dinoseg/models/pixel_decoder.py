"""The pixel decoder of Mask2Former (Cheng et al. 2022, section 3.2.1): deformable encoder, one feature pyramid step.

Names of submodules are those of DINOv3's state dicts (``segmentation_model.1.pixel_decoder.*``).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dinoseg.models.deformable import DeformableAttention, cell_centres
from dinoseg.models.deformable_layout import Shapes
from dinoseg.models.group_norm import GroupNorm
from dinoseg.models.position import sine_positions
from dinoseg.models.sliced_feed_forward import feed_forward

# Batch, channels, height, width; a list of them has maps of several sizes.
Map = Float[Tensor, "batch _ _ _"]
_GROUPS = 32
_LEVELS = 3
_NUM_POINTS = 4


class PixelDecoder(nn.Module):
    """A pyramid at strides 4, 8, 16, 32 to a map at stride 4, of which masks are made, and three encoded maps.

    Args:
        in_channels: channels of the pyramid, stride 4 first.
        hidden_dim: width of everything inside; a multiple of 32 and of ``num_heads``.
        num_heads: heads of the encoder's deformable attention.
        ffn_dim: hidden width of the encoder's FFN.
        num_layers: encoder layers.
        activation_checkpointing: recompute the layers in the backward pass.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        hidden_dim: int,
        num_heads: int,
        ffn_dim: int,
        num_layers: int,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        # Strides 32, 16, 8, in the order of the encoder's levels.
        self.input_convs = nn.ModuleList(_projection(channels, hidden_dim) for channels in reversed(in_channels[1:]))
        self.encoder = DeformableEncoder(
            dim=hidden_dim,
            num_heads=num_heads,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            activation_checkpointing=activation_checkpointing,
        )
        self.lateral_convs = nn.ModuleList([NormedConv2d(in_channels[0], hidden_dim, kernel_size=1)])
        self.output_convs = nn.ModuleList([NormedConv2d(hidden_dim, hidden_dim, kernel_size=3)])
        self.mask_feature = nn.Conv2d(hidden_dim, hidden_dim, 1)

    def forward(self, pyramid: list[Map]) -> tuple[Map, list[Map]]:
        """The map at stride 4 before ``mask_feature``, and the encoded maps at strides 32, 16 and 8.

        ``mask_feature``, a 1x1 convolution, is left to the mask decoder: it applies it to its queries, which are fewer.
        """
        levels = [project(level) for project, level in zip(self.input_convs, reversed(pyramid[1:]), strict=True)]
        encoded = self.encoder(levels)
        lateral = self.lateral_convs[0](pyramid[0])
        # Contiguous, so that the sum and its gradient keep one memory layout.
        finest = encoded[-1].contiguous()
        upsampled = functional.interpolate(finest, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return self.output_convs[0](lateral.add_(upsampled)).relu_(), encoded


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 1)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.get_parameter("bias"))
    return nn.Sequential(convolution, GroupNorm(_GROUPS, outputs))


class NormedConv2d(nn.Conv2d):
    """Convolution without bias, then GroupNorm."""

    def __init__(self, inputs: int, outputs: int, *, kernel_size: int) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = GroupNorm(_GROUPS, outputs)
        nn.init.kaiming_uniform_(self.weight, a=1)

    def forward(self, input: Map) -> Map:
        """The normalised convolution, same height and width."""
        return self.norm(super().forward(input))


class DeformableEncoder(nn.Module):
    """Layers of deformable self-attention over the cells of all levels together."""

    def __init__(
        self, *, dim: int, num_heads: int, ffn_dim: int, num_layers: int, activation_checkpointing: bool
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.level_encoding = nn.Parameter(torch.empty(_LEVELS, dim).normal_())
        # The state dicts have one more name on this path than the structure needs.
        layers = (DeformableEncoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim) for _ in range(num_layers))
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})

    def forward(self, levels: list[Map]) -> list[Map]:
        """Maps of the same shapes."""
        shapes: Shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        device, dim = tokens.device, tokens.shape[-1]
        positions = torch.cat(
            [
                sine_positions(*shape, dim, encoding) + encoding
                for shape, encoding in zip(shapes, self.level_encoding, strict=True)
            ]
        )
        references = cell_centres(shapes, device)
        for layer in self.encoder["layers"].children():
            if self.activation_checkpointing and self.training:
                tokens = checkpoint(layer, tokens, positions, references, shapes, use_reentrant=False)
            else:
                tokens = layer(tokens, positions, references, shapes)
        parts = tokens.split([height * width for height, width in shapes], dim=1)
        return [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and FFN, residual, each followed by its norm."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim=dim, num_heads=num_heads, num_levels=_LEVELS, num_points=_NUM_POINTS)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        positions: Float[Tensor, "tokens dim"],
        references: Float[Tensor, "tokens 2"],
        shapes: Shapes,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The tokens after one layer."""
        tokens = self.norm1(tokens + self.self_attn(tokens + positions, references, tokens, shapes))
        return self.norm2(tokens + feed_forward(tokens, self.linear1, self.linear2))
