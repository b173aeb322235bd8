"""How a slice of a volume is turned into an upright picture, and back."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from dinoseg.data.nifti import VolumeHeader

Plane = Shaped[np.ndarray, "first second"]


@dataclass(frozen=True)
class SliceView:
    """Upright as radiologists look at it: up is front or head, the patient's left lies right, the nose left.

    A file that does not say where it lies has its last axis down and the one before across.

    Attributes:
        axis: across which slices are cut.
        transposed: whether the second of the axes that are left goes down.
        flipped: rows and columns, after that.
    """

    axis: int
    transposed: bool
    flipped: tuple[bool, bool]

    @staticmethod
    def of(header: VolumeHeader, axis: int) -> "SliceView":
        """The view of the slices of a volume."""
        first, second = (other for other in range(3) if other != axis)
        directions = _directions(header)
        (first_towards, first_sign), (second_towards, second_sign) = directions[first], directions[second]
        # Axes of the body go right, front and up; down a picture goes the later one of the two.
        transposed = second_towards > first_towards
        signs = (second_sign, first_sign) if transposed else (first_sign, second_sign)
        return SliceView(axis, transposed, (signs[0] > 0, signs[1] > 0))

    def size(self, shape: tuple[int, int, int]) -> tuple[int, int]:
        """Height and width of the slices of a volume."""
        first, second = (shape[other] for other in range(3) if other != self.axis)
        return (second, first) if self.transposed else (first, second)

    def upright(self, plane: Plane) -> Shaped[np.ndarray, "height width"]:
        """A slice, its axes in the order of the file, as a picture."""
        turned = plane.T if self.transposed else plane
        return np.ascontiguousarray(turned[self._order])

    def as_stored(self, picture: Shaped[np.ndarray, "height width"]) -> Plane:
        """The inverse."""
        turned = picture[self._order]
        return turned.T if self.transposed else turned

    @property
    def _order(self) -> tuple[slice, slice]:
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return rows, columns


def _directions(header: VolumeHeader) -> list[tuple[int, int]]:
    """By axis of the array: the axis of the body that it goes along, and whether that way (1) or against it (-1)."""
    if header.is_placed:
        from nibabel.orientations import io_orientation

        found = io_orientation(header.affine)
        if np.isfinite(found).all():
            return [(int(towards), int(sign)) for towards, sign in found]
    return [(axis, -1) for axis in range(3)]
