"""The Encoder-only Mask Transformer head (Kerssies et al. 2025): masks from the last blocks of the backbone itself."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from dinoseg.backbone import Backbone, FeatureMap
from dinoseg.config import DecoderHeadConfig
from dinoseg.models.eomt_decoder import EncoderOnlyDecoder
from dinoseg.models.head import Head, HeadOptions
from dinoseg.models.mask_output import MaskOutput, semantic_map

# Blocks that queries join, by the depth of the ViT from which on: as published for ViT-S and B, L, and g.
_BLOCKS_BY_DEPTH = ((40, 5), (24, 4), (0, 3))


@dataclass(frozen=True, kw_only=True)
class EomtOptions(HeadOptions):
    """Options of the Encoder-only Mask Transformer head.

    Attributes:
        num_queries: masks that can be found in an image.
        decoder_layers: blocks of the backbone that queries join; None for as many as published for its depth.
        activation_checkpointing: recompute activations of the head in the backward pass, which saves memory.
    """

    num_queries: int = 100
    decoder_layers: int | None = None
    activation_checkpointing: bool = False


class EomtHead(Head[tuple[MaskOutput, ...]]):
    """Finds masks with queries that join the tokens of the image in the last blocks of the backbone.

    The features it takes are the tokens before those blocks, and it runs the blocks itself
    (``Backbone.open_last_blocks``): queries and image attend to each other in them, so the backbone alone cannot. Their
    parameters stay the backbone's. So ``model.mode`` decides what of them is trained, as for any head, and must not be
    "freeze" in a training: a frozen block never learns what a query is.

    Args:
        backbone: a ViT with one tapped layer; it stops before its last blocks from now on.
        num_classes: number of class indices.

    Raises:
        ValueError: the backbone taps several layers, or has fewer blocks than queries are to join.
    """

    predicts = "masks"
    class_layers = ("network.class_head",)
    scores_are_probabilities = True
    sees_image = False

    def __init__(self, backbone: Backbone, *, num_classes: int, options: EomtOptions) -> None:
        super().__init__()
        count = options.decoder_layers or blocks_to_join(backbone.layers[-1] + 1)
        self.network = EncoderOnlyDecoder(
            backbone.open_last_blocks(count),
            dim=backbone.out_channels[0],
            num_classes=num_classes,
            num_queries=options.num_queries,
            patch_size=backbone.spec.patch_size,
            activation_checkpointing=options.activation_checkpointing,
        )

    @classmethod
    def from_config(cls, config: DecoderHeadConfig, backbone: Backbone, num_classes: int) -> "EomtHead":
        """A head for the last blocks of a ViT.

        Raises:
            ValueError: the backbone is a ConvNeXt, taps several layers, or has fewer blocks than queries are to join.
        """
        if backbone.num_heads is None:
            raise ValueError(
                f"decoder_head.type=eomt puts queries among the tokens of a ViT, and {backbone.spec.name} is a "
                "ConvNeXt, which has none; give a ViT as model.dino_hub, or decoder_head.type=m2f, dense or linear"
            )
        return cls(backbone, num_classes=num_classes, options=EomtOptions.from_config(config))

    def set_progress(self, progress: float) -> None:
        """Masks are left out of attention block by block, until none is left."""
        self.network.anneal(progress)

    def forward(
        self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap]
    ) -> tuple[MaskOutput, ...]:
        """In training the predictions of all stages, each with mask features of its own; in evaluation the last."""
        (feature,) = features
        return self.network(feature.tokens(), (feature.map.shape[-2], feature.map.shape[-1]))

    def semantic_logits(
        self, output: tuple[MaskOutput, ...], size: tuple[int, int]
    ) -> Float[Tensor, "batch classes height width"]:
        """The semantic map of the last stage's masks."""
        return semantic_map(output[-1], size)


def blocks_to_join(depth: int) -> int:
    """How many of its last blocks queries join in a ViT of so many blocks: as published, 3 below 24, 4 below 40."""
    return min(next(count for least, count in _BLOCKS_BY_DEPTH if depth >= least), max(1, depth - 1))
