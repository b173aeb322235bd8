"""Polygons as GeoPackage or GeoJSON, written one after the other: what is in memory does not grow with their number.

A GeoPackage is an SQLite file with four tables, which Python writes by itself. The libraries for it (pyogrio, fiona)
bring a second GDAL of a hundred megabytes beside that of rasterio; a test reads the files back with one of them.
"""

import errno
import json
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinoseg.system.files import replaced_file

Ring = Sequence[tuple[float, float]]

# What opens a GeoPackage knows it by these: "GPKG", and version 1.3.
_APPLICATION, _VERSION = 0x47504B47, 10300
# Identifier of a reference system that EPSG does not list.
_OWN_SYSTEM = 100_000
_LITTLE_ENDIAN, _ENVELOPE_XY, _WKB_POLYGON = 1, 1 << 1, 3
_DEGREES = 4326
_MARK = "dinoseg_fingerprint"
_LONGEST_HEAD = 1 << 16


@dataclass(frozen=True)
class LabelPolygon:
    """A connected patch of one label id.

    Attributes:
        rings: closed, in the reference system of the map; the outer one first, then holes.
        colour: ``#rrggbb``.
    """

    rings: tuple[Ring, ...]
    label_id: int
    name: str
    colour: str


@dataclass(frozen=True)
class ReferenceSystem:
    """Of the coordinates.

    Attributes:
        epsg: its number; None where EPSG lists none.
        wkt: its definition.
        name: for people.
    """

    epsg: int | None
    wkt: str
    name: str


@dataclass(frozen=True)
class _Head:
    """What a file says before its polygons: its name, and the fingerprint of the label map they were traced on."""

    name: str
    system: ReferenceSystem
    fingerprint: str


def write_vector(path: Path, polygons: Iterable[LabelPolygon], system: ReferenceSystem, fingerprint: str = "") -> None:
    """Writes polygons in the format that the suffix of ``path`` names; the file appears whole or not at all.

    Args:
        fingerprint: is written into the file; see ``vector_fingerprint``.

    Raises:
        ValueError: GeoJSON, and a reference system that it cannot name.
        OSError: the file cannot be written.
    """
    with replaced_file(path) as temporary:
        temporary.unlink(missing_ok=True)
        temporary.touch()  # says what is wrong with the folder in words
        write = VECTOR_FORMATS[path.suffix.lower().removeprefix(".")]
        write(temporary, polygons, _Head(path.stem, system, fingerprint))


def vector_fingerprint(path: Path) -> str | None:
    """What ``write_vector`` was given; None for a file that it did not write, that is damaged, or not there."""
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        if path.suffix.lower() == ".geojson":
            with path.open(encoding="utf-8") as file:
                start = file.readline(_LONGEST_HEAD).rpartition(', "features"')[0] + "}"
            said = json.loads(start).get(_MARK)
        else:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                said = database.execute("SELECT description FROM gpkg_contents WHERE table_name='labels'").fetchone()[0]
                said = said.removeprefix(f"{_MARK} ") if said.startswith(f"{_MARK} ") else None
    except (OSError, ValueError, TypeError, AttributeError, sqlite3.Error):
        return None
    return said if isinstance(said, str) else None


def is_foreign_vector(path: Path) -> bool:
    """Whether a file is there that holds something and was not written here."""
    return path.is_file() and path.stat().st_size > 0 and vector_fingerprint(path) is None


