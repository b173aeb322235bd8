"""The dense head: the features of a frozen backbone, beside convolutions on the image, decoded to every pixel.

Two eyes. The backbone knows what a thing is, a patch at a time; the stem, a few convolutions on the image itself, sees
where it ends. The idea is ViT-Adapter's spatial prior (Chen et al. 2023, section 3.2) without its attention; the tapped
layers are projected and summed as in DPT (Ranftl et al. 2021), and what leads upwards is a U-Net's decoder (Ronneberger
et al. 2015). Dino U-Net and SegDINO (both 2025) put light decoders on frozen DINOv3 in the same spirit.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.backbone import Backbone, FeatureMap
from dinoseg.config import DecoderHeadConfig
from dinoseg.models.group_norm import GroupNorm
from dinoseg.models.head import Head, HeadOptions, PixelOutput

# Batch, channels, height, width.
Map = Float[Tensor, "batch _ _ _"]

_CHANNELS_A_GROUP = 8
# Of the last level of the stem, where it meets the features.
_FUSION_STRIDE = 8
# A fifth level would have strides of 256 pixels: nothing that the crops of a training hold.
_MOST_CONTEXT_LEVELS = 4


@dataclass(frozen=True, kw_only=True)
class DenseOptions(HeadOptions):
    """Options of the dense head.

    Attributes:
        stem_widths: channels at strides 1, 2, 4 and 8, of the stem and of the decoder; multiples of 8.
        context_widths: channels at strides 16, 32 and so on, below the place where stem and features meet; multiples of
            8, at most four, none by default.
        output_stride: pixels a score: 1, or 2 for half of the time and a little less detail.
        dropout: share of channels at stride 8 dropped during training, 0..1.
        feature_dropout: share of crops in training whose features the head does not get, 0..1.
    """

    stem_widths: Any = (24, 48, 96, 128)
    context_widths: Any = ()
    output_stride: int = 1
    dropout: float = 0.1
    feature_dropout: float = 0.0


class DenseHead(Head[PixelOutput]):
    """Scores every pixel from features and image.

    Args:
        in_channels: channels of each tapped feature map.
        num_classes: number of class indices.
        bands: of the image.

    Raises:
        ValueError: stem widths that are not four multiples of 8, context widths that are not up to four of them, or
            another output stride than 1 or 2.
    """

    predicts = "pixels"
    class_layers = ("classifiers.0", "classifiers.1", "classifiers.2")
    scores_are_probabilities = False

    def __init__(
        self, *, in_channels: tuple[int, ...], num_classes: int, options: DenseOptions, bands: int = 3
    ) -> None:
        super().__init__()
        _check(options)
        self.output_stride = options.output_stride
        widths = tuple(options.stem_widths)
        self.stem = Stem(widths, bands)
        self.fusion = Fusion(in_channels, widths[-1], options.feature_dropout)
        self.dropout = nn.Dropout2d(options.dropout)
        self.context = Context((widths[-1], *options.context_widths))
        self.padded_to = _FUSION_STRIDE * 2 ** len(options.context_widths)
        # From stride 8 to the output's, coarse to fine.
        coarse_to_fine = widths[::-1] if options.output_stride == 1 else widths[:0:-1]
        self.decoder = nn.ModuleList(UpStep(coarse, fine) for coarse, fine in itertools.pairwise(coarse_to_fine))
        # The finest last; the others are for deep supervision (Lee et al. 2015), in training only.
        self.classifiers = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in coarse_to_fine[-3:])

    @classmethod
    def from_config(cls, config: DecoderHeadConfig, backbone: Backbone, num_classes: int) -> "DenseHead":
        """A head for all tapped layers of the backbone."""
        return cls(
            in_channels=backbone.out_channels,
            num_classes=num_classes,
            options=DenseOptions.from_config(config),
            bands=backbone.bands,
        )

    def forward(self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap]) -> PixelOutput:
        """Scores of every pixel, and in training those that two coarser levels give."""
        height, width = image.shape[-2:]
        *skips, coarse = self.stem(_padded(image, self.padded_to))
        fused = self.dropout(self.fusion(coarse, [feature.map for feature in features], (height, width)))
        maps = [self.context(fused)]
        # A shorter decoder leaves the finest level of the stem unused.
        for step, skip in zip(self.decoder, skips[::-1], strict=False):
            maps.append(step(maps[-1], skip))
        scores = []
        for classify, level, factor in zip(self.classifiers, maps[-3:], (4, 2, 1), strict=True):
            if self.training or factor == 1:
                scores.append(_upsampled(classify(level), factor * self.output_stride, (height, width)))
        return PixelOutput(scores[-1], auxiliary=tuple(scores[:-1]))

    def semantic_logits(
        self, output: PixelOutput, size: tuple[int, int]
    ) -> Float[Tensor, "batch classes height width"]:
        """The scores, which are of every pixel already; resized bilinearly where another ``size`` is asked for."""
        logits = output.logits.float()
        if tuple(logits.shape[-2:]) == size:
            return logits
        return functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class Stem(nn.Module):
    """Convolutions on the image, at its own size and at strides 2, 4 and 8."""

    def __init__(self, widths: tuple[int, ...], bands: int) -> None:
        super().__init__()
        finest, *coarser = widths
        levels: list[nn.Module] = [_convolution(bands, finest)]
        for inputs, outputs in zip(widths, coarser, strict=False):
            levels.append(_halving(inputs, outputs))
        self.levels = nn.ModuleList(levels)

    def forward(self, image: Float[Tensor, "batch bands height width"]) -> list[Map]:
        """Maps at strides 1, 2, 4, 8 of an image whose sides are multiples of 8."""
        maps = [image]
        for level in self.levels:
            maps.append(level(maps[-1]))
        return maps[1:]


class Fusion(nn.Module):
    """The tapped layers, each projected, summed and laid over the stem's coarsest map."""

    def __init__(self, in_channels: tuple[int, ...], width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in in_channels)
        self.norm = _norm(width)
        self.mix = nn.Sequential(_convolution(2 * width, width), _convolution(width, width))

    def forward(self, coarse: Map, features: list[Map], size: tuple[int, int]) -> Map:
        """The stem's coarsest map and what the backbone knows of the same places.

        Args:
            size: height and width in pixels of the image, which the features cover exactly, and the stem's map with
                padding.
        """
        grid = _cell_positions((coarse.shape[-2], coarse.shape[-1]), size, coarse.device)
        # Sampling is linear: what has one shape is summed first, and sampled once.
        sums: dict[tuple[int, int], Tensor] = {}
        for project, feature in zip(self.projections, features, strict=True):
            projected = project(feature)
            shape = (projected.shape[-2], projected.shape[-1])
            sums[shape] = sums[shape] + projected if shape in sums else projected
        seen = [_sample(projected, grid) for projected in sums.values()]
        known = functional.gelu(self.norm(torch.stack(seen).sum(dim=0) if len(seen) > 1 else seen[0]))
        if self.training and self.dropout:
            # Features say which image it is, and of a few images that is enough to learn them by heart: a crop without
            # them must be read. Not rescaled: with or without, what is there means the same.
            known = known * (torch.rand(len(known), 1, 1, 1, device=known.device) >= self.dropout)
        return self.mix(torch.cat([coarse, known.to(coarse.dtype)], dim=1))


