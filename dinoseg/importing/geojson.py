"""GeoJSON: polygons of a map, burnt into the grid of one georeferenced raster."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dinoseg.importing.classes import ClassTable, DeclaredClass, class_table, kept_classes, named_classes
from dinoseg.importing.other_formats import read_document
from dinoseg.importing.polygons import Polygon, Ring, corners_of
from dinoseg.importing.runs import Region, Runs, joined
from dinoseg.importing.source import AnnotatedPicture, Dropped, Shape, Source
from dinoseg.system.files import refuse_special_file
from dinoseg.system.json_files import show_found
from dinoseg.system.messages import list_names

_ONE_CLASS = "object"
_DEGREES = "OGC:CRS84"
# What ``dinoseg predict --vector`` says of each polygon; of these the first two name its class.
_WRITTEN = ("label_id", "name", "colour")
_OF_CLASS = _WRITTEN[:2]
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class MultiPolygon(Region):
    """Polygons that make one feature; what two of them share belongs to it, too."""

    parts: tuple[Polygon, ...]

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size."""
        found = [part.runs(height, width) for part in self.parts]
        return found[0] if len(found) == 1 else _united(found, width)


@dataclass(frozen=True)
class _Raster:
    """Size, reference system and grid of a raster, and the functions of rasterio that place coordinates in it."""

    path: Path
    width: int
    height: int
    crs: Any
    transform: Any
    rasterio: Any

    def place(self, ring: Ring, crs: Any, where: str) -> Ring:
        """Corners of a reference system as columns and rows, (0, 0) being the upper left corner."""
        x, y = ring[:, 0], ring[:, 1]
        if crs != self.crs:
            x, y = (np.array(values) for values in self.rasterio.warp.transform(crs, self.crs, x.tolist(), y.tolist()))
        back = ~self.transform
        columns, rows = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
        placed = np.stack([columns, rows], axis=1)
        if not np.isfinite(placed).all():
            raise ValueError(f"{where}: a corner has no place in {self.crs}, the system of {self.path}; correct it")
        return placed


@dataclass(frozen=True)
class _Feature:
    """A feature with an area.

    Attributes:
        where: its place in the file.
        value: what its property says.
        polygons: each a list of rings.
        written: label id, name and colour, as ``dinoseg predict --vector`` writes them; None in other files.
    """

    where: str
    value: int | str
    polygons: list[Any]
    written: DeclaredClass | None = None


def read_geojson(annotations: Path, raster: Path, class_property: str | None) -> Source:
    """Reads the polygons of a GeoJSON file for a raster.

    Args:
        class_property: the property that names the class; one class for all when left out.

    Raises:
        ValueError: damaged, of another format, no reference system, or no polygon on the raster; names file and
            feature.
    """
    document = read_document(annotations, "geojson")
    if not isinstance(document, dict) or document.get("type") not in ("FeatureCollection", "Feature"):
        raise ValueError(f"{annotations}: no FeatureCollection of GeoJSON; give a GeoJSON file of features")
    grid = _open_raster(raster)
    crs = _reference_system(document, annotations, grid)
    dropped: list[Dropped] = []
    features = list(_features(document, annotations, class_property, dropped))
    if not features:
        raise ValueError(f"{annotations}: no polygon in it; give a file with polygons")
    of_prediction = class_property in (None, *_OF_CLASS) and all(feature.written for feature in features)
    if of_prediction:
        features = [replace(feature, value=feature.written.key) for feature in features if feature.written]
        classes = kept_classes({feature.written for feature in features if feature.written}, str(annotations))
    else:
        classes = _classes(features, class_property, annotations)
    ids = classes.ids
    in_degrees = "crs" not in document
    shapes = []
    for feature in features:
        region = _region(feature, f"{annotations}: {feature.where}", grid, crs, in_degrees)
        shapes.append(Shape(ids[feature.value], region, feature.where))
    _refuse_elsewhere(shapes, annotations, grid)
    notes = () if crs == grid.crs else (f"coordinates were transformed from {crs} to {grid.crs}, corner by corner",)
    if class_property is None and not of_prediction:
        notes = (*notes, f"all polygons are of one class; --property says otherwise ({_properties(document)})")
    size = (grid.width, grid.height)
    picture = AnnotatedPicture(raster.name, raster, str(annotations), tuple(shapes), size, raster_size=size)
    return Source("geojson", f"{annotations}, {raster}", (picture,), classes, dropped=tuple(dropped), notes=notes)


