"""The blocks that a map is predicted and written in, and what is said where they cannot be written."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dinoseg.data.rasters import import_rasterio

# Pixels of a side; files are written in tiles, of which a block has whole ones.
BLOCK = 2048
TILE = 512


@dataclass(frozen=True)
class Block:
    """Rows and columns of a map: those that are written, and those that are read for them, each (start, end)."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    read_rows: tuple[int, int]
    read_columns: tuple[int, int]

    @property
    def inner(self) -> tuple[slice, slice]:
        """What is written, within what is read."""
        top, left = self.read_rows[0], self.read_columns[0]
        return (
            slice(self.rows[0] - top, self.rows[1] - top),
            slice(self.columns[0] - left, self.columns[1] - left),
        )


def blocks(height: int, width: int, margin: int, block: int = BLOCK) -> Iterator[Block]:
    """The blocks of a map, row by row."""
    for top in range(0, height, block):
        for left in range(0, width, block):
            rows, columns = (top, min(top + block, height)), (left, min(left + block, width))
            yield Block(
                rows,
                columns,
                (max(rows[0] - margin, 0), min(rows[1] + margin, height)),
                (max(columns[0] - margin, 0), min(columns[1] + margin, width)),
            )


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """An error of writing is one of the system; that of reading the map is told apart where it is read."""
    # GDAL's own, of which rasterio makes no error of its own everywhere.
    from rasterio._err import CPLE_BaseError

    try:
        yield
    except (import_rasterio().errors.RasterioError, CPLE_BaseError) as error:
        raise OSError(errno.EIO, f"cannot be written ({error.__cause__ or error})", str(path)) from error
