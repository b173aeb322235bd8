"""The images that ``dinoseg predict`` is given."""

import glob
import hashlib
import os
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dinoseg.data.found_files import list_files, list_images, stem_of, suffix_of, without_suffix
from dinoseg.data.pairs import masks_of_images
from dinoseg.data.parquet import TableRow
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.table_folders import TABLE_SUFFIX, TableFolder, find_tables
from dinoseg.inference.exposures import Exposures
from dinoseg.system.files import file_sha256, refuse_special_file
from dinoseg.system.messages import list_names

# What predictions write there is never an input.
_OUTPUT_FOLDERS = ("labels", "overlays", "probabilities", "confidence")


@dataclass(frozen=True)
class InputImage:
    """One image to predict.

    Attributes:
        name: the path of its outputs without suffix.
        mask: its true mask, where there is one whose ignored pixels are to be kept.
        region: mask of where a prediction is wanted; None for everywhere.
        row: where it is a row of a table, and ``path`` but a name.
    """

    path: Path
    name: str
    mask: Path | None = None
    region: Path | None = None
    row: TableRow | None = None

    @property
    def sha256(self) -> str:
        """Of its bytes. Raises ValueError where it cannot be read."""
        if self.row is not None:
            return hashlib.sha256(self.row.image_bytes()).hexdigest()
        try:
            return file_sha256(self.path)
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror or error}") from None

    def exposures(self, forms: Iterable[PictureForm]) -> Exposures:
        """Its picture, in each form. Raises ValueError where it cannot be read."""
        if self.row is None:
            return Exposures.of(self.path, forms)
        return Exposures({form: self.row.picture(form) for form in forms})


def list_inputs(inputs: Iterable[str], out: Path | None = None) -> list[InputImage]:
    """Files, folders (searched through) and globs, in sorted order, each once; of tables, each row.

    Of a folder the image files are taken; where it has none, its tables. Warns of tables that are left out so.

    Args:
        out: the output folder. What predictions write there is never an input, should it lie in an input folder.

    Raises:
        ValueError: an input that matches nothing, or is a FIFO or a device; or two that would write the same output.
    """
    entries, found = list(inputs), dict[Path, InputImage]()
    own = [] if out is None else [(out / name).resolve() for name in _OUTPUT_FOLDERS]
    for entry in entries:
        path = Path(entry)
        if path.is_dir():
            files = [file for file in list_images(path) if not any(map(file.resolve().is_relative_to, own))]
            matched = [InputImage(file, str(without_suffix(file.relative_to(path)))) for file in files]
            matched = matched or _rows(find_tables(path))
        elif path.is_file():
            matched = _images_of(path)
        else:
            refuse_special_file(path)
            matched = [
                image
                for file in map(Path, sorted(glob.glob(entry, recursive=True)))
                if os.path.isfile(file) and not any(map(file.resolve().is_relative_to, own))
                for image in _images_of(file)
            ]
        if not matched:
            found_there = "no image there" if path.is_dir() or glob.has_magic(entry) else "no such file or folder"
            raise ValueError(
                f"{entry}: {found_there}; give image files, a folder of images, or a quoted glob (or one run more: a "
                "folder with config.yaml and labels.json)"
            )
        found.update((image.path.resolve(), image) for image in matched)
    if not found:
        raise ValueError("no image is named to predict; give IMAGES beside the run: files, a folder, or a quoted glob")
    _tell_of_tables([Path(entry) for entry in entries if os.path.isdir(entry)], found.values())
    owners: dict[str, Path] = {}
    for image in found.values():
        if image.name in owners:
            raise ValueError(
                f"{owners[image.name]} and {image.path} would both write {image.name}.png; "
                "predict them into different --out folders"
            )
        owners[image.name] = image.path
    return list(found.values())


def _tell_of_tables(folders: Iterable[Path], images: Collection[InputImage]) -> None:
    """Warns of parquet files in folders that are left out: image files lie there, too, and are taken."""
    read = {image.row.table.path.resolve() for image in images if image.row is not None}
    for folder in folders:
        left = [file for file in list_files(folder, (TABLE_SUFFIX,)) if file.resolve() not in read]
        if left:
            named = list_names([str(file.relative_to(folder)) for file in left], 3)
            warnings.warn(
                f"{folder}: its image files are taken, and the parquet files beside them left out ({named}); give "
                "these by name, too, if they hold images",
                stacklevel=3,
            )


def _images_of(file: Path) -> list[InputImage]:
    """The rows of a table, or the one image that another file is."""
    if suffix_of(file) == TABLE_SUFFIX:
        return _rows(TableFolder.of_file(file))
    return [InputImage(file, stem_of(file))]


def _rows(tables: TableFolder) -> list[InputImage]:
    """The images of tables, whether or not they have masks."""
    return [InputImage(row.image, row.name, row=row) for row in tables.rows()]


def with_masks(images: Iterable[InputImage], folder: Path) -> list[InputImage]:
    """The images with their true masks, paired by the rules that pair a split; those without one stay as they are.

    Raises:
        ValueError: no such folder, or two masks of one name in it.
    """
    if folder.is_file():
        raise ValueError(f"--mask-ignored {folder}: a file, not a folder; give the folder of the true masks")
    images = list(images)
    mask_of = masks_of_images({image.name: image.path for image in images}, folder)
    return [replace(image, mask=mask_of.get(image.name)) for image in images]


def with_regions(images: Iterable[InputImage], folder: Path) -> list[InputImage]:
    """The images with the regions in a folder, paired by the rules that pair a split.

    Raises:
        ValueError: no such folder, two regions of one name, or an image without one.
    """
    images = list(images)
    found = masks_of_images({image.name: image.path for image in images}, folder, "regions")
    missing = [str(image.path) for image in images if image.name not in found]
    if missing:
        raise ValueError(f"--regions {folder}: none for {list_names(missing, 3)}; add them, or leave those images out")
    return [replace(image, region=found[image.name]) for image in images]
