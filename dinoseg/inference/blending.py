"""Where the windows stand along one axis, and how much a pixel counts within its window.

The weight of a pixel is the product of its row's and its column's weight. So the sum of weights over all windows is an
outer product too, and no weight map of image size is ever formed.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Blend = Literal["uniform", "gaussian", "hann"]

# Standard deviation of the gaussian, as a share of the window.
_GAUSSIAN_SPREAD = 1 / 8


def window_starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """First pixels of the windows along an axis of ``length`` pixels, ascending and without repetition.

    Windows advance by ``stride``; the last one is moved back so that it ends with the axis. An axis no longer than the
    window has one window, which starts at 0 (and is padded behind).
    """
    if length <= window:
        return (0,)
    return (*range(0, length - window, stride), length - window)


def pixel_weights(window: int, blend: Blend) -> Float[Tensor, " window"]:
    """Weights of the pixels along one side of a window, positive, at most 1.

    ``uniform`` is 1; ``gaussian`` has its standard deviation at an eighth of the window; ``hann`` is sin² sampled at
    pixel centres, which keeps the border above 0.
    """
    centres = torch.arange(window, dtype=torch.float64) + 0.5
    if blend == "gaussian":
        weights = torch.exp(-0.5 * ((centres - window / 2) / (window * _GAUSSIAN_SPREAD)) ** 2)
    elif blend == "hann":
        weights = torch.sin(torch.pi * centres / window) ** 2
    else:
        weights = torch.ones(window, dtype=torch.float64)
    return weights.float()


def total_weights(length: int, starts: tuple[int, ...], weights: Float[Tensor, " window"]) -> Float[Tensor, " length"]:
    """Sum of the windows' weights at every pixel of an axis; what a window has beyond the axis is cut off."""
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        covered = min(len(weights), length - start)
        total[start : start + covered] += weights[:covered]
    return total.float()