def _write_geojson(path: Path, polygons: Iterable[LabelPolygon], said: _Head) -> None:
    system = said.system
    head: dict[str, Any] = {"type": "FeatureCollection", "name": said.name, _MARK: said.fingerprint}
    if system.epsg is None:
        raise ValueError(f"GeoJSON names reference systems by their EPSG number, and {system.name} has none; use gpkg")
    if system.epsg != _DEGREES:
        # From before the standard, which knows degrees alone; GDAL and what is built on it read it.
        head["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{system.epsg}"}}
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "features": [')
        for index, polygon in enumerate(polygons):
            feature = {
                "type": "Feature",
                "properties": {"label_id": polygon.label_id, "name": polygon.name, "colour": polygon.colour},
                "geometry": {"type": "Polygon", "coordinates": polygon.rings},
            }
            file.write((",\n" if index else "\n") + json.dumps(feature))
        file.write("\n]}\n")


def _write_geopackage(path: Path, polygons: Iterable[LabelPolygon], said: _Head) -> None:
    system = said.system
    number = _OWN_SYSTEM if system.epsg is None else system.epsg
    with _errors_of_sqlite(), closing(sqlite3.connect(path)) as database, database:
        database.executescript(f"PRAGMA application_id={_APPLICATION}; PRAGMA user_version={_VERSION};")
        # The file is whole or not there: a journal beside it would outlive a failure.
        database.execute("PRAGMA journal_mode=MEMORY")
        for statement in _TABLES:
            database.execute(statement)
        database.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)", _systems(system, number))
        extent = _Extent()
        rows = (
            (_geometry(polygon, number, extent), polygon.label_id, polygon.name, polygon.colour) for polygon in polygons
        )
        database.executemany("INSERT INTO labels (geom, label_id, name, colour) VALUES (?, ?, ?, ?)", rows)
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, min_x, min_y, max_x, max_y, "
            "srs_id) VALUES ('labels', 'features', ?, ?, ?, ?, ?, ?, ?)",
            (said.name, f"{_MARK} {said.fingerprint}", *extent.bounds, number),
        )
        database.execute(
            "INSERT INTO gpkg_geometry_columns VALUES ('labels', 'geom', 'POLYGON', ?, 0, 0)",
            (number,),
        )


_TABLES = (
    "CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT "
    "NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT)",
    "CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT "
    "UNIQUE, description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', "
    "'now')), min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER "
    "REFERENCES gpkg_spatial_ref_sys(srs_id))",
    "CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL UNIQUE REFERENCES gpkg_contents(table_name), "
    "column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL REFERENCES "
    "gpkg_spatial_ref_sys(srs_id), z TINYINT NOT NULL, m TINYINT NOT NULL, PRIMARY KEY (table_name, column_name))",
    "CREATE TABLE labels (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON, label_id INTEGER, name TEXT, "
    "colour TEXT)",
)

_WGS84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,'
    'AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)


def _systems(system: ReferenceSystem, number: int) -> list[tuple[str, int, str, int, str]]:
    """Three that every GeoPackage lists, and that of the map."""
    listed = [
        ("Undefined Cartesian SRS", -1, "NONE", -1, "undefined"),
        ("Undefined geographic SRS", 0, "NONE", 0, "undefined"),
        ("WGS 84", _DEGREES, "EPSG", _DEGREES, _WGS84),
    ]
    if number == _DEGREES:
        return listed
    return [*listed, (system.name, number, "NONE" if system.epsg is None else "EPSG", number, system.wkt)]


class _Extent:
    """The box around all polygons; no box where there are none."""

    def __init__(self) -> None:
        self.bounds: tuple[float | None, float | None, float | None, float | None] = (None, None, None, None)

    def take(self, left: float, low: float, right: float, high: float) -> None:
        known = [value for value in self.bounds if value is not None]
        if not known:
            self.bounds = (left, low, right, high)
            return
        self.bounds = (min(known[0], left), min(known[1], low), max(known[2], right), max(known[3], high))


def _geometry(polygon: LabelPolygon, number: int, extent: _Extent) -> bytes:
    """A polygon as GeoPackages hold it: a head with the box around it, and well-known binary."""
    x, y = zip(*polygon.rings[0], strict=True)
    extent.take(min(x), min(y), max(x), max(y))
    parts = [
        b"GP" + struct.pack("<BBi4d", 0, _LITTLE_ENDIAN | _ENVELOPE_XY, number, min(x), max(x), min(y), max(y)),
        struct.pack("<BII", 1, _WKB_POLYGON, len(polygon.rings)),
    ]
    for ring in polygon.rings:
        flat = [value for corner in ring for value in corner]
        parts.append(struct.pack(f"<I{len(flat)}d", len(ring), *flat))
    return b"".join(parts)


@contextmanager
def _errors_of_sqlite() -> Iterator[None]:
    """Errors of the disk as those of the system."""
    try:
        yield
    except sqlite3.OperationalError as error:
        full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


# By suffix, as --vector names them.
VECTOR_FORMATS: Mapping[str, Callable[[Path, Iterable[LabelPolygon], _Head], None]] = {
    "gpkg": _write_geopackage,
    "geojson": _write_geojson,
}
