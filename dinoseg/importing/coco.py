"""COCO instances: polygons, run lengths and crowds of one JSON file for a folder of pictures."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from dinoseg.importing.classes import ClassTable, DeclaredClass, class_table
from dinoseg.importing.coco_rle import RunLengths, run_lengths, unpack_counts
from dinoseg.importing.other_formats import read_document
from dinoseg.importing.picture_names import MissingPicture, left_out, name_within, require_folder, settle_missing
from dinoseg.importing.polygons import FARTHEST
from dinoseg.importing.runs import Region, Runs
from dinoseg.importing.source import IGNORED_ID, AnnotatedPicture, Shape, Source
from dinoseg.labels.palette import Colour
from dinoseg.system.json_files import Record, check_document, show_found

_REMEDY = "export it as COCO instances again, or correct it"
_Side = Annotated[int, Field(ge=1)]


class _Image(Record):
    id: int
    file_name: str
    width: _Side
    height: _Side


class _Category(Record):
    id: int
    name: str
    color: Any = None


class _Annotation(Record):
    image_id: int
    category_id: int
    segmentation: Any = None
    iscrowd: int = 0


class _Instances(Record):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True)
class CocoPolygons(Region):
    """Polygons x, y, x, y, ... that make one object, drawn as the COCO API draws them."""

    polygons: tuple[Float64[np.ndarray, "_"], ...]

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size."""
        api = require_api()
        parts = api.frPyObjects([polygon.tolist() for polygon in self.polygons], height, width)
        counts = unpack_counts(api.merge(parts)["counts"].decode("ascii"), "a polygon")
        return RunLengths(counts, height, width).runs(height, width)


def require_api() -> Any:
    """The mask functions of pycocotools.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise ValueError(
            "polygons of COCO want pycocotools, which is not installed: pip install 'dinoseg[coco]'"
        ) from None
    return mask


def read_coco(annotations: Path, images: Path, skip_missing: bool) -> Source:
    """Reads a COCO instances file.

    Raises:
        ValueError: damaged or of another format, or it says what would have to be guessed; names file and entry.
    """
    require_folder(images, "pictures")
    document = check_document(read_document(annotations, "coco"), _Instances, str(annotations), _REMEDY)
    classes = _classes(document.categories, annotations)
    _refuse_same_ids(document.images, annotations)
    shapes = _shapes(document, classes, annotations)
    pictures, missing = [], []
    for index, entry in enumerate(document.images):
        where = f"{annotations}: images[{index}]"
        name = name_within(entry.file_name, f"{where}.file_name")
        file = images / name
        if file.is_file():
            size = (entry.width, entry.height)
            pictures.append(AnnotatedPicture(name, file, where, tuple(shapes[entry.id]), size))
        else:
            missing.append(MissingPicture(name, where))
    dropped = settle_missing(missing, images, skip_missing)
    dropped += left_out(images, [picture.file for picture in pictures], "left out: the annotations do not name it")
    return Source(
        "coco",
        f"{annotations}, {images}",
        tuple(pictures),
        classes,
        "polygons cover the pixels that pycocotools says",
        dropped,
        _notes(document.annotations),
    )


def _classes(categories: Sequence[_Category], annotations: Path) -> ClassTable:
    declared = [DeclaredClass(entry.id, entry.name, _colour(entry.color)) for entry in categories]
    return class_table(declared, f"{annotations}: categories")


def _colour(value: Any) -> Colour | None:
    """A category's colour, which files of panoptic annotations have."""
    channels = value if isinstance(value, list) else []
    if len(channels) == 3 and all(type(channel) is int and 0 <= channel <= 255 for channel in channels):
        return channels[0], channels[1], channels[2]
    return None


def _refuse_same_ids(images: Sequence[_Image], annotations: Path) -> None:
    first: dict[int, int] = {}
    for index, entry in enumerate(images):
        other = first.setdefault(entry.id, index)
        if other != index:
            raise ValueError(
                f"{annotations}: images[{index}].id is {entry.id}, as is that of images[{other}], so that annotations "
                "could be of either; give each picture an id of its own"
            )


def _shapes(document: _Instances, classes: ClassTable, annotations: Path) -> dict[int, list[Shape]]:
    """Shapes by the id of their image, in the order of the file."""
    image_of = {entry.id: entry for entry in document.images}
    ids = classes.ids
    shapes: dict[int, list[Shape]] = defaultdict(list)
    for index, entry in enumerate(document.annotations):
        where = f"{annotations}: annotations[{index}]"
        image = image_of.get(entry.image_id)
        if image is None:
            raise ValueError(
                f"{where}.image_id is {entry.image_id}, the id of none of the images; correct or remove it"
            )
        if entry.category_id not in ids:
            raise ValueError(
                f"{where}.category_id is {entry.category_id}, the id of none of the {len(ids)} categories; correct it, "
                "or add the category"
            )
        region = _region(entry.segmentation, image, f"{where}.segmentation")
        label_id = IGNORED_ID if entry.iscrowd else ids[entry.category_id]
        shapes[entry.image_id].append(Shape(label_id, region, f"annotations[{index}]"))
    return shapes


def _region(segmentation: Any, image: _Image, where: str) -> Region:
    if isinstance(segmentation, dict):
        return run_lengths(segmentation, image.height, image.width, where)
    if segmentation in (None, []):
        raise ValueError(
            f"{where} is {'missing' if segmentation is None else 'empty'}: a box alone says nothing of pixels; draw "
            "the region, or remove the annotation"
        )
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise ValueError(
            f"{where} is {show_found(segmentation)}; a list of polygons [[x, y, x, y, ...], ...] or an object with "
            "size and counts expected: correct it"
        )
    return CocoPolygons(tuple(_polygon(polygon, f"{where}[{i}]") for i, polygon in enumerate(segmentation)))


def _polygon(values: list[Any], where: str) -> Float64[np.ndarray, "_"]:
    if len(values) < 6 or len(values) % 2:
        kind = "an odd number of values" if len(values) % 2 else f"a polygon of {len(values) // 2} points"
        raise ValueError(f"{where} is {kind}; x, y of three points are the fewest: correct or remove it")
    if not set(map(type, values)) <= {int, float}:
        raise ValueError(f"{where} holds something other than numbers; correct or remove it")
    polygon = np.array(values, dtype=np.float64)
    if not (np.abs(polygon) <= FARTHEST).all():
        raise ValueError(f"{where} holds a coordinate that is far from any picture; correct or remove it")
    return polygon


def _notes(annotations: Sequence[_Annotation]) -> tuple[str, ...]:
    crowds = Counter(bool(entry.iscrowd) for entry in annotations)[True]
    if not crowds:
        return ()
    regions = "crowd region" if crowds == 1 else "crowd regions"
    return (f"{crowds} {regions} (iscrowd) drawn as label id {IGNORED_ID}, which counts nowhere",)
