"""Bilinear resampling along one axis in numpy, by explicit weights."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Taps:
    """Output pixel i is the sum over k of ``weights[i, k] * source[indices[i, k]]``.

    Pixel centres at half-integers; what lies outside the source does not count.
    """

    indices: Int[np.ndarray, "output taps"]
    weights: Float[np.ndarray, "output taps"]

    @staticmethod
    def between(source: int, output: int, antialias: bool) -> "Taps":
        """From ``source`` pixels to ``output`` pixels.

        Args:
            antialias: where the result is smaller, each of its pixels is a mean over as many as it stands for.
        """
        step = source / output
        reach = max(step, 1.0) if antialias else 1.0
        centres = (np.arange(output) + 0.5) * step
        if not antialias:
            centres = centres.clip(0.5, source - 0.5)
        first = np.floor(centres - reach + 0.5).astype(np.int64)
        indices = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
        weights = np.maximum(0.0, 1 - np.abs(indices + 0.5 - centres[:, None]) / reach)
        weights *= (indices >= 0) & (indices < source)
        weights /= weights.sum(axis=1, keepdims=True)
        return Taps(indices.clip(0, source - 1), weights.astype(np.float32))

    def apply(self, values: Float[np.ndarray, "maps _ _"], axis: int) -> Float[np.ndarray, "maps _ _"]:
        """Resamples axis 1 (rows) or 2 (columns)."""
        shape = [1, 1, 1]
        shape[axis] = -1
        total: np.ndarray | None = None
        for indices, weights in zip(self.indices.T, self.weights.T, strict=True):
            if not weights.any():
                continue
            part = values.take(indices, axis=axis) * weights.reshape(shape)
            total = part if total is None else total + part
        assert total is not None
        return total

    def part(self, first: int, last: int, first_source: int, sources: int) -> "Taps":
        """Those of output pixels ``first`` to ``last`` (exclusive), of ``sources`` pixels from ``first_source`` on."""
        # What has no weight may lie outside.
        indices = (self.indices[first:last] - first_source).clip(0, sources - 1)
        return Taps(indices, self.weights[first:last])

    @property
    def lowest(self) -> Int[np.ndarray, " output"]:
        """The first source pixel that counts for each output pixel."""
        return np.where(self.weights > 0, self.indices, self.indices.max()).min(axis=1)

    @property
    def highest(self) -> Int[np.ndarray, " output"]:
        """The last one."""
        return np.where(self.weights > 0, self.indices, 0).max(axis=1)


def resized(image: Float[np.ndarray, "bands _ _"], size: tuple[int, int]) -> Float[np.ndarray, "bands _ _"]:
    """An image at another height and width, with antialiasing; the image itself where the size is its own."""
    for axis in (1, 2):
        if image.shape[axis] != size[axis - 1]:
            image = Taps.between(image.shape[axis], size[axis - 1], antialias=True).apply(image, axis)
    return image
