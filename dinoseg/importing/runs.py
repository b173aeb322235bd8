"""Pixels of a region as horizontal runs: small however large the region, and quickly painted."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

# Above this mean length, a slice a run is faster than one index of all pixels, and needs no memory.
_LONG = 48


@dataclass(frozen=True)
class Runs:
    """Columns ``starts`` to ``ends - 1`` of ``rows``; no pixel twice, none empty, none outside the picture."""

    rows: Int64[np.ndarray, " runs"]
    starts: Int64[np.ndarray, " runs"]
    ends: Int64[np.ndarray, " runs"]

    @property
    def area(self) -> int:
        """Pixels."""
        return int((self.ends - self.starts).sum())

    def paint(self, canvas: Int32[np.ndarray, "height width"], value: int) -> None:
        """Sets the pixels to a value, in a canvas whose rows lie one after the other in memory."""
        lengths = self.ends - self.starts
        total = int(lengths.sum())
        if total > _LONG * len(lengths):
            for row, start, end in zip(self.rows.tolist(), self.starts.tolist(), self.ends.tolist(), strict=True):
                canvas[row, start:end] = value
            return
        first = self.rows * canvas.shape[1] + self.starts
        places = np.arange(total) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
        canvas.reshape(-1)[places] = value


class Region(ABC):
    """What an annotation covers."""

    @abstractmethod
    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size."""


@dataclass(frozen=True)
class Bitmap(Region):
    """A region that is given pixel by pixel, in a frame whose corner is at (top, left) of the picture."""

    pixels: Bool[np.ndarray, "frame_height frame_width"]
    top: int = 0
    left: int = 0

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size."""
        top, left = max(self.top, 0), max(self.left, 0)
        within = self.pixels[top - self.top : max(height - self.top, 0), left - self.left : max(width - self.left, 0)]
        framed = np.zeros((within.shape[0], within.shape[1] + 2), np.int8)
        framed[:, 1:-1] = within
        change = np.diff(framed, axis=1)
        # Both are in the order of the rows, and every run that starts ends in its row.
        rows, starts = np.nonzero(change == 1)
        ends = np.nonzero(change == -1)[1]
        return Runs(rows.astype(np.int64) + top, starts.astype(np.int64) + left, ends.astype(np.int64) + left)


def joined(parts: list[Runs]) -> Runs:
    """Runs of parts that share no pixel, in one."""
    if not parts:
        empty = np.zeros(0, np.int64)
        return Runs(empty, empty, empty)
    return Runs(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.ends for part in parts]),
    )
