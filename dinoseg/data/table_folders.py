"""Folders of parquet files as data sets: which file is of which split, and the pairs in them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dinoseg.data.folder_words import read_folder_name
from dinoseg.data.found_files import list_files
from dinoseg.data.missing_split import MissingSplitError, UnsplitError
from dinoseg.data.pairs import Split, SplitListing
from dinoseg.data.parquet import ImageTable, TableRow, read_table
from dinoseg.data.shelf import MOST_BYTES, Shelf
from dinoseg.system.messages import list_names

TABLE_SUFFIX = ".parquet"
# "train-00000-of-00002": what comes before the number of the part.
_PART = re.compile(r"(.+?)[-_.]\d+(?:-of-\d+)?")


@dataclass(frozen=True)
class TableFolder:
    """The parquet files below a folder, by the name of their split: what their names, or their folder's, begin with."""

    root: Path
    files: dict[str, tuple[Path, ...]]

    def __bool__(self) -> bool:
        return bool(self.files)

    def names_of(self, value: str, split: Split) -> list[str]:
        """The names that a split goes by here: the value of ``datasets.<split>``, or other words for the split."""
        if value in self.files:
            return [value]
        return [name for name in self.files if value == split and read_folder_name(name).split == split]

    def listing(self, value: str, split: Split) -> SplitListing:
        """The rows of a split; ``value`` is ``datasets.<split>``.

        Raises:
            UnsplitError: the names say nothing of splits.
            MissingSplitError: they say so, of others.
            ValueError: see ``pairs``.
        """
        names = self.names_of(value, split)
        if names:
            return self.pairs(names)
        held = list_names([f"{name} ({self.files[name][0].relative_to(self.root)})" for name in self.files], 6)
        if not self.knows_splits and value == split:
            raise UnsplitError(f"split {split}: the parquet files of {self.root} know no splits: {held}")
        raise MissingSplitError(f"split {split}: no parquet file of {self.root} is of {value}; there are {held}")

    @property
    def knows_splits(self) -> bool:
        """Whether a name is that of a split."""
        return any(read_folder_name(name).split for name in self.files)

    def pairs(self, names: Sequence[str] | None = None) -> SplitListing:
        """The rows of some of the files, or of all.

        Raises:
            ValueError: see ``rows``; or a file has no column of masks.
        """
        rows = self.rows(names)
        _refuse_without_masks({row.table.path: row.table for row in rows}.values())
        return SplitListing(rows)

    def rows(self, names: Sequence[str] | None = None) -> tuple[TableRow, ...]:
        """The same, with masks or without.

        Raises:
            ValueError: a file that cannot be read, or has no column of images; names its columns.
        """
        shelf = Shelf[Any](MOST_BYTES)
        rows = []
        for name in self.files if names is None else names:
            rows += rows_of([read_table(path) for path in self.files[name]], name, shelf)
        if len({row.name for row in rows}) < len(rows):
            # Rows of two files may be called alike.
            rows = [replace(row, name=f"{row.table.path.stem}/{row.name}") for row in rows]
        return tuple(rows)

    @staticmethod
    def of_file(path: Path) -> "TableFolder":
        """A single file."""
        return TableFolder(path.parent, {path.stem: (path,)})


def _refuse_without_masks(tables: Iterable[ImageTable]) -> None:
    for table in tables:
        if table.mask_column is None:
            raise ValueError(
                f"{table.path}: images in column {table.image_column!r}, but no column of masks (mask, label, "
                f"annotation, segmentation, ...) that holds files; it has {list_names(table.columns, 12)}"
            )


def find_tables(root: Path) -> TableFolder:
    """The parquet files below a folder; none where there are none.

    Raises:
        ValueError: several data sets (configurations) lie beside each other.
    """
    found: dict[str, list[Path]] = {}
    places: dict[Path, None] = {}
    for path in list_files(root, (TABLE_SUFFIX,)):
        name, place = _split_name(path)
        places[place] = None
        found.setdefault(name, []).append(path)
    if len(places) > 1:
        folders = list_names([place.relative_to(root).as_posix() or "." for place in places], 6)
        raise ValueError(
            f"{root}: parquet files of several data sets, in {folders}; give one of these folders as datasets.root"
        )
    return TableFolder(root, {name: tuple(paths) for name, paths in found.items()})


def _split_name(path: Path) -> tuple[str, Path]:
    """What the split of a file is called, and the folder of its data set: ``train-00000-of-00001``, ``train/0000``."""
    match = _PART.fullmatch(path.stem)
    name, folder = match[1] if match else path.stem, path.parent
    if name.isdigit() and read_folder_name(folder.name).split:
        return folder.name, folder.parent
    return name, folder


def rows_of(tables: Sequence[ImageTable], split: str, shelf: Shelf[Any]) -> list[TableRow]:
    """The rows of the parts of a split, in order: by what their images were called, else by number."""
    stems = [None if path is None else Path(path).stem for table in tables for path in table.paths()]
    # Outputs are called so: nothing hidden, and nothing that no file can be called.
    told = all(stem and stem.isprintable() and stem[0] != "." for stem in stems) and len(set(stems)) == len(stems)
    names = [str(stem) if told else f"{split}_{number:05d}" for number, stem in enumerate(stems)]
    rows, start = [], 0
    for table in tables:
        for row, name in enumerate(names[start : start + len(table)]):
            mask = None if table.mask_column is None else table.path / f"{name} ({table.mask_column})"
            rows.append(TableRow(name, table.path / name, mask, row=row, table=table, shelf=shelf))
        start += len(table)
    return rows
