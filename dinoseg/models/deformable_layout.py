"""Where the samples of deformable attention and the cells they read lie in memory, and the buffers that are reused.

The maps of one head are the rows of one table, each map with a border of zeros, map after map. A sample reads the four
rows around it. Heads come before queries, so that the rows that one head reads lie together. Each quantity of a sample
has an array of its own, so that arithmetic runs along contiguous memory.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Height and width of each map.
Shapes = tuple[tuple[int, int], ...]

# Zeros around each map: a sample outside it reads two border cells along the axis where it is outside.
BORDER = 2


@dataclass(frozen=True)
class SampleLayout:
    """Where the samples of a head start from, and where the cells of the maps lie in its table.

    Attributes:
        shapes: height and width of each map.
        points: samples of a query on one map.
        centres: x and y of the references in cells of the bordered maps.
        limits: x and y of the last place that differs from any further out.
        widths: of the bordered maps.
        starts: table rows before each map.
    """

    shapes: Shapes
    points: int
    centres: Float[Tensor, "2 1 queries samples"]
    limits: Float[Tensor, "2 1 queries samples"]
    widths: Int[Tensor, "queries samples"]
    starts: Int[Tensor, "queries samples"]

    @classmethod
    def build(cls, shapes: Shapes, references: Float[Tensor, "queries 2"], points: int) -> "SampleLayout":
        def every_sample(numbers: Tensor) -> Tensor:
            """Numbers of each (axis, query, level), written out for all samples, so that arithmetic is vectorised."""
            whole = numbers[..., None].expand(2, len(references), -1, points)
            return whole.flatten(-2).contiguous()[:, None]

        sizes = references.new_tensor([[width for _, width in shapes], [height for height, _ in shapes]])[:, None]
        counts = _bordered_counts(shapes)
        starts = [sum(counts[:level]) for level in range(len(shapes))]
        rows = torch.tensor([[width + 2 * BORDER for _, width in shapes], starts], dtype=torch.int32)
        widths, starts_of_samples = every_sample(rows[:, None].to(references.device))[:, 0]
        return cls(
            shapes,
            points,
            every_sample(references.t()[:, :, None] * sizes + (BORDER - 0.5)),
            every_sample(sizes + (2 * BORDER - 1)),
            widths,
            starts_of_samples,
        )

    @property
    def cells(self) -> int:
        """Rows of the table of one head."""
        return sum(_bordered_counts(self.shapes))

    def grids(self, table: Float[Tensor, "heads bordered_tokens channels"]) -> list[Tensor]:
        """The table's part of each level as maps, (heads, height, width, channels), borders included."""
        parts = table.split(_bordered_counts(self.shapes), dim=1)
        return [
            part.unflatten(1, (height + 2 * BORDER, width + 2 * BORDER))
            for part, (height, width) in zip(parts, self.shapes, strict=True)
        ]

    def maps(self, values: Float[Tensor, "tokens heads channels"]) -> list[Tensor]:
        """The values of each level as maps, (heads, height, width, channels)."""
        parts = values.split([height * width for height, width in self.shapes])
        return [part.unflatten(0, shape).permute(2, 0, 1, 3) for part, shape in zip(parts, self.shapes, strict=True)]


def _bordered_counts(shapes: Shapes) -> list[int]:
    return [(height + 2 * BORDER) * (width + 2 * BORDER) for height, width in shapes]


class PartBuffers:
    """Memory that serves one part after the other.

    Attributes:
        numbers: one of each of the four cells of a sample, (heads, queries, 4, samples).
    """

    def __init__(
        self, layout: SampleLayout, values: Float[Tensor, "batch tokens all_heads channels"], heads: slice
    ) -> None:
        count, (queries, samples) = heads.stop - heads.start, layout.widths.shape
        self._layout = layout
        self._table = values.new_zeros(count, layout.cells, values.shape[-1])
        self._rows = layout.widths.new_empty(count, queries, 4, samples)
        self.numbers = values.new_empty(count, queries, 4, samples)

    def table(self, values: Float[Tensor, "tokens heads channels"]) -> Float[Tensor, "heads bordered_tokens channels"]:
        """The values with zeros around each map."""
        table = self._table[: values.shape[1]]
        for grid, cells in zip(self._layout.grids(table), self._layout.maps(values), strict=True):
            grid[:, BORDER:-BORDER, BORDER:-BORDER] = cells
        return table

    def corner_rows(self, first: Int[Tensor, "heads queries samples"]) -> Int[Tensor, "heads queries 4 samples"]:
        """Table rows of each query: upper left cells of all samples, upper right, lower left, lower right."""
        rows, below = self._rows[: len(first)], self._layout.widths[0]
        for corner, step in enumerate((torch.zeros_like(below), torch.ones_like(below), below, below + 1)):
            torch.add(first, step, out=rows[..., corner, :])
        return rows
