"""The segmenter: a backbone and a head, and the one place where the head type decides what is built."""

from jaxtyping import Float
from torch import Tensor, nn

from dinoseg.backbone import Backbone, build_backbone
from dinoseg.config import Config
from dinoseg.models.linear_head import LinearHead, LinearOutput
from dinoseg.models.mask2former_head import Mask2FormerHead
from dinoseg.models.mask_decoder import Mask2FormerOutput


class Segmenter(nn.Module):
    """Images to class scores.

    Args:
        backbone: gives one feature map a tapped layer.
        head: scores the feature maps; has ``forward(image, features)`` and ``semantic_logits(output, size)``.
        num_classes: number of class indices.
    """

    def __init__(self, backbone: Backbone, head: LinearHead | Mask2FormerHead, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.num_classes = num_classes

    @property
    def scores_are_probabilities(self) -> bool:
        """Whether ``semantic_logits`` can be averaged as they are, or want a softmax first."""
        return self.head.scores_are_probabilities

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> LinearOutput | Mask2FormerOutput:
        """What the head's loss needs. Images are normalised, of any size."""
        return self.head(image, self.backbone(image))

    def semantic_logits(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes height width"]:
        """One score a class and pixel, at the size of the image; the largest wins."""
        return self.head.semantic_logits(self(image), (image.shape[-2], image.shape[-1]))


def build_segmenter(config: Config, num_classes: int) -> Segmenter:
    """Backbone (weights loaded or refused) and freshly initialised head, as the config says."""
    head_config = config.decoder_head
    assert config.model.mode is not None  # filled in when the config was loaded
    layers = head_config.backbone_out_layers
    backbone = build_backbone(
        config.model.dino_hub,
        weights=config.model.weights,
        layers=layers,
        use_norm=head_config.use_backbone_norm,
        mode=config.model.mode,
        drop_path=config.model.drop_path,
        lora=config.lora,
        gradient_checkpointing=config.model.gradient_checkpointing,
    )
    return Segmenter(backbone, _build_head(config, backbone, num_classes), num_classes)


def _build_head(config: Config, backbone: Backbone, num_classes: int) -> LinearHead | Mask2FormerHead:
    head = config.decoder_head
    if head.type == "linear":
        return LinearHead(backbone.out_channels, num_classes, head.use_batchnorm, head.use_cls_token, head.dropout)
    assert head.hidden_dim is not None  # filled in when the config was loaded
    return Mask2FormerHead(
        backbone.out_channels,
        num_classes,
        is_pyramid=backbone.spec.kind == "convnext",
        hidden_dim=head.hidden_dim,
        num_heads=head.num_heads,
        num_queries=head.num_queries,
        encoder_layers=head.encoder_layers,
        decoder_layers=head.decoder_layers,
        encoder_ffn_dim=head.encoder_ffn_dim,
        decoder_ffn_dim=head.decoder_ffn_dim,
        adapter_inplane=head.adapter_inplane,
        adapter_drop_path=head.adapter_drop_path,
        activation_checkpointing=head.activation_checkpointing,
    )
