"""The Mask2Former head: adapter, pixel decoder and mask decoder behind one module."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from dinoseg.backbone import Backbone, FeatureMap, fit_to_patches
from dinoseg.config import DecoderHeadConfig
from dinoseg.models.adapter import Adapter
from dinoseg.models.head import Head, HeadOptions
from dinoseg.models.mask_decoder import MaskDecoder
from dinoseg.models.mask_output import MaskOutput, semantic_map
from dinoseg.models.pixel_decoder import PixelDecoder

_LARGEST_STRIDE = 32


@dataclass(frozen=True, kw_only=True)
class Mask2FormerOptions(HeadOptions):
    """Options of the Mask2Former head.

    Attributes:
        hidden_dim: width of pixel and mask decoder; a multiple of 32 and of ``num_heads``.
        num_heads: attention heads of both.
        num_queries: masks that can be found in an image.
        encoder_layers, encoder_ffn_dim: layers of the pixel decoder and the hidden width of their FFNs.
        decoder_layers, decoder_ffn_dim: likewise of the mask decoder.
        adapter_inplane: channels of the adapter's spatial prior at stride 4.
        adapter_drop_path: rate of stochastic depth in the adapter, 0..1.
        activation_checkpointing: recompute activations in the backward pass, which saves memory.
    """

    hidden_dim: int = 256
    num_heads: int = 8
    num_queries: int = 100
    encoder_layers: int = 6
    decoder_layers: int = 9
    encoder_ffn_dim: int = 1024
    decoder_ffn_dim: int = 2048
    adapter_inplane: int = 64
    adapter_drop_path: float = 0.3
    activation_checkpointing: bool = False


class Mask2FormerHead(Head[MaskOutput]):
    """Finds masks with queries, on the pyramid that the adapter makes of a ViT or on a ConvNeXt's own four stages.

    The image is resized to sides that are multiples of 32 first, as the backbone resizes it to multiples of its patch.
    All maps then cover the same extent, whatever the size and the patch.

    Args:
        in_channels: channels of the four tapped maps.
        num_classes: number of class indices.
        is_pyramid: the maps are at strides 4, 8, 16 and 32 already (ConvNeXt); no adapter.
        bands: of the image.

    Raises:
        ValueError: not four maps, or a ``hidden_dim`` that cannot be divided as it must.
    """

    predicts = "masks"
    class_layers = ("predictor.class_embed",)
    scores_are_probabilities = True

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_classes: int,
        is_pyramid: bool = False,
        options: Mask2FormerOptions,
        bands: int = 3,
    ) -> None:
        super().__init__()
        _check(in_channels, options)
        self.adapter = (
            None
            if is_pyramid
            else Adapter(
                embed_dim=in_channels[0],
                inplane=options.adapter_inplane,
                bands=bands,
                drop_path=options.adapter_drop_path,
                activation_checkpointing=options.activation_checkpointing,
            )
        )
        self.pixel_decoder = PixelDecoder(
            in_channels=in_channels,
            hidden_dim=options.hidden_dim,
            num_heads=options.num_heads,
            ffn_dim=options.encoder_ffn_dim,
            num_layers=options.encoder_layers,
            activation_checkpointing=options.activation_checkpointing,
        )
        self.predictor = MaskDecoder(
            hidden_dim=options.hidden_dim,
            num_classes=num_classes,
            num_queries=options.num_queries,
            num_heads=options.num_heads,
            ffn_dim=options.decoder_ffn_dim,
            num_layers=options.decoder_layers,
            activation_checkpointing=options.activation_checkpointing,
        )

    @classmethod
    def from_config(cls, config: DecoderHeadConfig, backbone: Backbone, num_classes: int) -> "Mask2FormerHead":
        """A head with an adapter for a ViT, without for a ConvNeXt."""
        return cls(
            in_channels=backbone.out_channels,
            num_classes=num_classes,
            is_pyramid=backbone.spec.kind == "convnext",
            options=Mask2FormerOptions.from_config(config),
            bands=backbone.bands,
        )

    def forward(self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap]) -> MaskOutput:
        """Predictions of all stages; the four maps cover the extent of the image."""
        pyramid = [feature.map for feature in features]
        if self.adapter is not None:
            pyramid = self.adapter(fit_to_patches(image, _LARGEST_STRIDE), pyramid)
        finest, levels = self.pixel_decoder(pyramid)
        return self.predictor(finest, levels, self.pixel_decoder.mask_feature)

    def semantic_logits(self, output: MaskOutput, size: tuple[int, int]) -> Float[Tensor, "batch classes height width"]:
        """The semantic map of the last stage's masks."""
        return semantic_map(output, size)


def _check(in_channels: tuple[int, ...], options: Mask2FormerOptions) -> None:
    if len(in_channels) != 4:
        raise ValueError(
            f"decoder_head.backbone_out_layers: the m2f head taps four layers, found {len(in_channels)}; "
            "give FOUR_EVEN_INTERVALS, FOUR_LAST or four block indices"
        )
    hidden_dim, num_heads = options.hidden_dim, options.num_heads
    if hidden_dim % _LARGEST_STRIDE or hidden_dim % num_heads:
        raise ValueError(f"decoder_head.hidden_dim={hidden_dim}: give a multiple of 32 and of num_heads={num_heads}")
