"""The Plain Mask Transformer head (Cavagnero et al. 2026): masks from a frozen backbone's tokens, without a pyramid."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from dinoseg.backbone import Backbone, FeatureMap
from dinoseg.config import DecoderHeadConfig
from dinoseg.models.head import Head, HeadOptions
from dinoseg.models.mask_output import MaskOutput, semantic_map
from dinoseg.models.pmt_decoder import DecoderSizes, PlainMaskDecoder

_FFN_RATIO = 4


@dataclass(frozen=True, kw_only=True)
class PmtOptions(HeadOptions):
    """Options of the Plain Mask Transformer head.

    Attributes:
        num_queries: masks that can be found in an image.
        decoder_layers: transformer blocks.
        num_heads: attention heads of each; None for as many as the backbone's blocks have.
        decoder_ffn_dim: hidden width of their FFNs; None for four times the backbone's width.
        activation_checkpointing: recompute activations in the backward pass, which saves memory.
    """

    num_queries: int = 100
    decoder_layers: int = 6
    num_heads: int | None = None
    decoder_ffn_dim: int | None = None
    activation_checkpointing: bool = False


class PmtHead(Head[tuple[MaskOutput, ...]]):
    """Finds masks with queries that share one sequence with the backbone's tokens.

    Names of submodules and buffers are those of its published state dicts, without their prefix ``network.``.

    Args:
        in_channels: channels of each tapped layer, all alike.
        num_classes: number of class indices.
        patch_size: pixels a patch.
        backbone_heads: attention heads of the backbone's blocks.

    Raises:
        ValueError: a width that cannot be divided as it must.
    """

    predicts = "masks"
    class_layers = ("decoder.class_head",)
    scores_are_probabilities = True
    sees_image = False

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_classes: int,
        patch_size: int,
        backbone_heads: int,
        options: PmtOptions,
    ) -> None:
        super().__init__()
        dim, heads = in_channels[0], options.num_heads or backbone_heads
        if dim % (4 * heads):
            raise ValueError(
                f"decoder_head.num_heads={heads}: the pmt head needs heads of a multiple of 4 channels, and the "
                f"backbone has {dim} channels; give a divisor of {dim // 4}, or leave it out"
            )
        self.bn = nn.ModuleList(nn.BatchNorm1d(dim) for _ in in_channels)
        self.decoder = PlainMaskDecoder(
            DecoderSizes(
                dim=dim,
                num_layers=len(in_channels),
                num_classes=num_classes,
                num_queries=options.num_queries,
                num_blocks=options.decoder_layers,
                num_heads=heads,
                ffn_dim=options.decoder_ffn_dim or _FFN_RATIO * dim,
                patch_size=patch_size,
            ),
            options.activation_checkpointing,
        )

    @classmethod
    def from_config(cls, config: DecoderHeadConfig, backbone: Backbone, num_classes: int) -> "PmtHead":
        """A head for all tapped layers of a ViT.

        Raises:
            ValueError: the backbone is a ConvNeXt, or its width cannot be divided as it must.
        """
        if backbone.num_heads is None:
            raise ValueError(
                f"decoder_head.type=pmt attends to the tokens of a ViT, and {backbone.spec.name} is a ConvNeXt, which "
                "has none; give a ViT as model.dino_hub, or decoder_head.type=m2f, dense or linear"
            )
        return cls(
            in_channels=backbone.out_channels,
            num_classes=num_classes,
            patch_size=backbone.spec.patch_size,
            backbone_heads=backbone.num_heads,
            options=PmtOptions.from_config(config),
        )

    def set_progress(self, progress: float) -> None:
        """Masks are left out of attention block by block, until none is left."""
        self.decoder.anneal(progress)

    def forward(
        self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap]
    ) -> tuple[MaskOutput, ...]:
        """In training the predictions of all stages, each with mask features of its own; in evaluation the last."""
        grid = (features[0].map.shape[-2], features[0].map.shape[-1])
        return self.decoder(self.normalised([feature.tokens() for feature in features]), grid)

    def normalised(self, layers: list[Float[Tensor, "batch tokens dim"]]) -> list[Float[Tensor, "batch tokens dim"]]:
        """The tokens after each layer's BatchNorm, whose statistics are over all tokens."""
        return [
            norm(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
            for norm, tokens in zip(self.bn, layers, strict=True)
        ]

    def semantic_logits(
        self, output: tuple[MaskOutput, ...], size: tuple[int, int]
    ) -> Float[Tensor, "batch classes height width"]:
        """The semantic map of the last stage's masks."""
        return semantic_map(output[-1], size)
