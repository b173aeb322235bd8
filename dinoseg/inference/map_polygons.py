"""Predicted maps as polygons: connected patches of a label id, along the edges of pixels, in the map's system.

They are traced row by row through the whole label map, so that no border of a block shows. In memory are the corners of
all patches and not the map: their number is counted first, and has a limit.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dinoseg.data.rasters import has_rasterio, import_rasterio, is_tiff, opened_raster, read_header
from dinoseg.inference.maps import is_map
from dinoseg.inference.vector_files import VECTOR_FORMATS, LabelPolygon, ReferenceSystem, write_vector
from dinoseg.labels import LabelSpace

# About 200 bytes each at worst (noise, where every corner has a patch of its own): 2 GB.
MOST_CORNERS = 10_000_000
_ROWS_AT_ONCE = 512


def refuse_unplaced(images: Iterable[Path], vector: str | None, options: str) -> None:
    """Raises ValueError for images that are no maps, or from which polygons of this format cannot be made.

    Args:
        vector: what ``--vector`` names; None where polygons are not wanted.
        options: those that are of maps, as they were given, for messages.
    """
    if vector is not None and vector not in VECTOR_FORMATS:
        raise ValueError(f"--vector {vector}: choose {' or '.join(VECTOR_FORMATS)}")
    if not has_rasterio():
        raise ValueError(f"{options}: maps are read with rasterio, which is not installed: pip install 'dinoseg[geo]'")
    for path in images:
        if is_tiff(path) and read_header(path) is None:
            continue  # damaged: its own error, beside which others are predicted
        if not is_map(path):
            raise ValueError(
                f"{options}: {path} is no map (a TIFF with a georeference); give maps alone, or leave {options} out"
            )
        header = read_header(path)
        if vector is None or header is None:
            continue
        if header.crs is None or header.transform.is_identity:
            lacking = "no reference system (CRS)" if header.crs is None else "a reference system, but no transform"
            raise ValueError(
                f"--vector {vector}: {path} has {lacking}, so that polygons have no place; give it one "
                "(rio edit-info --crs EPSG:32632 FILE), or leave --vector out"
            )
        if vector == "geojson" and _epsg(header.crs) is None:
            raise ValueError(
                f"--vector geojson: {path} has a reference system without an EPSG number, by which GeoJSON names it; "
                "use --vector gpkg"
            )


def write_polygons(labels: Path, target: Path, space: LabelSpace, fingerprint: str = "") -> None:
    """Writes the polygons of a label map; what is ignored there has none.

    Args:
        fingerprint: that of the label map, by which a later run knows whose they are.

    Raises:
        ValueError: too many corners, or a label map that cannot be read.
        OSError: the file cannot be written.
    """
    with opened_raster(labels) as opened:
        corners = _count_corners(opened)
        if corners > MOST_CORNERS:
            raise ValueError(
                f"{labels}: its patches have {corners:,} corners, more than {MOST_CORNERS:,}, and their polygons may "
                f"take more than 2 GB of memory; the label map is there: trace it on the disk (gdal_polygonize.py "
                f"{labels} {target.name}), or predict the map in parts"
            )
        crs = opened.crs
        system = ReferenceSystem(_epsg(crs), crs.to_wkt(version="WKT1_GDAL"), _name_of(crs))
        write_vector(target, _polygons(opened, space), system, fingerprint)


def _polygons(opened: Any, space: LabelSpace) -> Iterator[LabelPolygon]:
    rasterio = import_rasterio()
    from rasterio.features import shapes

    entry_of = {label_id: entry for entry in space.classes for label_id in entry.label_ids}
    for shape, value in shapes(rasterio.band(opened, 1), connectivity=4, transform=opened.transform):
        label_id = int(value)
        if label_id not in entry_of:
            continue
        entry = entry_of[label_id]
        rings = tuple(shape["coordinates"])
        yield LabelPolygon(rings, label_id, entry.name, "#{:02x}{:02x}{:02x}".format(*entry.colour))


def _count_corners(opened: Any) -> int:
    """Points between four pixels at which the border of a patch turns or branches."""
    corners = 0
    for top in range(0, opened.height, _ROWS_AT_ONCE):
        # One row of the next strip: the corners between the two.
        rows = opened.read(1, window=((top, min(top + _ROWS_AT_ONCE + 1, opened.height)), (0, opened.width)))
        across, down = rows[:, 1:] == rows[:, :-1], rows[1:] == rows[:-1]
        flat = (across[1:] & across[:-1]) | (down[:, 1:] & down[:, :-1])
        corners += int(flat.size - np.count_nonzero(flat))
    return corners


def _epsg(crs: Any) -> int | None:
    """Its number; None for a system that is but similar to one of EPSG's."""
    number: int | None = crs.to_epsg(confidence_threshold=90)
    return number


def _name_of(crs: Any) -> str:
    first = str(crs.to_wkt(version="WKT1_GDAL")).partition('"')[2].partition('"')[0]
    return first or "reference system"
