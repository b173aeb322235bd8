"""Polygons to pixels: a pixel belongs to a polygon if its centre lies inside, by the even-odd rule.

The centre of the pixel in row r and column c is at (c + 0.5, r + 0.5). A centre on a left or upper edge belongs to the
polygon, one on a right or lower edge does not, so that polygons with a common edge share no pixel and leave none out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from dinoseg.importing.runs import Region, Runs, joined
from dinoseg.system.json_files import is_finite_number, show_found
from dinoseg.system.messages import plural

Ring = Float64[np.ndarray, "_ 2"]
_Edges = Float64[np.ndarray, "_ 4"]

# Crossings of edges and rows that are looked at together.
_MOST_CROSSINGS = 1 << 22
# Beyond it, a coordinate is no place near any picture, and products lose their last digits.
FARTHEST = 1e7


@dataclass(frozen=True)
class Polygon(Region):
    """Rings of corners (x, y); a ring within another is a hole. Rings close by themselves."""

    rings: tuple[Ring, ...]

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size."""
        return joined(_crossed(_edges(self.rings), 0, height, width))


def ring_of(points: Sequence[Any], where: str) -> Ring:
    """Corners in pixels as they stand in a document, ``[[x, y], ...]``.

    Raises:
        ValueError: fewer than three, no pairs of finite numbers, or one that is far from any picture.
    """
    ring = corners_of(points, where)
    require_near(ring.ravel().tolist(), where)
    return ring


def corners_of(points: Sequence[Any], where: str) -> Ring:
    """Corners in any unit; see ``ring_of``."""
    if len(points) < 3:
        raise ValueError(
            f"{where}: a polygon of {plural(len(points), 'point')}, which covers nothing; three "
            "are the fewest: correct or remove it"
        )
    for index, point in enumerate(points):
        if not isinstance(point, list | tuple) or len(point) < 2 or not all(map(is_finite_number, point[:2])):
            raise ValueError(f"{where}: point {index} is {_shown(point)}; two numbers [x, y] expected: correct it")
    return np.array([point[:2] for point in points], dtype=np.float64)


def require_near(values: Sequence[float], where: str) -> None:
    """Raises ValueError for a coordinate that is far from any picture."""
    for value in values:
        if not abs(value) <= FARTHEST:
            raise ValueError(f"{where}: coordinate {value:g} is far from any picture; correct or remove the shape")


def box_ring(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Ring:
    """The corners of a box, turned clockwise about its centre."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
    if degrees == 0:
        return corners
    centre, angle = corners.mean(axis=0), np.deg2rad(degrees)
    # Clockwise as seen: y points down.
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (corners - centre) @ turn + centre


def _shown(point: Any) -> str:
    return str(point)[:40] if isinstance(point, list | tuple) else show_found(point)


def _edges(rings: Sequence[Ring]) -> _Edges:
    """Edges from their upper to their lower end (x, y, x, y), without level ones, which no row crosses.

    An edge that two polygons share is the same in both, whichever way round they go, and so are its crossings.
    """
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    turned = (start[:, 1] > end[:, 1])[:, None]
    edges = np.hstack([np.where(turned, end, start), np.where(turned, start, end)])
    return edges[edges[:, 1] != edges[:, 3]]


def _crossed(edges: _Edges, top: int, bottom: int, width: int) -> list[Runs]:
    """Runs between crossings with the rows from ``top`` to ``bottom - 1``, in bands that fit the memory."""
    first = np.clip(np.ceil(edges[:, 1] - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(edges[:, 3] - 0.5), top, bottom).astype(np.int64)
    counts = last - first
    total = int(counts.sum())
    if total > _MOST_CROSSINGS and bottom - top > 1:
        middle = (top + bottom) // 2
        return _crossed(edges, top, middle, width) + _crossed(edges, middle, bottom, width)
    if not total:
        return []
    edge = np.repeat(np.arange(len(edges)), counts)
    rows = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    x0, y0, x1, y1 = edges[edge].T
    x = np.clip(x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0), np.minimum(x0, x1), np.maximum(x0, x1))
    order = np.lexsort((x, rows))
    # A ring crosses a row an even number of times: what lies between the first and the second is inside, and so on.
    columns = np.clip(np.ceil(x[order] - 0.5), 0, width).astype(np.int64)
    starts, ends, rows = columns[0::2], columns[1::2], rows[order][0::2]
    inside = ends > starts
    return [Runs(rows[inside], starts[inside], ends[inside])]
