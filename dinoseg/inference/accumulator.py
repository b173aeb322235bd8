"""Scores of one view of an image, accumulated from windows and handed out row by row.

Only the rows that still wait for windows are held, in a ring of rows. Which windows share a forward pass, and the
order in which they are added, depend on the grid alone and not on which rows are asked for: any division into stripes
gives the same scores to the last bit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dinoseg.data.window_axis import Blend, window_starts
from dinoseg.inference.blending import pixel_weights, total_weights
from dinoseg.inference.tta import WindowScorer


@dataclass(frozen=True)
class WindowGrid:
    """Windows over an image of ``size``, in batches.

    Attributes:
        size: height and width of the image.
        window: height and width of a window.
        batches: (top, left) of the windows that share a forward pass, rows first.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    batches: tuple[tuple[tuple[int, int], ...], ...]

    @staticmethod
    def over(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], batch_size: int) -> "WindowGrid":
        """Batches stay within one row of windows where a row fills one: a batch over two rows would hold both."""
        tops = window_starts(size[0], window[0], stride[0])
        lefts = window_starts(size[1], window[1], stride[1])
        rows = [[(top, left) for left in lefts] for top in tops]
        if len(lefts) < batch_size:
            rows = [[place for row in rows for place in row]]
        batches = tuple(tuple(row[i : i + batch_size]) for row in rows for i in range(0, len(row), batch_size))
        return WindowGrid(size, window, tops, lefts, batches)

    @property
    def is_single(self) -> bool:
        """Whether one window is the image, neither more nor less."""
        return self.window == self.size

    def reached(self, axis: int, start: int) -> int:
        """Rows (axis 0) or columns (1) that the windows before the one at ``start`` reach; 0 for the first."""
        before = [other for other in (self.tops, self.lefts)[axis] if other < start]
        return before[-1] + self.window[axis] if before else 0

    def most_rows_held(self, rows_at_once: int) -> int:
        """Rows that a ring must have when ``rows_at_once`` rows are asked for at a time."""
        beyond = max(batch[-1][0] - batch[0][0] for batch in self.batches)
        return min(self.size[0], self.window[0] + rows_at_once + beyond)


class RowAccumulator:
    """Weighted mean of window scores, by rows from top to bottom.

    Args:
        scorer: windows to scores.
        image: on any device; windows are moved to the scorer's.
        grid: over this image.
        blend: weight of a pixel within its window.
        rows_at_once: the most rows ever asked for at a time.
        keep: hold what windows give to later rows (each window is scored once); otherwise windows that reach into
            two stripes are scored for each, and no more than ``rows_at_once`` rows are held. An image in one window
            is always kept: its scores come in one piece anyway.
    """

    def __init__(
        self,
        scorer: WindowScorer,
        image: Float[Tensor, "bands height width"],
        grid: WindowGrid,
        blend: Blend,
        rows_at_once: int,
        keep: bool = True,
    ) -> None:
        self._scorer = scorer
        self._image = image
        self._grid = grid
        self._keep = keep or grid.is_single
        device = scorer.device
        blend = "uniform" if grid.is_single else blend
        row_weights, column_weights = (pixel_weights(side, blend) for side in grid.window)
        self._weight = None if blend == "uniform" else (row_weights[:, None] * column_weights).to(device)
        self._row_total = total_weights(grid.size[0], grid.tops, row_weights).to(device)
        self._column_total = total_weights(grid.size[1], grid.lefts, column_weights).to(device)
        held = grid.most_rows_held(rows_at_once) if self._keep else min(rows_at_once, grid.size[0])
        # Not zeroed: the first window to reach a pixel sets it, and only the others add.
        self._ring = torch.empty(scorer.model.num_classes, 0 if grid.is_single else held, grid.size[1], device=device)
        self._first = 0  # rows above are given back
        self._next_batch = 0

    def rows(self, first: int, last: int) -> Float[Tensor, "classes rows width"]:
        """Scores of the rows ``first`` to ``last`` (exclusive); ``first`` may not decrease from call to call."""
        self._release(first)
        limit = self._grid.size[0] if self._keep else last
        while self._next_batch < len(self._grid.batches) and self._grid.batches[self._next_batch][0][0] < last:
            self._add(self._grid.batches[self._next_batch], limit)
            self._next_batch += 1
        pieces = [self._ring[:, ring] for ring, _ in self._pieces(first, last)]
        totals = self._row_total[first:last, None] * self._column_total
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)) / totals

    def _release(self, first: int) -> None:
        if not self._keep:
            bottoms = (batch[-1][0] + self._grid.window[0] for batch in self._grid.batches)
            self._next_batch = next(i for i, bottom in enumerate(bottoms) if bottom > first)
        self._first = first

    def _add(self, batch: tuple[tuple[int, int], ...], limit: int) -> None:
        """Adds what the batch gives to the rows from the first one held up to ``limit``."""
        scores = self._scorer(self._cut(batch))
        if self._grid.is_single:
            self._ring = _by_class(scores[0])
            return
        for (top, left), window in zip(batch, scores, strict=True):
            if self._weight is not None:
                # Not fused with the addition: each operation rounds once, however rows are grouped.
                window = window * self._weight
            bottom = min(top + self._grid.window[0], limit)
            first = max(top, self._first)
            # Rows that the windows above have reached, then those that this row of windows is the first to reach.
            border = min(max(self._grid.reached(0, top), first), bottom)
            window = _by_class(window)
            self._place(window, (top, left), first, border, self._grid.size[1])
            self._place(window, (top, left), border, bottom, self._grid.reached(1, left))

    def _place(
        self, window: Float[Tensor, "classes height width"], place: tuple[int, int], first: int, last: int, reached: int
    ) -> None:
        """Rows ``first`` to ``last`` (exclusive) of a window: added up to column ``reached``, set beyond it."""
        top, left = place
        right = min(left + self._grid.window[1], self._grid.size[1])
        border = min(max(reached, left), right)
        for ring, start in self._pieces(first, last):
            rows = window[:, start - top : start - top + ring.stop - ring.start]
            self._ring[:, ring, left:border] += rows[..., : border - left]
            self._ring[:, ring, border:right] = rows[..., border - left : right - left]

    def _cut(self, batch: tuple[tuple[int, int], ...]) -> Float[Tensor, "batch bands height width"]:
        """The windows; beyond the image they are 0, the mean colour of a normalised image."""
        height, width = self._grid.window
        windows = torch.zeros(
            len(batch), self._image.shape[0], height, width, dtype=torch.float32, device=self._image.device
        )
        for window, (top, left) in zip(windows, batch, strict=True):
            patch = self._image[:, top : top + height, left : left + width]
            window[:, : patch.shape[1], : patch.shape[2]] = patch
        return windows.to(self._scorer.device)

    def _pieces(self, first: int, last: int) -> list[tuple[slice, int]]:
        """Rows ``first`` to ``last`` as slices of the ring, each with the row that it begins with."""
        held = self._ring.shape[1]
        pieces = []
        while first < last:
            place = first % held
            count = min(last - first, held - place)
            pieces.append((slice(place, place + count), first))
            first += count
        return pieces


def _by_class(
    scores: Float[Tensor, "classes height width"],
) -> Float[Tensor, "classes height width"]:
    """The same scores, one class after the other in memory.

    Batches often come with the classes innermost (channels last); adding them so is ten times slower on a CPU, and a
    transposition of two axes is copied twice as fast as one of three.
    """
    if scores.stride(0) != 1 or scores.is_contiguous():
        return scores
    classes = scores.shape[0]
    return scores.permute(1, 2, 0).reshape(-1, classes).t().contiguous().view(scores.shape)
