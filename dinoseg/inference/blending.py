"""How much a pixel counts within its window, as tensors.

The weight of a pixel is the product of its row's and its column's weight. So the sum of weights over all windows is an
outer product too, and no weight map of image size is ever formed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dinoseg.data import window_axis
from dinoseg.data.window_axis import Blend


def pixel_weights(window: int, blend: Blend) -> Float[Tensor, " window"]:
    """``data/window_axis.py::pixel_weights`` as a tensor."""
    return torch.from_numpy(window_axis.pixel_weights(window, blend))


def total_weights(length: int, starts: tuple[int, ...], weights: Float[Tensor, " window"]) -> Float[Tensor, " length"]:
    """Sum of the windows' weights at every pixel of an axis; what a window has beyond the axis is cut off."""
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        covered = min(len(weights), length - start)
        total[start : start + covered] += weights[:covered]
    return total.float()
