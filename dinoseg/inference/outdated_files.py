"""What earlier calls of ``predict`` left beside a label map that another one takes the place of."""

from collections.abc import Callable, Collection
from pathlib import Path

from dinoseg.data.rasters import has_rasterio
from dinoseg.drawing.qgis_style import is_foreign_style
from dinoseg.inference.fingerprint import is_foreign
from dinoseg.inference.maps import is_foreign_map
from dinoseg.inference.probability_files import is_foreign_probabilities
from dinoseg.inference.probability_options import CONFIDENCE, PROBABILITIES
from dinoseg.inference.vector_files import is_foreign_vector


def remove_outdated(out: Path, name: str, written: Collection[Path]) -> None:
    """Removes probabilities, confidence, polygons and styles of the label map before; files of others stay.

    Args:
        out: the output folder.
        name: of the label map, without suffix.
        written: files that are made anew with it.

    Raises:
        OSError: one cannot be removed.
    """
    for path, foreign in _beside(out, name):
        if path not in written and path.is_file() and not foreign(path):
            path.unlink()


def _beside(out: Path, name: str) -> list[tuple[Path, Callable[[Path], bool]]]:
    """Files that may lie there, and what tells those of others."""
    found: list[tuple[Path, Callable[[Path], bool]]] = [
        (out / PROBABILITIES / f"{name}.npz", is_foreign_probabilities),
        (out / CONFIDENCE / f"{name}.png", is_foreign),
        (out / "vectors" / f"{name}.gpkg", is_foreign_vector),
        (out / "vectors" / f"{name}.geojson", is_foreign_vector),
    ]
    found += [(out / folder / f"{name}.qml", is_foreign_style) for folder in ("labels", "vectors")]
    if has_rasterio():
        found += [(out / folder / f"{name}.tif", is_foreign_map) for folder in (PROBABILITIES, CONFIDENCE)]
    return found
