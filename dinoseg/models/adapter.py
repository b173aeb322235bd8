"""ViT-Adapter (Chen et al. 2023) without injectors: a four-level pyramid from a frozen ViT's patch features.

Names of submodules are those of DINOv3's state dicts (``segmentation_model.0.*``).
"""

import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from dinoseg.models.deformable import DeformableAttention, cell_centres
from dinoseg.models.deformable_layout import Shapes

# Batch, channels, height, width; a list of them has maps of several sizes.
Map = Float[Tensor, "batch _ _ _"]

_TAPPED_LAYERS = 4
# Sizes of every adapter that DINOv3 has: heads and points of the deformable attention, width of its values over that of
# its queries, hidden width of the convolutional FFN over that of the tokens.
_NUM_HEADS = 16
_NUM_POINTS = 4
_VALUE_RATIO = 0.5
_FFN_RATIO = 0.25


class Adapter(nn.Module):
    """Convolutional tokens of the image gather from the four tapped layers of the backbone, one interaction a layer.

    Args:
        embed_dim: width of the backbone and of the pyramid; half of it is a multiple of 16.
        inplane: channels of the spatial prior at stride 4.
        drop_path: rate of stochastic depth on the FFN, 0..1.
        activation_checkpointing: recompute the interactions in the backward pass.
        bands: of the image.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        inplane: int = 64,
        drop_path: float = 0.3,
        activation_checkpointing: bool = False,
        bands: int = 3,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.spm = SpatialPrior(bands=bands, inplane=inplane, embed_dim=embed_dim)
        self.level_embed = nn.Parameter(torch.empty(3, embed_dim).normal_())
        extra = [0] * (_TAPPED_LAYERS - 1) + [2]
        self.interactions = nn.ModuleList(
            Interaction(dim=embed_dim, drop_path=drop_path, extra=count) for count in extra
        )
        self.up = nn.ConvTranspose2d(embed_dim, embed_dim, 2, 2)
        for level in range(1, 5):
            self.add_module(f"norm{level}", nn.BatchNorm2d(embed_dim))

    def forward(self, image: Float[Tensor, "batch bands height width"], maps: list[Map]) -> list[Map]:
        """The pyramid at strides 4, 8, 16 and 32.

        Args:
            image: normalised; sides are multiples of 32.
            maps: one map of patch features a tapped layer, over the same extent as the image.
        """
        prior = self.spm(image)
        shapes: Shapes = tuple((level.shape[-2], level.shape[-1]) for level in prior[1:])
        tokens = torch.cat(
            [_flatten(level) + embed for level, embed in zip(prior[1:], self.level_embed, strict=True)], dim=1
        )
        references = cell_centres(shapes, image.device)
        for interaction, patches in zip(self.interactions, maps, strict=True):
            arguments = (tokens, references, _flatten(patches), (patches.shape[-2], patches.shape[-1]), shapes)
            if self.activation_checkpointing and self.training:
                tokens = checkpoint(interaction, *arguments, use_reentrant=False)
            else:
                tokens = interaction(*arguments)
        levels = _unflatten(tokens, shapes)
        levels.insert(0, self.up(levels[0]) + prior[0])
        pyramid = []
        for number, (level, patches) in enumerate(zip(levels, maps, strict=True), start=1):
            resized = functional.interpolate(patches, size=level.shape[-2:], mode="bilinear", align_corners=False)
            pyramid.append(self.get_submodule(f"norm{number}")(level + resized))
        return pyramid


class SpatialPrior(nn.Module):
    """A small convolutional network: maps at strides 4, 8, 16 and 32, all as wide as the backbone."""

    def __init__(self, *, bands: int = 3, inplane: int, embed_dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_convolution(bands, inplane, stride=2),
            *_convolution(inplane, inplane),
            *_convolution(inplane, inplane),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.conv2 = nn.Sequential(*_convolution(inplane, 2 * inplane, stride=2))
        self.conv3 = nn.Sequential(*_convolution(2 * inplane, 4 * inplane, stride=2))
        self.conv4 = nn.Sequential(*_convolution(4 * inplane, 4 * inplane, stride=2))
        self.fc1 = nn.Conv2d(inplane, embed_dim, 1)
        self.fc2 = nn.Conv2d(2 * inplane, embed_dim, 1)
        self.fc3 = nn.Conv2d(4 * inplane, embed_dim, 1)
        self.fc4 = nn.Conv2d(4 * inplane, embed_dim, 1)

    def forward(self, image: Float[Tensor, "batch bands height width"]) -> list[Map]:
        """Maps at strides 4, 8, 16 and 32."""
        first = self.stem(image)
        second = self.conv2(first)
        third = self.conv3(second)
        return [self.fc1(first), self.fc2(second), self.fc3(third), self.fc4(self.conv4(third))]


class Interaction(nn.Module):
    """Tokens gather once from one layer of the backbone, and ``extra`` times more."""

    def __init__(self, *, dim: int, drop_path: float, extra: int) -> None:
        super().__init__()
        self.extractor = Extractor(dim=dim, drop_path=drop_path)
        if extra:
            self.extra_extractors = nn.ModuleList(Extractor(dim=dim, drop_path=drop_path) for _ in range(extra))

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        references: Float[Tensor, "tokens 2"],
        patches: Float[Tensor, "batch patches dim"],
        patch_shape: tuple[int, int],
        shapes: Shapes,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The tokens after the interaction."""
        for extractor in (self.extractor, *getattr(self, "extra_extractors", ())):
            tokens = extractor(tokens, references, patches, patch_shape, shapes)
        return tokens


class Extractor(nn.Module):
    """Deformable cross-attention from tokens to patch features, then a convolutional FFN; both residual."""

    def __init__(self, *, dim: int, drop_path: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feat_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = DeformableAttention(
            dim=dim, num_heads=_NUM_HEADS, num_levels=1, num_points=_NUM_POINTS, value_ratio=_VALUE_RATIO
        )
        self.ffn_norm = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = ConvolutionalFFN(dim=dim, hidden=int(dim * _FFN_RATIO))
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        references: Float[Tensor, "tokens 2"],
        patches: Float[Tensor, "batch patches dim"],
        patch_shape: tuple[int, int],
        shapes: Shapes,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The tokens after one extraction."""
        tokens = tokens + self.attn(self.query_norm(tokens), references, self.feat_norm(patches), (patch_shape,))
        return tokens + self.drop_path(self.ffn(self.ffn_norm(tokens), shapes))


class ConvolutionalFFN(nn.Module):
    """Linear, depth-wise 3x3 convolution on each level's map, GELU, linear."""

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.ModuleDict({"dwconv": nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)})
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Float[Tensor, "batch tokens dim"], shapes: Shapes) -> Float[Tensor, "batch tokens dim"]:
        """Tokens of the levels of the given shapes, one after the other."""
        levels = _unflatten(self.fc1(tokens), shapes)
        mixed = torch.cat([_flatten(self.dwconv["dwconv"](level)) for level in levels], dim=1)
        return self.fc2(functional.gelu(mixed))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _flatten(level: Map) -> Float[Tensor, "batch cells channels"]:
    return level.flatten(2).transpose(1, 2)


def _unflatten(tokens: Float[Tensor, "batch tokens channels"], shapes: Shapes) -> list[Map]:
    parts = tokens.split([height * width for height, width in shapes], dim=1)
    return [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]
