"""A data set on disk: pictures, masks, classes.csv and import.json, whole or not at all."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from dinoseg.data.masks import LabelMap
from dinoseg.importing.grid import grid_of
from dinoseg.importing.mask import Overlap, draw_mask
from dinoseg.importing.report import ImportReport
from dinoseg.importing.source import AnnotatedPicture, Dropped, Source
from dinoseg.system.messages import system_error
from dinoseg.system.whole_folder import refuse_unreplaceable, whole_folder

CLASSES_FILE, REPORT_FILE = "classes.csv", "import.json"


def refuse_used(out: Path) -> None:
    """Raises ValueError for an output folder that holds something, or that no other can take the place of."""
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: exists and is not an empty folder; give a new one")
    refuse_unreplaceable(out, "--out")


def write_data_set(
    source: Source, out: Path, overlap: Overlap, advance: Callable[[], None] = lambda: None
) -> ImportReport:
    """Writes a source as ``out/{images,masks}``, or one such pair for each of its splits.

    Args:
        out: must not exist, or be empty; appears at the end, whole.
        advance: called after each picture.

    Raises:
        ValueError: ``out`` is used or cannot be written, or a picture is damaged or of another size.
    """
    refuse_used(out)
    try:
        with whole_folder(out) as folder:
            report = _write(source, folder, overlap, advance)
            (folder / CLASSES_FILE).write_text(source.classes.to_csv(), encoding="utf-8")
            text = json.dumps(report.to_dict(), indent=2, ensure_ascii=True)
            (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        refuse_used(out)
        raise ValueError(
            f"--out {out}: the data set cannot be written, and nothing is left of it: {system_error(error)}"
        ) from error
    return report


def _write(source: Source, folder: Path, overlap: Overlap, advance: Callable[[], None]) -> ImportReport:
    splits, links, shapes, pixels = Counter[str](), Counter[str](), Counter[int](), Counter[int]()
    dropped, turned, turned_unseen = list(source.dropped), 0, 0
    largest = max(entry.label_id for entry in source.classes.classes)
    for picture in source.pictures:
        data = picture.embedded() if picture.embedded else None
        grid = grid_of(picture, data)
        mask = draw_mask(picture.shapes, grid, overlap)
        place = folder / picture.split
        links[_put_picture(picture, data, place / "images" / picture.name)] += 1
        name = PurePosixPath(picture.name).with_suffix(".png")
        _write_mask(place / "masks" / name, mask.ids, np.uint8 if largest <= 255 else np.uint16)
        splits[picture.split] += 1
        shapes += mask.shapes
        counts = np.bincount(mask.ids.ravel())
        pixels += Counter({label_id: int(counts[label_id]) for label_id in np.flatnonzero(counts).tolist()})
        dropped += [Dropped(f"{picture.where} {entry.where}", entry.reason) for entry in mask.dropped]
        turned += grid.orientation != 1
        turned_unseen += grid.turned_unseen
        advance()
    return ImportReport(source, overlap, splits, links, shapes, pixels, tuple(dropped), turned, turned_unseen)


def _write_mask(path: Path, ids: LabelMap, dtype: type[np.uint8] | type[np.uint16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(dtype)).save(path)


def _put_picture(picture: AnnotatedPicture, data: bytes | None, target: Path) -> str:
    """Links the picture, or copies it where the file system links nothing; says which."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if data is not None:
        target.write_bytes(data)
        return "written from the annotations"
    file = picture.file.resolve()
    for way, link in (("hard link", os.link), ("symbolic link", os.symlink)):
        try:
            link(file, target)
        except OSError:
            continue
        return way
    shutil.copyfile(file, target)
    return "copy"