class Context(nn.Module):
    """The lower half of a U-Net: what stem and features know together, seen from further and further away.

    Args:
        widths: channels at stride 8, 16, 32 and so on; the first alone makes a module that changes nothing.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(_halving(fine, coarse) for fine, coarse in steps)
        self.up = nn.ModuleList(UpStep(coarse, fine) for fine, coarse in steps[::-1])

    def forward(self, fused: Map) -> Map:
        """A map of the size and width of ``fused``, whose sides halve without remainder at every level."""
        maps = [fused]
        for halve in self.down:
            maps.append(halve(maps[-1]))
        seen = maps.pop()
        for step in self.up:
            seen = step(seen, maps.pop())
        return seen


class UpStep(nn.Module):
    """One step of the decoder: twice as fine, joined with the stem's map of that stride."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(coarse, fine, 1)
        self.join = _convolution(2 * fine, fine)

    def forward(self, coarse: Map, skip: Map) -> Map:
        """A map of the size and width of ``skip``."""
        upsampled = functional.interpolate(self.reduce(coarse), scale_factor=2, mode="bilinear", align_corners=False)
        return self.join(torch.cat([upsampled, skip], dim=1))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), _norm(outputs), nn.GELU())


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    """A level of half the size."""
    return nn.Sequential(_convolution(inputs, outputs, stride=2), _convolution(outputs, outputs))


def _norm(width: int) -> GroupNorm:
    return GroupNorm(width // _CHANNELS_A_GROUP, width)


def _padded(
    image: Float[Tensor, "batch bands height width"], multiple: int
) -> Float[Tensor, "batch bands height2 width2"]:
    """To the next multiples of ``multiple``, right and below, by the mean colour, which is 0.

    Channels last: the convolutions run a quarter faster on a CPU.
    """
    below, right = (-side % multiple for side in image.shape[-2:])
    padded = functional.pad(image, (0, right, 0, below)) if below or right else image
    return padded.contiguous(memory_format=torch.channels_last)


def _upsampled(logits: Map, stride: int, size: tuple[int, int]) -> Map:
    """Scores of every pixel from scores of cells of ``stride`` pixels, without those of the padding."""
    if stride > 1:
        logits = functional.interpolate(logits.float(), scale_factor=stride, mode="bilinear", align_corners=False)
    return logits[..., : size[0], : size[1]]


def _cell_positions(
    cells: tuple[int, int], size: tuple[int, int], device: torch.device
) -> Float[Tensor, "1 rows columns 2"]:
    """Where the centres of the stem's cells lie in the image, as ``grid_sample`` wants it: -1 to 1, x first.

    The cells cover the image and its padding, the image alone is -1 to 1: exact at every size.
    """
    axes = []
    for count, side in zip(cells, size, strict=True):
        centres = (torch.arange(count, dtype=torch.float32, device=device) + 0.5) * _FUSION_STRIDE
        axes.append(centres * (2 / side) - 1)
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([columns, rows], dim=-1)[None]


def _sample(projected: Map, grid: Float[Tensor, "1 rows columns 2"]) -> Map:
    """The map at these places, bilinearly; beyond its border the border goes on."""
    grid = grid.expand(projected.shape[0], -1, -1, -1)
    return functional.grid_sample(projected.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _check(options: DenseOptions) -> None:
    widths = list(options.stem_widths)
    if len(widths) != 4 or any(width < 1 or width % _CHANNELS_A_GROUP for width in widths):
        raise ValueError(
            f"decoder_head.stem_widths is {widths}; give four multiples of {_CHANNELS_A_GROUP}, for strides 1, 2, 4 "
            "and 8, e.g. [24, 48, 96, 128]"
        )
    context = list(options.context_widths)
    if len(context) > _MOST_CONTEXT_LEVELS or any(width < 1 or width % _CHANNELS_A_GROUP for width in context):
        raise ValueError(
            f"decoder_head.context_widths is {context}; give up to four multiples of {_CHANNELS_A_GROUP}, for strides "
            "16, 32, 64 and 128, e.g. [192, 256], or [] for none"
        )
    if options.output_stride not in (1, 2):
        raise ValueError(f"decoder_head.output_stride is {options.output_stride}; give 1 or 2")
