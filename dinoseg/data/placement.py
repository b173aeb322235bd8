"""Where the points of a training crop lie in their image: one geometry for pixels, labels and features alike."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# Height, width and two coordinates, x first; -1 and 1 are the borders of the image, as ``grid_sample`` has it.
Positions = Float[Tensor, "rows columns 2"]


@dataclass(frozen=True)
class Placement:
    """An affine map from a crop to its image, and an elastic displacement within the crop.

    Attributes:
        size: height and width of the image, in pixels.
        crop: height and width of the crop, in pixels of its own.
        centre: of the crop in the image: x and y, in pixels.
        matrix: from pixels of the crop to pixels of the image, about the two centres; x first.
        displacement: (1, 2, rows, columns) pixels of the crop by which its points move, on a coarse grid, if any.
    """

    size: tuple[int, int]
    crop: tuple[int, int]
    centre: tuple[float, float]
    matrix: Float[Tensor, "2 2"]
    displacement: Float[Tensor, "1 2 _ _"] | None = None

    def positions(self, rows: int, columns: int) -> Positions:
        """Where the centres of ``rows`` by ``columns`` cells, which cover the crop, lie in the image."""
        axes = []
        for count, side in ((columns, self.crop[1]), (rows, self.crop[0])):
            axes.append(((torch.arange(count) + 0.5) / count - 0.5) * side)
        points = torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)
        if self.displacement is not None:
            moved = functional.interpolate(self.displacement, (rows, columns), mode="bicubic", align_corners=False)
            points = points + moved[0].permute(1, 2, 0)
        places = points @ self.matrix.T + torch.tensor(self.centre)
        return places * (2 / torch.tensor([self.size[1], self.size[0]])) - 1


@dataclass(frozen=True)
class Window:
    """The cells of a map that positions need: rows and columns from ``top`` and ``left``, ends exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @staticmethod
    def around(positions: Positions, size: tuple[int, int], margin: int = 1) -> "Window | None":
        """Of a map of ``size`` (rows, columns) over the whole image; None where nothing of it is needed."""
        ends = []
        for axis, count in ((1, size[0]), (0, size[1])):
            values = (positions[..., axis] + 1) * (count / 2)
            first = max(0, int(values.min().floor().item()) - margin)
            last = min(count, int(values.max().ceil().item()) + margin)
            if first >= last:
                return None
            ends += [first, last]
        return Window(*ends)

    def localised(self, positions: Positions, size: tuple[int, int]) -> Positions:
        """The same places as positions in the window, of a map of ``size`` (rows, columns)."""
        corner = torch.tensor([self.left, self.top])
        extent = torch.tensor([self.right - self.left, self.bottom - self.top])
        cells = (positions + 1) * (torch.tensor([size[1], size[0]]) / 2) - corner
        return cells * (2 / extent) - 1


def is_inside(positions: Positions) -> Tensor:
    """(rows, columns) truth values: whether a position lies in the image."""
    return (positions.abs() < 1).all(dim=-1)


def sampled(
    values: Float[Tensor, "channels height width"], positions: Positions, mode: str = "bilinear"
) -> Float[Tensor, "channels rows columns"]:
    """A map at these positions; at and beyond its border, the border's values."""
    return functional.grid_sample(values[None], positions[None], mode=mode, padding_mode="border", align_corners=False)[
        0
    ]
