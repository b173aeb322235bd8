"""The formats that are read, and what each is given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dinoseg.importing.coco import read_coco
from dinoseg.importing.cvat import read_cvat
from dinoseg.importing.geojson import read_geojson
from dinoseg.importing.given_classes import with_classes
from dinoseg.importing.instances import read_instances
from dinoseg.importing.labelme import read_labelme
from dinoseg.importing.picture_names import refuse_same_names
from dinoseg.importing.source import Source
from dinoseg.importing.yolo import read_yolo


@dataclass(frozen=True)
class ImportOrder:
    """What is to be read; the options of a format are None where they are not given.

    Attributes:
        pictures: the folder of the pictures; the raster of GeoJSON; None where they lie with the annotations.
        class_property: of GeoJSON, names the class.
        class_of: of instances, the pattern of the class in the names of files.
        classes: a classes.csv, or what else ``datasets.classes`` takes as a text, whose label ids are to be kept.
    """

    format: str
    annotations: Path
    pictures: Path | None = None
    skip_missing: bool = False
    class_property: str | None = None
    class_of: str | None = None
    classes: str | None = None


@dataclass(frozen=True)
class _Format:
    """How a format is read; ``takes`` names what it is given, as the command line writes it."""

    takes: str
    read: Callable[[ImportOrder, Path], Source]
    with_pictures: bool = True


FORMATS: dict[str, _Format] = {
    "coco": _Format(
        "annotations.json images/", lambda order, images: read_coco(order.annotations, images, order.skip_missing)
    ),
    "labelme": _Format("FOLDER", lambda order, _: read_labelme(order.annotations, order.skip_missing), False),
    "cvat": _Format(
        "annotations.xml images/", lambda order, images: read_cvat(order.annotations, images, order.skip_missing)
    ),
    "yolo": _Format("FOLDER", lambda order, _: read_yolo(order.annotations, order.skip_missing), False),
    "geojson": _Format(
        "FILE raster.tif", lambda order, raster: read_geojson(order.annotations, raster, order.class_property)
    ),
    "instances": _Format(
        "FOLDER images/",
        lambda order, images: read_instances(order.annotations, images, order.class_of, order.skip_missing),
    ),
}


def read_source(order: ImportOrder) -> Source:
    """Reads annotations of the format that is asked for.

    Raises:
        ValueError: no such format, something that it takes is missing or too much, or what its reader refuses.
    """
    chosen = FORMATS.get(order.format)
    if chosen is None:
        raise ValueError(f"{order.format!r} is no format that is read; choose one of {', '.join(FORMATS)}")
    usage = f"give dinoseg import {order.format} {chosen.takes} --out FOLDER"
    if chosen.with_pictures != (order.pictures is not None):
        found = "the pictures are missing" if chosen.with_pictures else f"{order.pictures} is one path too many"
        raise ValueError(f"{order.format}: {found}; {usage}")
    for option, value, owner in (
        ("--property", order.class_property, "geojson"),
        ("--class-of", order.class_of, "instances"),
    ):
        if value is not None and order.format != owner:
            raise ValueError(f"{option} is of {owner}, not of {order.format}; remove it")
    if order.skip_missing and order.format == "geojson":
        raise ValueError("--skip-missing says nothing of geojson, which is for one raster; remove it")
    source = chosen.read(order, order.pictures or order.annotations)
    if not source.pictures:
        raise ValueError(f"{source.origin}: no picture with annotations; {usage}")
    refuse_same_names(source.pictures)
    return source if order.classes is None else with_classes(source, order.classes)
