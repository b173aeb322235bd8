"""CVAT for images 1.1: polygons, boxes, ellipses and masks of one XML file for a folder of pictures."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dinoseg.importing.classes import ClassTable, DeclaredClass, class_table, named_classes
from dinoseg.importing.ellipses import Ellipse
from dinoseg.importing.other_formats import refuse_json
from dinoseg.importing.picture_names import MissingPicture, left_out, name_within, require_folder, settle_missing
from dinoseg.importing.polygons import Polygon, box_ring, require_near, ring_of
from dinoseg.importing.runs import Bitmap, Region
from dinoseg.importing.source import AnnotatedPicture, Dropped, Shape, Source
from dinoseg.importing.xml_nodes import XmlNode, read_xml
from dinoseg.labels.palette import Colour

_REMEDY = "give the annotations.xml of an export as 'CVAT for images 1.1'"
_NOT_DRAWN = {
    "polyline": "a polyline covers no area",
    "points": "points cover no area",
    "tag": "a tag is of the whole picture",
    "cuboid": "a cuboid has no region in the picture",
    "skeleton": "a skeleton covers no area",
}
_MOST_PIXELS = 1 << 28


def read_cvat(annotations: Path, images: Path, skip_missing: bool) -> Source:
    """Reads the XML file of an export for images.

    Raises:
        ValueError: damaged or of another format, or it says what would have to be guessed; names file and line.
    """
    require_folder(images, "pictures")
    refuse_json(annotations, "cvat")
    root = read_xml(annotations, _REMEDY)
    _require_images(root, annotations)
    entries = root.all("image")
    classes = _classes(root, entries, annotations)
    pictures: list[AnnotatedPicture] = []
    missing: list[MissingPicture] = []
    dropped: list[Dropped] = []
    for node in entries:
        where = f"{annotations}: line {node.line}"
        name = name_within(_attribute(node, "name", where), where)
        size = (_whole(node, "width", where), _whole(node, "height", where))
        shapes = _shapes(node, classes, annotations, dropped)
        if (images / name).is_file():
            pictures.append(AnnotatedPicture(name, images / name, where, shapes, size))
        else:
            missing.append(MissingPicture(name, where))
    dropped += settle_missing(missing, images, skip_missing)
    dropped += left_out(images, [picture.file for picture in pictures], "left out: the annotations do not name it")
    layers = {shape.layer for picture in pictures for shape in picture.shapes}
    notes = ("a shape of higher z_order lies on top of all of lower ones",) if len(layers) > 1 else ()
    return Source("cvat", f"{annotations}, {images}", tuple(pictures), classes, dropped=tuple(dropped), notes=notes)


def _require_images(root: XmlNode, annotations: Path) -> None:
    if root.tag != "annotations":
        raise ValueError(f"{annotations}: line {root.line}: <{root.tag}> is no export of CVAT; {_REMEDY}")
    if root.all("track"):
        line = root.all("track")[0].line
        raise ValueError(
            f"{annotations}: line {line}: <track> is of CVAT for video; export it as 'CVAT for images 1.1'"
        )
    if not root.all("image"):
        raise ValueError(f"{annotations}: holds no <image>; {_REMEDY}")


def _classes(root: XmlNode, entries: list[XmlNode], annotations: Path) -> ClassTable:
    """The labels of the task or project, in their order; those that are in use where the export names none."""
    places = (root.first("meta", place, "labels") for place in ("task", "project", "job"))
    labels = next((place for place in places if place is not None), None)
    if labels is None:
        drawn = [shape for node in entries for shape in node.children if shape.tag in _REGIONS]
        used = {shape.attributes.get("label", "").strip() for shape in drawn} - {""}
        return named_classes(used, f"{annotations}: labels of the shapes")
    declared = []
    for node in labels.all("label"):
        name, colour = node.first("name"), node.first("color")
        text = name.text.strip() if name is not None else ""
        declared.append(DeclaredClass(text, text, _colour(colour.text if colour is not None else "")))
    return class_table(declared, f"{annotations}: line {labels.line}: labels")


def _colour(text: str) -> Colour | None:
    found = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text.strip())
    return (int(found[1], 16), int(found[2], 16), int(found[3], 16)) if found else None


def _shapes(image: XmlNode, classes: ClassTable, annotations: Path, dropped: list[Dropped]) -> tuple[Shape, ...]:
    shapes, ids = [], classes.ids
    for node in image.children:
        where = f"{annotations}: line {node.line}"
        if node.tag in _NOT_DRAWN:
            dropped.append(Dropped(where, _NOT_DRAWN[node.tag]))
            continue
        if node.tag not in _REGIONS:
            raise ValueError(f"{where}: <{node.tag}> is no shape that is known; {_REMEDY}")
        label = _attribute(node, "label", where).strip()
        if label not in ids:
            raise ValueError(
                f"{where}: label {label!r} is none of the labels of the file; correct it, or add the label"
            )
        layer = _whole(node, "z_order", where) if "z_order" in node.attributes else 0
        shapes.append(Shape(ids[label], _REGIONS[node.tag](node, where), f"line {node.line}", layer))
    return tuple(shapes)


def _polygon(node: XmlNode, where: str) -> Region:
    points = []
    for point in filter(None, _attribute(node, "points", where).split(";")):
        x, comma, y = point.partition(",")
        if not comma:
            raise ValueError(f"{where}: point {point[:40]!r}; x,y expected: correct it")
        points.append([_parsed(x, "points", where), _parsed(y, "points", where)])
    return Polygon((ring_of(points, where),))


def _box(node: XmlNode, where: str) -> Region:
    left, top, right, bottom = (_number(node, name, where) for name in ("xtl", "ytl", "xbr", "ybr"))
    return Polygon((box_ring(left, top, right, bottom, _number(node, "rotation", where, 0.0)),))


def _ellipse(node: XmlNode, where: str) -> Region:
    x, y, radius_x, radius_y = (_number(node, name, where) for name in ("cx", "cy", "rx", "ry"))
    if radius_x <= 0 or radius_y <= 0:
        raise ValueError(f"{where}: an ellipse with radii {radius_x:g} and {radius_y:g}; correct or remove it")
    return Ellipse(x, y, radius_x, radius_y, _number(node, "rotation", where, 0.0))


def _mask(node: XmlNode, where: str) -> Region:
    """Row by row in its frame, the first run outside."""
    left, top, width, height = (_whole(node, name, where) for name in ("left", "top", "width", "height"))
    texts = [text for text in re.split(r"[,\s]+", _attribute(node, "rle", where).strip()) if text]
    if not all(re.fullmatch(r"\d{1,12}", text) for text in texts):
        raise ValueError(f"{where}: rle holds something other than run lengths; export it again, or remove the mask")
    counts = np.array([int(text) for text in texts], dtype=np.int64)
    fills = (counts <= _MOST_PIXELS).all() and int(counts.sum()) == width * height
    if not fills or min(width, height) < 1 or width * height > _MOST_PIXELS:
        raise ValueError(
            f"{where}: rle does not cover a frame of {width} x {height} (width x height) once; export it again, or "
            "remove the mask"
        )
    inside = np.arange(len(counts)) % 2 == 1
    return Bitmap(np.repeat(inside, counts).reshape(height, width), top, left)


_REGIONS: dict[str, Callable[[XmlNode, str], Region]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _attribute(node: XmlNode, name: str, where: str) -> str:
    value = node.attributes.get(name)
    if value is None:
        raise ValueError(f"{where}: <{node.tag}> has no {name}; {_REMEDY}")
    return value


def _number(node: XmlNode, name: str, where: str, default: float | None = None) -> float:
    if default is not None and name not in node.attributes:
        return default
    value = _parsed(_attribute(node, name, where), name, where)
    require_near([value], where)
    return value


def _parsed(text: str, name: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {name} holds {text[:40]!r}, no number; correct it")
    return value


def _whole(node: XmlNode, name: str, where: str) -> int:
    text = _attribute(node, name, where).strip()
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise ValueError(f"{where}: {name} is {text[:40]!r}, no whole number; correct it")
    return int(text)
