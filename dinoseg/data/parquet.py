"""Tables of images: parquet files as the Hugging Face Hub holds data sets (extra ``parquet``).

A column holds images, another masks, each a struct of ``bytes`` and ``path``, or the bytes alone. A row is read by
itself: the row group that it lies in is taken from the file, and only its own image is decoded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dinoseg.data.bands import Picture
from dinoseg.data.foreign_files import unreadable
from dinoseg.data.image_files import load_file, read_geometry
from dinoseg.data.items import SelfReading
from dinoseg.data.masks import LabelMap, read_mask, upright_mask
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.rasters import Inside
from dinoseg.data.regions import read_region
from dinoseg.data.shelf import Shelf
from dinoseg.labels.settings import Kind
from dinoseg.system.files import file_stamp
from dinoseg.system.messages import list_names

_IMAGE_COLUMNS = ("image", "images", "img", "pixel_values", "picture", "photo")
_MASK_COLUMNS = (
    *("mask", "masks", "annotation", "annotations", "segmentation", "segmentation_mask", "semantic_mask"),
    *("label_map", "seg", "gt", "label", "labels"),
)
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class ImageTable:
    """A parquet file of images; of it, only what describes it is in memory.

    Attributes:
        image_column: holds the images; ``mask_column`` their masks, None where there are none.
        columns: all of the file, with their types, in words.
        group_ends: by row group, the number of the row after its last.
    """

    path: Path
    image_column: str
    mask_column: str | None
    group_ends: tuple[int, ...]
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.group_ends[-1] if self.group_ends else 0

    def paths(self) -> list[str | None]:
        """What the images were called, by row; None where that is not known.

        Raises:
            ValueError: damaged; names the file.
        """
        with _errors_in_words(self.path), _opened(self.path) as opened:
            kind = opened.schema_arrow.field(self.image_column).type
            if not _is_struct(kind) or kind.get_field_index("path") < 0:
                return [None] * len(self)
            column = opened.read(columns=[f"{self.image_column}.path"], use_threads=False).column(0)
            return [None if entry is None else entry["path"] for entry in column.to_pylist()]

    def read_group(self, group: int) -> tuple[Any, int]:
        """The images and masks of a row group, encoded, with the bytes they take."""
        columns = [self.image_column] if self.mask_column is None else [self.image_column, self.mask_column]
        with _errors_in_words(self.path), _opened(self.path) as opened:
            # Its threads do not outlive a fork, as data loading processes are made.
            read = opened.read_row_group(group, columns=columns, use_threads=False)
        return read, int(read.nbytes)


@dataclass(frozen=True)
class TableRow(SelfReading):
    """One row: ``image`` and ``mask`` name it in messages, as if the table were a folder.

    Attributes:
        row: its number in the table, from 0.
        shelf: keeps the row groups that were read last.
    """

    row: int = field(kw_only=True)
    table: ImageTable = field(kw_only=True, repr=False, compare=False)
    shelf: Shelf[Any] = field(kw_only=True, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """Its name, and where it stands."""
        return f"{self.name} {self.table.path.name} {self.row}"

    @property
    def image_file(self) -> Path:
        """The table."""
        return self.table.path

    @property
    def place(self) -> str:
        """Where in its file it stands."""
        return f"row {self.row}"

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width, as stored."""
        width, height = read_geometry(self.image, self.image_bytes())[1]
        return height, width

    def image_bytes(self) -> bytes:
        """The image, encoded. Raises ValueError where there is none; names table and row."""
        return self._bytes(self.table.image_column)

    def mask_bytes(self) -> bytes:
        """The mask, encoded. Raises ValueError for none, and for a JPEG."""
        assert self.table.mask_column is not None
        found = self._bytes(self.table.mask_column)
        if found.startswith(_JPEG):
            raise ValueError(
                f"{self.mask}: a mask stored as JPEG, whose compression alters label ids at edges; store PNG"
            )
        return found

    def picture(self, form: PictureForm) -> Picture:
        """The RGB image, upright. Raises ValueError where it cannot be read; names table and row."""
        return form.of_values(load_file(self.image, self.image_bytes()), self.image)

    def load(self, kind: Kind, form: PictureForm) -> tuple[Picture, LabelMap, Inside]:
        """Image, label ids of the same size, and where they count: within the region.

        Raises:
            ValueError: one of them cannot be read, or their sizes differ; names table and row.
        """
        assert self.mask is not None
        stored = load_file(self.image, self.image_bytes())
        picture = form.of_values(stored, self.image)
        geometry = stored.info["orientation"], stored.info["stored_size"]
        label_ids = upright_mask(read_mask(self.mask, kind, self.mask_bytes()), geometry, self)
        inside = np.ones(label_ids.shape, dtype=bool)
        if self.region is not None:
            inside = read_region(self.region, self.image, picture.size)
        return picture, label_ids, inside

    def _bytes(self, column: str) -> bytes:
        ends = self.table.group_ends
        group = next(number for number, end in enumerate(ends) if self.row < end)
        key = self.table.path, file_stamp(self.table.path), group
        values = self.shelf.get(key, lambda: self.table.read_group(group))
        entry = values.column(column)[self.row - (ends[group - 1] if group else 0)].as_py()
        found = entry.get("bytes") if isinstance(entry, dict) else entry
        if not found:
            beside = entry.get("path") if isinstance(entry, dict) else None
            what = f"a path ({beside}) and no bytes" if beside else "nothing"
            raise ValueError(f"{self.image}: column {column!r} of this row holds {what}; store the file's bytes there")
        return bytes(found)


def read_table(path: Path) -> ImageTable:
    """A parquet file as a table of images; no image is read.

    Raises:
        ValueError: pyarrow is missing, a damaged file, or one without a column of images.
    """
    if find_spec("pyarrow") is None:
        raise ValueError(f"{path}: read with pyarrow, which is not installed: pip install 'dinoseg[parquet]'")
    with _errors_in_words(path), _opened(path) as opened:
        schema = opened.schema_arrow
        sizes = [opened.metadata.row_group(number).num_rows for number in range(opened.metadata.num_row_groups)]
    columns = tuple(f"{entry.name} ({entry.type})" for entry in schema)
    kinds = {entry.name: _holds_files(entry.type) for entry in schema}
    image = next((name for name in _IMAGE_COLUMNS if kinds.get(name)), None)
    if image is None:
        raise ValueError(
            f"{path}: no column of images; it has {list_names(columns, 12) or 'none'}; expected image, with bytes or a "
            "struct of bytes and path, and mask, label or annotation beside it"
        )
    mask = next((name for name in _MASK_COLUMNS if kinds.get(name)), None)
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    return ImageTable(path, image, mask, tuple(ends), columns)


def _holds_files(kind: Any) -> bool:
    """Whether a column holds encoded files: bytes, or structs with some."""
    import pyarrow

    if _is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _is_struct(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as opened:
        yield opened


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file is a ValueError that names it."""
    try:
        yield
    except Exception as error:  # pyarrow raises several types for damaged files
        raise unreadable(path, error) from None
