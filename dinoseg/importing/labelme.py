"""labelme: one JSON file a picture, beside it or with the picture inside."""

import base64
import binascii
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from dinoseg.data.found_files import list_files
from dinoseg.importing.classes import ClassTable, named_classes
from dinoseg.importing.ellipses import Ellipse
from dinoseg.importing.other_formats import read_document
from dinoseg.importing.picture_names import MissingPicture, left_out, name_within, require_folder, settle_missing
from dinoseg.importing.polygons import Polygon, box_ring, require_near, ring_of
from dinoseg.importing.runs import Bitmap, Region
from dinoseg.importing.source import IGNORED_ID, AnnotatedPicture, Dropped, Shape, Source
from dinoseg.system.json_files import Record, check_document, load_json

_REMEDY = "save it with labelme again, or correct it"
_IGNORED_NAME = "__ignore__"
_WITHOUT_AREA = ("line", "linestrip", "point", "points")
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}


class _LabelmeShape(Record):
    label: str
    points: list[Any]
    shape_type: str | None = "polygon"
    mask: str | None = None


class _LabelmeFile(Record):
    shapes: list[_LabelmeShape]
    imagePath: str | None = None
    imageData: str | None = None
    imageHeight: int | None = None
    imageWidth: int | None = None


@dataclass(frozen=True)
class _Entry:
    """What is kept of a JSON file: all but its picture."""

    path: Path
    shapes: tuple[tuple[str, Region, str], ...]
    picture: str
    file: Path | None
    embedded: bool
    size: tuple[int, int] | None


def read_labelme(folder: Path, skip_missing: bool) -> Source:
    """Reads the labelme files of a folder and below it.

    Raises:
        ValueError: none, a damaged one, or one that says what would have to be guessed; names file and shape.
    """
    require_folder(folder, "labelme files and their pictures")
    paths = list_files(folder, (".json",))
    if not paths:
        raise ValueError(f"{folder}: no JSON file in it; give the folder in which labelme saved")
    dropped: list[Dropped] = []
    entries = [_read(path, folder, dropped) for path in paths]
    classes = _classes(entries, folder)
    missing = [
        MissingPicture(entry.picture, str(entry.path)) for entry in entries if entry.file is None and not entry.embedded
    ]
    pictures = [_picture(entry, classes) for entry in entries if entry.file is not None or entry.embedded]
    dropped += settle_missing(missing, folder, skip_missing)
    dropped += left_out(folder, [picture.file for picture in pictures], "left out: it has no JSON file")
    shown = any(label == _IGNORED_NAME for entry in entries for label, _, _ in entry.shapes)
    notes = (f"{_IGNORED_NAME} is drawn as label id {IGNORED_ID}, which counts nowhere",) if shown else ()
    return Source("labelme", str(folder), tuple(pictures), classes, dropped=tuple(dropped), notes=notes)


def _read(path: Path, folder: Path, dropped: list[Dropped]) -> _Entry:
    document = check_document(read_document(path, "labelme"), _LabelmeFile, str(path), _REMEDY)
    shapes = []
    for index, shape in enumerate(document.shapes):
        where = f"shapes[{index}]"
        if shape.shape_type in _WITHOUT_AREA:
            dropped.append(Dropped(f"{path}: {where}", f"a {shape.shape_type} covers no area"))
            continue
        if not shape.label.strip():
            raise ValueError(f"{path}: {where} has no label; give it one, or remove it")
        shapes.append((shape.label.strip(), _region(shape, f"{path}: {where}"), where))
    below = path.parent.relative_to(folder).as_posix()
    name = name_within(document.imagePath, f"{path}: imagePath", below) if document.imagePath else ""
    file = folder / name if name and (folder / name).is_file() else None
    width, height = document.imageWidth, document.imageHeight
    size = None if width is None or height is None else (width, height)
    picture = name or path.relative_to(folder).as_posix()
    return _Entry(path, tuple(shapes), picture, file, bool(document.imageData), size)


def _classes(entries: list[_Entry], folder: Path) -> ClassTable:
    names = {label for entry in entries for label, _, _ in entry.shapes} - {_IGNORED_NAME}
    return named_classes(names, f"{folder}: labels of the shapes")


