"""The grid of pixels that annotations of a picture are drawn in, and how it is turned upright."""

from dataclasses import dataclass

from dinoseg.data.image_files import read_geometry
from dinoseg.importing.source import AnnotatedPicture

_SWAPPED = (5, 6, 7, 8)


@dataclass(frozen=True)
class Grid:
    """Sizes are (width, height).

    Attributes:
        drawn: of the grid in which shapes are drawn.
        orientation: the EXIF orientation by which the drawing is turned afterwards; 1 for none.
        turned_unseen: the picture is turned and has one size either way, so that only custom says which grid is meant.
    """

    drawn: tuple[int, int]
    orientation: int = 1
    turned_unseen: bool = False


def grid_of(picture: AnnotatedPicture, data: bytes | None) -> Grid:
    """The upright grid if the annotations' size is that of the picture as one sees it, else the one that is stored.

    Args:
        data: the picture's bytes where it is embedded.

    Raises:
        ValueError: the picture cannot be read, or has another size than its annotations say.
    """
    orientation, stored = _stored_geometry(picture, data)
    upright = stored[::-1] if orientation in _SWAPPED else stored
    stated = picture.stated_size or upright
    if stated == upright:
        return Grid(upright, turned_unseen=orientation != 1 and stored == upright and picture.stated_size is not None)
    if stated == stored:
        return Grid(stored, orientation)
    raise ValueError(
        f"{picture.where}: annotated at {stated[0]} x {stated[1]}, but {picture.file} is {upright[0]} x {upright[1]} "
        "(width x height); give the pictures that were annotated, at their size"
    )


def _stored_geometry(picture: AnnotatedPicture, data: bytes | None) -> tuple[int, tuple[int, int]]:
    """The EXIF orientation of a picture, and its size as stored."""
    try:
        return read_geometry(picture.file, data)
    except ValueError:
        if picture.raster_size is None:
            raise
        return 1, picture.raster_size  # of bands that are no picture yet, such as those of a satellite
