"""The linear head: BatchNorm, dropout and one 1x1 convolution on the concatenated feature maps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.backbone import FeatureMap


@dataclass
class LinearOutput:
    """Class scores before softmax, at the resolution of the feature map."""

    logits: Float[Tensor, "batch classes height width"]


class LinearHead(nn.Module):
    """Scores every patch by a linear function of its features.

    Args:
        in_channels: channels of each tapped feature map.
        num_classes: number of class indices.
        use_batchnorm: normalise the concatenated features first.
        use_cls_token: concatenate the class token of each map to all of its positions, which doubles its channels.
        dropout: share of channels dropped during training.
    """

    scores_are_probabilities = False

    def __init__(
        self,
        in_channels: tuple[int, ...],
        num_classes: int,
        use_batchnorm: bool = True,
        use_cls_token: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        width = sum(in_channels) * (2 if use_cls_token else 1)
        self.use_cls_token = use_cls_token
        self.batchnorm_layer = nn.BatchNorm2d(width) if use_batchnorm else nn.Identity()
        self.dropout = nn.Dropout2d(dropout)
        self.conv = nn.Conv2d(width, num_classes, kernel_size=1)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, image: Float[Tensor, "batch 3 height width"], features: list[FeatureMap]) -> LinearOutput:
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
        return LinearOutput(self.conv(self.dropout(self.batchnorm_layer(torch.cat(maps, dim=1)))))

    def semantic_logits(
        self, output: LinearOutput, size: tuple[int, int]
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
