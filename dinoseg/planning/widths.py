"""How wide the structures of a class are, in pixels of the image.

The width at a point of a structure's middle line is twice its distance from the structure's edge (Blum 1967, "A
transformation for extracting new descriptors of shape"). The mask is doubled first, so that even widths have a middle,
too; of a bar the result is its width, of a disc its diameter, both exact to a pixel.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, maximum_filter

# Off the middle line a pixel nearby is farther from the edge: a neighbour by 0.7 pixels at least, and one of the next
# ring by 1, corners of the edge's own staircase included. Along it a structure that becomes wider rises less.
_RISES = {3: 0.6, 5: 0.9}
# Pixels of a region's box that are measured, and the side of the window that stands for a larger one: a distance
# transform takes 0.1 s a megapixel, and there is one for each class of each mask.
_MOST_PIXELS, _WINDOW = 500_000, 512
# Pixels from where a window is cut: nearer, a structure may have an edge out of sight, and look thinner than it is.
_MARGIN = 128
# Points that are kept of one mask.
_MOST_POINTS = 5000


@dataclass(frozen=True)
class Width:
    """Of a class, over the points of the middle lines of all its structures that were looked at.

    A point counts as much as it is wide, so that percentiles are of the class's area: half of its pixels lie in
    structures that are narrower than the median. Nubs of a ragged edge, each with a middle of its own, hardly count.

    Attributes:
        median, tenth: 50th and 10th percentile, in pixels.
        points: how many there were.
    """

    median: float
    tenth: float
    points: int

    @staticmethod
    def of(widths: Float[np.ndarray, " points"]) -> "Width | None":
        """None of no points."""
        if not widths.size:
            return None
        rising = np.sort(widths)
        covered = np.cumsum(rising) / rising.sum()
        tenth, median = (float(rising[np.searchsorted(covered, share)]) for share in (0.1, 0.5))
        return Width(median, tenth, int(widths.size))


def middle_widths(region: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, " points"]:
    """The width at each point of the middle lines of a region, in pixels; at most 5000 of them, spread evenly.

    Of a region beyond half a megapixel a window is looked at, in which widths up to 256 are what they are in the whole.
    The border of what is looked at is no edge; a region that fills it is as wide as its short side.
    """
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not rows.size:
        return np.zeros(0)
    # One pixel more, where the image has one, is outside.
    top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)
    box = region[top : rows[-1] + 2, left : columns[-1] + 2]
    window = _window(box)
    cut = box[window]
    if cut.all():
        return np.array([float(min(cut.shape))])
    distances = distance_transform_edt(np.repeat(np.repeat(cut, 2, 0), 2, 1))
    middle = distances > 0
    for side, rise in _RISES.items():
        middle &= distances >= maximum_filter(distances, side) - rise
    within = np.zeros_like(middle)
    within[tuple(_far_from_cuts(span, side) for span, side in zip(window, box.shape, strict=True))] = True
    sure = middle & within
    found: Float[np.ndarray, " points"] = distances[sure if sure.any() else middle]
    return found[:: max(1, -(-found.size // _MOST_POINTS))]


def _window(box: Bool[np.ndarray, "height width"]) -> tuple[slice, slice]:
    """Rows and columns of the box of a region that are measured: all, or those around the middle one of its pixels."""
    height, width = box.shape
    if box.size <= _MOST_PIXELS:
        return slice(0, height), slice(0, width)
    places = np.flatnonzero(box)
    row, column = divmod(int(places[len(places) // 2]), width)
    return _span(row, height), _span(column, width)


def _span(middle: int, side: int) -> slice:
    start = max(0, min(middle - _WINDOW // 2, side - _WINDOW))
    return slice(start, min(side, start + _WINDOW))


def _far_from_cuts(span: slice, side: int) -> slice:
    """Of a window that was doubled, what does not lie near where it was cut out of a box of this side."""
    first = _MARGIN if span.start > 0 else 0
    last = span.stop - span.start - (_MARGIN if span.stop < side else 0)
    return slice(2 * first, 2 * last)
