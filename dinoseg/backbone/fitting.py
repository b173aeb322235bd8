"""Images resized to whole patches of a backbone."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def fit_to_patches(
    image: Float[Tensor, "batch channels height width"], patch_size: int, scale: float = 1.0
) -> Float[Tensor, "batch channels height2 width2"]:
    """Bilinear resize by ``scale`` to the next multiples of ``patch_size``; the image itself where it fits already."""
    height, width = fitted_size((image.shape[-2], image.shape[-1]), patch_size, scale)
    if (height, width) == tuple(image.shape[-2:]):
        return image
    # An image that shrinks a lot would alias; one that grows by less than a patch is as it always was.
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=scale < 1)


def fitted_size(size: tuple[int, int], patch_size: int, scale: float = 1.0) -> tuple[int, int]:
    """Height and width in pixels at which the model sees an image of ``size``: multiples of ``patch_size``."""
    # Rounded first: 1.1 times 140 px are 154, not 155 patches of one pixel.
    height, width = (max(1, math.ceil(round(side * scale, 6) / patch_size)) * patch_size for side in size)
    return height, width
