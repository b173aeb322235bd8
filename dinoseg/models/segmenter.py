"""The segmenter: a backbone and a head, and the one place that lists the heads."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinoseg.backbone import Backbone, FeatureMap, build_backbone
from dinoseg.backbone.input_bands import RGB, PictureBands
from dinoseg.config import Config
from dinoseg.config.defaults import trains_bands
from dinoseg.models.dense_head import DenseHead
from dinoseg.models.eomt_head import EomtHead
from dinoseg.models.head import Head, PixelOutput
from dinoseg.models.linear_head import LinearHead
from dinoseg.models.mask2former_head import Mask2FormerHead
from dinoseg.models.mask_output import MaskOutput
from dinoseg.models.pmt_head import PmtHead

# The head of each ``decoder_head.type``.
HEADS: Mapping[str, type[Head[Any]]] = MappingProxyType(
    {
        "linear": LinearHead,
        "dense": DenseHead,
        "m2f": Mask2FormerHead,
        "pmt": PmtHead,
        "eomt": EomtHead,
    }
)


class Segmenter(nn.Module):
    """Images to class scores.

    Args:
        backbone: gives one feature map a tapped layer.
        head: scores the feature maps.
        num_classes: number of class indices.
    """

    def __init__(self, backbone: Backbone, head: Head[Any], num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head: Head[Any] = head
        self.num_classes = num_classes

    @property
    def scores_are_probabilities(self) -> bool:
        """Whether ``semantic_logits`` can be averaged as they are, or want a softmax first."""
        return self.head.scores_are_probabilities

    def forward(
        self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap] | None = None
    ) -> PixelOutput | MaskOutput | tuple[MaskOutput, ...]:
        """What the head's loss needs. Images are normalised, of any size.

        Args:
            features: the backbone's for these images, where they are known already; computed when left out.
        """
        return self.head(image, self.backbone(image) if features is None else features)

    def features(self, image: Float[Tensor, "batch bands height width"]) -> list[FeatureMap]:
        """The backbone's features, one map a tapped layer over the extent of the images."""
        return self.backbone(image)

    def semantic_logits(
        self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap] | None = None
    ) -> Float[Tensor, "batch classes height width"]:
        """One score a class and pixel, at the size of the image; the largest wins."""
        return self.head.semantic_logits(self(image, features), (image.shape[-2], image.shape[-1]))


def build_segmenter(config: Config, num_classes: int) -> Segmenter:
    """Backbone (weights loaded or refused) and freshly initialised head, as the config says.

    Raises:
        ValueError: options of backbone or head that do not fit, or weights that cannot be had.
    """
    head_config = config.decoder_head
    # Filled in when the config was loaded.
    assert config.model.mode is not None and head_config.backbone_out_layers is not None
    backbone = build_backbone(
        config.model.dino_hub,
        weights=config.model.weights,
        layers=head_config.backbone_out_layers,
        use_norm=head_config.use_backbone_norm,
        mode=config.model.mode,
        drop_path=config.model.drop_path,
        lora=config.lora,
        gradient_checkpointing=config.model.gradient_checkpointing,
        scale=config.model.backbone_scale,
        bands=_picture_bands(config),
        patch_size=config.model.patch_size,
    )
    head = HEADS[head_config.type].from_config(head_config, backbone, num_classes)
    return Segmenter(backbone, head, num_classes)


def _picture_bands(config: Config) -> PictureBands:
    bands = config.datasets.bands
    return RGB if bands is None else PictureBands(len(bands), config.model.band_weights or "mean", trains_bands(config))


def share_backbone(first: Segmenter, second: Segmenter) -> bool:
    """Gives the second segmenter the first one's backbone tensors, where the two hold the same; whether they do.

    For models of which nothing is trained any more, on one device.
    """
    ours, theirs = first.backbone.state_dict(), second.backbone.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
        return False
    second.backbone.load_state_dict(ours, assign=True)
    return True
