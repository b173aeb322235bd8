"""Scores of an image from windows of one size, in numpy, a band of rows at a time.

What ``inference/windows.py`` does for PyTorch models, for the one case that an ONNX file needs: one view, no
augmentation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dinoseg.data.window_axis import Blend, pixel_weights, window_starts
from dinoseg.onnx.resampling import Taps, resized

Scores = Float[np.ndarray, "classes _ _"]
# (batch, bands, height, width) to (batch, classes, height, width).
Model = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Windows:
    """Windows of one size over images of any.

    Attributes:
        size: height and width of a window in pixels.
        stride: their step, down and across.
        blend: ``uniform``, ``gaussian`` or ``hann``: weight of a pixel within its window.
        img_size: short side that an image is resized to first; None keeps its size.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    blend: Blend = "uniform"
    img_size: int | None = None

    def scores(self, model: Model, image: Float[np.ndarray, "bands height width"]) -> Iterator[Scores]:
        """Scores at native size, from top to bottom, as many rows at a time as are known.

        Beside these, memory holds the rows that wait for windows.

        Args:
            image: normalised, of any size.
        """
        native = image.shape[1], image.shape[2]
        short = self.img_size or min(native)
        size = tuple(max(1, round(side * (short / min(native)))) for side in native)
        rows = Taps.between(size[0], native[0], antialias=False)
        columns = Taps.between(size[1], native[1], antialias=False)
        if size == native:
            yield from self._bands(model, image)
            return
        held: np.ndarray | None = None
        held_from = done = 0
        for band in self._bands(model, resized(image, (size[0], size[1]))):
            held = band if held is None else np.concatenate([held, band], axis=1)
            ready = int(np.searchsorted(rows.highest, held_from + held.shape[1]))
            if ready > done:
                known = rows.part(done, ready, held_from, held.shape[1])
                yield columns.apply(known.apply(held, axis=1), axis=2)
                done = ready
            if done < native[0]:
                unneeded = min(int(rows.lowest[done]) - held_from, held.shape[1])
                held, held_from = held[:, unneeded:], held_from + unneeded

    def _bands(self, model: Model, image: Float[np.ndarray, "bands height width"]) -> Iterator[Scores]:
        """Scores of the image's own rows, each band once no window below reaches into it."""
        height, width = image.shape[1:]
        tops, lefts = (
            window_starts(side, window, step)
            for side, window, step in zip((height, width), self.size, self.stride, strict=True)
        )
        down, across = (pixel_weights(side, self.blend) for side in self.size)
        waiting: np.ndarray | None = None
        for number, top in enumerate(tops):
            scores = [model(self._part(image, top, left)[None])[0] for left in lefts]
            if waiting is None:
                waiting = np.zeros((len(scores[0]) + 1, self.size[0], width), np.float32)
            for left, score in zip(lefts, scores, strict=True):
                reach = min(self.size[1], width - left)
                weights = down[:, None] * across[None, :reach]
                waiting[:-1, :, left : left + reach] += score[:, :, :reach] * weights
                # The last map is the sum of the weights.
                waiting[-1, :, left : left + reach] += weights
            end = tops[number + 1] if number + 1 < len(tops) else height
            known = end - top
            yield waiting[:-1, :known] / waiting[-1:, :known]
            rest = waiting[:, known:]
            waiting = np.concatenate([rest, np.zeros((*rest.shape[:1], known, width), np.float32)], axis=1)

    def _part(self, image: Float[np.ndarray, "bands height width"], top: int, left: int) -> np.ndarray:
        """One window, padded below and right with 0, the mean colour."""
        found = image[:, top : top + self.size[0], left : left + self.size[1]]
        missing = [(0, side - have) for side, have in zip(self.size, found.shape[1:], strict=True)]
        return np.pad(found, [(0, 0), *missing]) if any(behind for _, behind in missing) else found
