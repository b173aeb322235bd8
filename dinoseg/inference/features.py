"""Features of the backbone for one image."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dinoseg.data.transforms import resize_image
from dinoseg.models.segmenter import Segmenter


@dataclass(frozen=True)
class ImageFeatures:
    """One tapped layer of the backbone for one image.

    Attributes:
        layer: index of the block or stage, from 0.
        map: fp32, on the CPU.
        stride: height and width of the image that one feature covers, in pixels of its native size. The image is
            resized to whole patches first, so it may differ a little from the patch size.
        class_token: of this layer (of a ConvNeXt, the mean over the map); None for backbones that have none.
    """

    layer: int
    map: Float[Tensor, "channels height width"]
    stride: tuple[float, float]
    class_token: Float[Tensor, " channels"] | None


def image_features(
    segmenter: Segmenter,
    image: Float[Tensor, "bands height width"],
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
    img_size: int | None = None,
) -> list[ImageFeatures]:
    """What the head sees of a normalised image, which goes through the backbone in one piece.

    Args:
        img_size: the short side is resized to this first; None keeps the size.
    """
    height, width = image.shape[-2:]
    factor = 1.0 if img_size is None else img_size / min(height, width)
    resized = resize_image(image, (max(1, round(height * factor)), max(1, round(width * factor))))
    precision = torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype not in (None, torch.float32))
    with torch.no_grad(), precision:
        maps = segmenter.backbone(resized[None].to(device))
    found = []
    for layer, feature in zip(segmenter.backbone.feature_layers, maps, strict=True):
        plane = feature.map[0].float().cpu()
        stride = (height / plane.shape[-2], width / plane.shape[-1])
        token = None if feature.cls is None else feature.cls[0].float().cpu()
        found.append(ImageFeatures(layer, plane, stride, token))
    return found