def require_rasterio() -> Any:
    """The package rasterio.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import rasterio
        import rasterio.warp
    except ImportError:
        raise ValueError("GeoJSON wants rasterio, which is not installed: pip install 'dinoseg[geo]'") from None
    return rasterio


def _open_raster(path: Path) -> _Raster:
    rasterio = require_rasterio()
    refuse_special_file(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the raster that the polygons lie on")
    try:
        with rasterio.open(path) as file:
            found = _Raster(path, file.width, file.height, file.crs, file.transform, rasterio)
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{path}: no raster that can be read ({error}); give a GeoTIFF") from None
    if not found.crs or found.transform.is_identity:
        lacking = "reference system" if not found.crs else "place on the map"
        raise ValueError(
            f"{path}: has no {lacking}, so that polygons of a map find no place; give the georeferenced file"
        )
    return found


def _reference_system(document: dict[str, Any], annotations: Path, grid: _Raster) -> Any:
    """Longitude and latitude, unless the file names another, as files from before the standard do."""
    stated = document.get("crs")
    if "crs" not in document:
        return grid.rasterio.crs.CRS.from_user_input(_DEGREES)
    properties = stated.get("properties") if isinstance(stated, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    try:
        if not isinstance(name, str):
            raise ValueError
        return grid.rasterio.crs.CRS.from_user_input(name)
    except (ValueError, grid.rasterio.errors.RasterioError):
        raise ValueError(
            f"{annotations}: crs is {json.dumps(stated)[:80]}, no reference system that is known; write "
            '{"type": "name", "properties": {"name": "EPSG:32633"}}, or leave crs out for longitude and latitude'
        ) from None


def _features(
    document: dict[str, Any], annotations: Path, class_property: str | None, dropped: list[Dropped]
) -> Iterator[_Feature]:
    listed = document.get("features") if document["type"] == "FeatureCollection" else [document]
    if not isinstance(listed, list):
        raise ValueError(f"{annotations}: features is {show_found(listed)}; a list expected: correct it")
    for index, feature in enumerate(listed):
        where = f"features[{index}]"
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        geometry = geometry if isinstance(geometry, dict) else {}
        kind = geometry.get("type")
        if kind not in ("Polygon", "MultiPolygon"):
            dropped.append(Dropped(f"{annotations}: {where}", f"a {kind} covers no area" if kind else "no geometry"))
            continue
        coordinates = geometry.get("coordinates")
        polygons = [coordinates] if kind == "Polygon" else coordinates
        if not isinstance(polygons, list) or not polygons:
            raise ValueError(f"{annotations}: {where} has no coordinates; correct or remove it")
        value = _value(feature, class_property, f"{annotations}: {where}")
        yield _Feature(where, value, polygons, _written(feature))


def _written(feature: dict[str, Any]) -> DeclaredClass | None:
    properties = feature.get("properties")
    label_id, name, colour = (properties.get(key) if isinstance(properties, dict) else None for key in _WRITTEN)
    if not isinstance(label_id, int) or isinstance(label_id, bool) or not isinstance(name, str) or not name.strip():
        return None
    if not isinstance(colour, str) or not _COLOUR.fullmatch(colour):
        return None
    red, green, blue = bytes.fromhex(colour[1:])
    return DeclaredClass(label_id, name, (red, green, blue))


def _value(feature: dict[str, Any], class_property: str | None, where: str) -> int | str:
    if class_property is None:
        return _ONE_CLASS
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if class_property not in properties:
        there = list_names(map(str, properties)) or "none"
        raise ValueError(f"{where} has no property {class_property!r}; choose one that all have (--property): {there}")
    value = properties[class_property]
    if not isinstance(value, int | str) or isinstance(value, bool) or value == "":
        raise ValueError(f"{where}.properties.{class_property} is {show_found(value)}, no class; name it, or remove it")
    return value


def _classes(features: list[_Feature], class_property: str | None, annotations: Path) -> ClassTable:
    values = {feature.value for feature in features}
    numbers = sorted(value for value in values if isinstance(value, int))
    place = f"{annotations}: --property {class_property}"
    if len(numbers) == len(values):
        return class_table([DeclaredClass(value, str(value)) for value in numbers], place)
    if numbers:
        text = min(value for value in values if isinstance(value, str))
        raise ValueError(f"{place}: holds both numbers ({numbers[0]}) and texts ({text!r}); write one kind")
    return named_classes(map(str, values), place)


def _region(feature: _Feature, where: str, grid: _Raster, crs: Any, in_degrees: bool) -> MultiPolygon:
    parts = []
    for polygon in feature.polygons:
        if not isinstance(polygon, list) or not polygon or not all(isinstance(ring, list) for ring in polygon):
            raise ValueError(f"{where}: a polygon is {show_found(polygon)}; a list of rings expected: correct it")
        rings = [corners_of(ring[:-1] if ring[:1] == ring[-1:] else ring, where) for ring in polygon]
        for ring in rings:
            if in_degrees and not (np.abs(ring) <= [180, 90]).all():
                raise ValueError(
                    f"{where}: ({ring[0, 0]:g}, {ring[0, 1]:g}) is no longitude and latitude, which GeoJSON without a "
                    "crs is in; name the reference system in crs"
                )
        parts.append(Polygon(tuple(grid.place(ring, crs, where) for ring in rings)))
    return MultiPolygon(tuple(parts))


def _refuse_elsewhere(shapes: list[Shape], annotations: Path, grid: _Raster) -> None:
    corners = np.concatenate(
        [
            ring
            for shape in shapes
            if isinstance(shape.region, MultiPolygon)
            for part in shape.region.parts
            for ring in part.rings
        ]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high <= 0).any() or (low >= [grid.width, grid.height]).any():
        raise ValueError(
            f"{annotations}: no polygon lies on {grid.path}: they are at columns {low[0]:.0f} to {high[0]:.0f} and "
            f"rows {low[1]:.0f} to {high[1]:.0f} of its {grid.width} x {grid.height} (width x height); check that both "
            "are of one place, and that x comes before y"
        )


def _properties(document: dict[str, Any]) -> str:
    features = document.get("features") if document["type"] == "FeatureCollection" else [document]
    first = features[0] if features else {}
    properties = first.get("properties") if isinstance(first, dict) else None
    return (
        f"there are {list_names(map(str, properties))}"
        if isinstance(properties, dict) and properties
        else "there is none"
    )


def _united(parts: list[Runs], width: int) -> Runs:
    """Pixels that are in any of the parts, each once."""
    runs = joined(parts)
    stride = width + 1  # so that a run which ends a row does not touch the next one's
    order = np.argsort(runs.rows * stride + runs.starts, kind="stable")
    starts = (runs.rows * stride + runs.starts)[order]
    ends = np.maximum.accumulate((runs.rows * stride + runs.ends)[order])
    if not len(starts):
        return runs
    fresh = np.concatenate([[True], starts[1:] > ends[:-1]])
    first = starts[fresh]
    last = ends[np.concatenate([fresh[1:], [True]])]
    rows = first // stride
    return Runs(rows, first - rows * stride, last - rows * stride)
