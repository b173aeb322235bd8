"""Windows along one axis of an image: where they stand, and how much a pixel counts within its window.

Without PyTorch, since exported files are predicted by the same rule.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

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


def pixel_weights(window: int, blend: Blend) -> Float[np.ndarray, " window"]:
    """Weights of the pixels along one side of a window, positive, at most 1, fp32.

    ``uniform`` is 1; ``gaussian`` has its standard deviation at an eighth of the window; ``hann`` is sin² sampled at
    pixel centres, which keeps the border above 0.
    """
    centres = np.arange(window) + 0.5
    if blend == "gaussian":
        weights = np.exp(-0.5 * ((centres - window / 2) / (window * _GAUSSIAN_SPREAD)) ** 2)
    elif blend == "hann":
        weights = np.sin(np.pi * centres / window) ** 2
    else:
        weights = np.ones(window)
    return weights.astype(np.float32)
