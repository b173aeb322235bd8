"""YOLO segmentation: a text file of polygons a picture, in shares of its width and height."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from dinoseg.data.found_files import list_files, list_images
from dinoseg.importing.picture_names import MissingPicture, require_folder, settle_missing
from dinoseg.importing.polygons import Polygon
from dinoseg.importing.runs import Region, Runs
from dinoseg.importing.source import AnnotatedPicture, Dropped, Shape, Source
from dinoseg.importing.yolo_layout import SplitFolders, YoloLayout, read_layout
from dinoseg.system.files import refuse_special_file
from dinoseg.system.messages import printable

# Corners that tools put a little outside; further out, a value is no share of the picture's side.
_LEAST, _MOST = -0.01, 1.01


@dataclass(frozen=True)
class SharePolygon(Region):
    """A polygon whose corners are shares of the picture's width and height."""

    ring: Float64[np.ndarray, "_ 2"]

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size."""
        return Polygon((self.ring * np.array([width, height], dtype=np.float64),)).runs(height, width)


def read_yolo(folder: Path, skip_missing: bool) -> Source:
    """Reads a data set in the layout of YOLO.

    Raises:
        ValueError: no such layout, a damaged line, or one of a box alone; names file and line.
    """
    require_folder(folder, "images/, labels/ and data.yaml")
    layout = read_layout(folder)
    pictures: list[AnnotatedPicture] = []
    dropped: list[Dropped] = []
    missing: list[MissingPicture] = []
    for split in layout.splits:
        found, absent = _read_split(split, layout, dropped)
        pictures += found
        missing += absent
    dropped += settle_missing(missing, folder, skip_missing)
    notes = (*layout.notes, "shares are taken as of the upright picture")
    return Source("yolo", str(folder), tuple(pictures), layout.classes, dropped=tuple(dropped), notes=notes)


def _read_split(
    split: SplitFolders, layout: YoloLayout, dropped: list[Dropped]
) -> tuple[list[AnnotatedPicture], list[MissingPicture]]:
    """Pictures that have a file of labels, and files of labels without a picture."""
    images = list_images(split.images)
    of_picture = {path.relative_to(split.images).with_suffix(".txt"): path for path in images}
    labels = {path.relative_to(split.labels): path for path in list_files(split.labels, (".txt",))}
    labels.pop(Path("classes.txt"), None)
    pictures = []
    for path in images:
        name = path.relative_to(split.images)
        file = labels.get(name.with_suffix(".txt"))
        if file is None:
            reason = "left out: no file of labels; an empty one says that there is nothing on it"
            dropped.append(Dropped(printable(path), reason))
            continue
        pictures.append(AnnotatedPicture(name.as_posix(), path, str(file), _shapes(file, layout), split=split.split))
    missing = [
        MissingPicture(f"{(split.images / name).with_suffix('')}.*", str(file))
        for name, file in labels.items()
        if name not in of_picture
    ]
    return pictures, missing


def _shapes(file: Path, layout: YoloLayout) -> tuple[Shape, ...]:
    refuse_special_file(file)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8 text; replace or remove the file") from None
    numbered = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    return tuple(_shape(words, layout, f"{file}: line {number}", f"line {number}") for number, words in numbered)


def _shape(words: list[str], layout: YoloLayout, where: str, short: str) -> Shape:
    ids = layout.classes.ids
    if not words[0].isascii() or not words[0].isdigit() or int(words[0][:9]) not in ids:
        raise ValueError(
            f"{where}: class {words[0][:20]!r} is none of the {len(ids)} of {layout.names_file}; correct it, or name "
            "the class"
        )
    if len(words) == 5:
        raise ValueError(
            f"{where}: a box (class and four numbers), which says nothing of pixels; give segmentation labels, or "
            "remove the line"
        )
    if len(words) < 7 or len(words) % 2 == 0:
        raise ValueError(
            f"{where}: class and {len(words) - 1} numbers; x y of three points are the fewest, and they come in pairs: "
            "correct or remove it"
        )
    shares = np.array([_share(word, where) for word in words[1:]], dtype=np.float64).reshape(-1, 2)
    return Shape(ids[int(words[0][:9])], SharePolygon(shares), short)


def _share(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{where}: {word[:20]!r} is no number; correct or remove the line")
    if not _LEAST <= value <= _MOST:
        raise ValueError(
            f"{where}: {value:g} is no share of the picture's side (0 to 1); divide x by the width and y by the height"
        )
    return value
