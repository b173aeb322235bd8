"""Pictures as tensors: what is cut of them, and what is shown of their bands."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from dinoseg.data.bands import BandPicture, Picture


def cut(picture: Picture, top: int, left: int, height: int, width: int) -> Tensor:
    """A part of a picture as a tensor (bands, height, width): 0..1 of a ``BandPicture``, else uint8."""
    if isinstance(picture, BandPicture):
        return torch.from_numpy(picture.pixels(top, left, height, width))
    return F.pil_to_tensor(picture.crop((left, top, left + width, top + height)))


def visible_bands(pixels: Float[Tensor, "bands height width"]) -> Float[Tensor, "3 height width"]:
    """What is shown of a picture: its first three bands, or its first one three times."""
    return pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
