"""The linear head: BatchNorm, dropout and one 1x1 convolution on the concatenated feature maps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.backbone import Backbone, FeatureMap
from dinoseg.config import DecoderHeadConfig
from dinoseg.models.head import Head, HeadOptions, PixelOutput


@dataclass(frozen=True, kw_only=True)
class LinearOptions(HeadOptions):
    """Options of the linear head.

    Attributes:
        use_batchnorm: normalise the concatenated features first.
        use_cls_token: concatenate the class token of each map to all of its positions, which doubles its channels.
        dropout: share of channels dropped during training, 0..1.
    """

    use_batchnorm: bool = True
    use_cls_token: bool = False
    dropout: float = 0.1


class LinearHead(Head[PixelOutput]):
    """Scores every patch by a linear function of its features.

    Args:
        in_channels: channels of each tapped feature map.
        num_classes: number of class indices.
    """

    predicts = "pixels"
    class_layers = ("conv",)
    scores_are_probabilities = False
    sees_image = False

    def __init__(self, *, in_channels: tuple[int, ...], num_classes: int, options: LinearOptions) -> None:
        super().__init__()
        width = sum(in_channels) * (2 if options.use_cls_token else 1)
        self.use_cls_token = options.use_cls_token
        self.batchnorm_layer = nn.BatchNorm2d(width) if options.use_batchnorm else nn.Identity()
        self.dropout = nn.Dropout2d(options.dropout)
        self.conv = nn.Conv2d(width, num_classes, kernel_size=1)
        nn.init.normal_(self.conv.weight, std=0.01)

    @classmethod
    def from_config(cls, config: DecoderHeadConfig, backbone: Backbone, num_classes: int) -> "LinearHead":
        """A head for all tapped layers of the backbone."""
        options = LinearOptions.from_config(config)
        return cls(in_channels=backbone.out_channels, num_classes=num_classes, options=options)

    def forward(self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap]) -> PixelOutput:
        """Scores at the resolution of the first feature map; others (ConvNeXt stages) are resized to it."""
        size = features[0].map.shape[-2:]
        maps = []
        for feature in features:
            resized = feature.map
            if resized.shape[-2:] != size:
                resized = functional.interpolate(resized, size=size, mode="bilinear", align_corners=False)
            maps.append(resized)
            if self.use_cls_token:
                maps.append(_spread(feature, size))
        return PixelOutput(self.conv(self.dropout(self.batchnorm_layer(torch.cat(maps, dim=1)))))

    def semantic_logits(
        self, output: PixelOutput, size: tuple[int, int]
    ) -> Float[Tensor, "batch classes height width"]:
        """The scores resized bilinearly to ``size`` (height, width) in pixels."""
        return functional.interpolate(output.logits.float(), size=size, mode="bilinear", align_corners=False)


def _spread(feature: FeatureMap, size: torch.Size) -> Float[Tensor, "batch channels height width"]:
    if feature.cls is None:
        raise ValueError(
            "decoder_head.use_cls_token=true, but this backbone has no class token; "
            "set decoder_head.use_cls_token=false"
        )
    return feature.cls[:, :, None, None].expand(-1, -1, *size)
