"""Shapes of one picture drawn as its mask."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dinoseg.data.masks import LabelMap, rotate_like
from dinoseg.importing.grid import Grid
from dinoseg.importing.source import Dropped, Shape

Overlap = Literal["area", "order"]
OVERLAPS: dict[Overlap, str] = {
    "area": "where shapes overlap, the one with fewer pixels lies on top; of two alike the later one",
    "order": "where shapes overlap, the later one in the source lies on top",
}

_OUTSIDE = "covers the centre of no pixel of the picture"
_HIDDEN = "hidden: other shapes lie on all of its pixels"


def overlap_rule(text: str) -> Overlap:
    """A rule by its name on the command line.

    Raises:
        ValueError: there is none of that name.
    """
    for name in OVERLAPS:
        if name == text:
            return name
    raise ValueError(f"--overlap {text}: choose one of {', '.join(OVERLAPS)}")


@dataclass(frozen=True)
class DrawnMask:
    """Label ids, upright; how many shapes can be seen by label id; and the shapes of which nothing can be seen."""

    ids: LabelMap
    shapes: Counter[int]
    dropped: tuple[Dropped, ...]


def draw_mask(shapes: Sequence[Shape], grid: Grid, overlap: Overlap) -> DrawnMask:
    """Draws shapes on background, by layer and then as ``overlap`` says."""
    width, height = grid.drawn
    covered = [shape.region.runs(height, width) for shape in shapes]
    areas = [runs.area for runs in covered]
    # Sorting keeps the order of the source among equals.
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i].layer, -areas[i] if overlap == "area" else 0))
    # Painted by their numbers first, which tells what is left of each; 0 is the background.
    canvas = np.zeros((height, width), np.int32)
    for index in order:
        covered[index].paint(canvas, index + 1)
    seen = np.bincount(canvas.ravel(), minlength=len(shapes) + 1)[1:] > 0
    label_ids = np.array([0, *(shape.label_id for shape in shapes)], dtype=np.int32)
    dropped = tuple(
        Dropped(shape.where, _HIDDEN if area else _OUTSIDE)
        for shape, area, there in zip(shapes, areas, seen, strict=True)
        if not there
    )
    counts = Counter(shape.label_id for shape, there in zip(shapes, seen, strict=True) if there)
    return DrawnMask(rotate_like(label_ids[canvas], grid.orientation), counts, dropped)