def _picture(entry: _Entry, classes: ClassTable) -> AnnotatedPicture:
    ids = classes.ids | {_IGNORED_NAME: IGNORED_ID}
    shapes = tuple(Shape(ids[label], region, where) for label, region, where in entry.shapes)
    if entry.file is not None:
        return AnnotatedPicture(entry.picture, entry.file, str(entry.path), shapes, entry.size)
    embedded = _reader_of(entry.path)
    name = Path(entry.picture).with_suffix(_suffix_of(embedded(), entry.path)).as_posix()
    return AnnotatedPicture(name, entry.path, str(entry.path), shapes, entry.size, embedded)


def _reader_of(path: Path) -> Callable[[], bytes]:
    """Reads an embedded picture when it is wanted: all of them would fill the memory."""

    def read() -> bytes:
        return _decoded(load_json(path, _REMEDY)["imageData"], f"{path}: imageData")

    return read


def _suffix_of(data: bytes, path: Path) -> str:
    with _opened(data, f"{path}: imageData") as image:
        suffix = _SUFFIXES.get(str(image.format))
    if suffix is None:
        raise ValueError(f"{path}: imageData is a picture of an unusual kind; save it as PNG, beside the JSON file")
    return suffix


def _region(shape: _LabelmeShape, where: str) -> Region:
    kind = shape.shape_type or "polygon"
    if kind == "mask":
        return _bitmap(shape, where)
    if kind in ("polygon", "oriented_rectangle") or (kind == "rectangle" and len(shape.points) == 4):
        return Polygon((ring_of(shape.points, where),))
    if kind not in ("rectangle", "circle"):
        raise ValueError(f"{where}: shape_type {kind!r} is not known; draw it as a polygon, or remove it")
    (x0, y0), (x1, y1) = _two_points(shape, where)
    if kind == "rectangle":
        return Polygon((box_ring(x0, y0, x1, y1),))
    radius = math.hypot(x1 - x0, y1 - y0)
    if radius == 0:
        raise ValueError(f"{where}: a circle without a radius; correct or remove it")
    return Ellipse(x0, y0, radius, radius)


def _two_points(shape: _LabelmeShape, where: str) -> tuple[tuple[float, float], tuple[float, float]]:
    points = shape.points
    numbers = [value for point in points if isinstance(point, list) for value in point]
    if len(points) != 2 or len(numbers) != 4 or not all(isinstance(value, int | float) for value in numbers):
        raise ValueError(f"{where}: a {shape.shape_type} has two points [x, y]; correct or remove it")
    x0, y0, x1, y1 = map(float, numbers)
    require_near((x0, y0, x1, y1), where)
    return (x0, y0), (x1, y1)


def _bitmap(shape: _LabelmeShape, where: str) -> Bitmap:
    """A mask: a PNG of the frame between its two points, both of which are pixels of it."""
    (x0, y0), (x1, y1) = _two_points(shape, where)
    if not shape.mask:
        raise ValueError(f"{where}: a mask without its picture (mask); draw it again, or remove it")
    pixels = _mask_pixels(_decoded(shape.mask, f"{where}.mask"), f"{where}.mask")
    left, top, width, height = int(x0), int(y0), int(x1) - int(x0) + 1, int(y1) - int(y0) + 1
    if pixels.shape != (height, width):
        raise ValueError(
            f"{where}: the mask is {pixels.shape[1]} x {pixels.shape[0]}, but its points frame {width} x {height} "
            "(width x height); draw it again, or remove it"
        )
    return Bitmap(pixels, top, left)


def _mask_pixels(data: bytes, where: str) -> Bool[np.ndarray, "height width"]:
    with _opened(data, where) as image:
        values = np.asarray(image.convert("L") if image.mode not in ("1", "L", "P", "I;16", "I") else image)
    return values > 0


def _decoded(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError(f"{where}: damaged, no base64 text; save the file with labelme again") from None


def _opened(data: bytes, where: str) -> Image.Image:
    """A picture of a document, decoded."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception:  # Pillow's decoders raise many types for damaged files
        raise ValueError(f"{where}: damaged, no picture; save the file with labelme again") from None
    return image
