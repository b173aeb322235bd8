"""Maps: GeoTIFFs of any size, predicted block by block and written with the georeference that they were read with.

A block is predicted with a margin of the map around it, of which nothing is written: but for the border of the map, no
pixel is judged without what lies around it. Memory depends on the block, not on the map.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from dinoseg.data.regions import outside_as_ignored
from dinoseg.drawing.overlay import overlay
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace
from dinoseg.system.files import replaced_file

# Pixels of a side; the file is written in tiles of 512, of which a block has whole ones.
BLOCK = 2048
_TILE = 512
# What a picture is shown in, however large the map.
_LARGEST_OVERLAY = 2048
# Pixels that are read at once as a picture.
_LARGEST_PICTURE = 100_000_000
_KEPT_COMPRESSION = ("deflate", "lzw", "zstd", "packbits")
_FINGERPRINT = "dinoseg_fingerprint"


@dataclass(frozen=True)
class Block:
    """Rows and columns of a map: those that are written, and those that are read for them, each (start, end)."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    read_rows: tuple[int, int]
    read_columns: tuple[int, int]

    @property
    def inner(self) -> tuple[slice, slice]:
        """What is written, within what is read."""
        top, left = self.read_rows[0], self.read_columns[0]
        return (
            slice(self.rows[0] - top, self.rows[1] - top),
            slice(self.columns[0] - left, self.columns[1] - left),
        )


def is_map(path: Path) -> bool:
    """Whether a file is a TIFF with a georeference, or too large to be read whole; and rasterio is there to read it.

    Its header is read.
    """
    if path.suffix.lower() not in (".tif", ".tiff") or find_spec("rasterio") is None:
        return False
    rasterio = _rasterio()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path) as found:
                placed = found.crs is not None or not found.transform.is_identity
                return bool(placed or found.width * found.height > _LARGEST_PICTURE)
    except rasterio.errors.RasterioError:
        return False


def blocks(height: int, width: int, margin: int, block: int = BLOCK) -> Iterator[Block]:
    """The blocks of a map, row by row."""
    for top in range(0, height, block):
        for left in range(0, width, block):
            rows, columns = (top, min(top + block, height)), (left, min(left + block, width))
            yield Block(
                rows,
                columns,
                (max(rows[0] - margin, 0), min(rows[1] + margin, height)),
                (max(columns[0] - margin, 0), min(columns[1] + margin, width)),
            )


def map_holds(path: Path, fingerprint: str) -> bool:
    """Whether a label map of a map is there and carries this fingerprint."""
    if not path.is_file():
        return False
    rasterio = _rasterio()
    try:
        with rasterio.open(path) as found:
            return bool(found.tags().get(_FINGERPRINT) == fingerprint)
    except rasterio.errors.RasterioError:
        return False


@dataclass(frozen=True)
class MapOutput:
    """Where a predicted map goes.

    Attributes:
        labels: a GeoTIFF of label ids, with the nodata value where the map has none, and where it is ignored.
        overlay: a small picture of it.
        fingerprint: is written into the GeoTIFF.
    """

    labels: Path
    overlay: Path
    fingerprint: str | None = None


def predict_map(
    predictor: Predictor,
    source: Path,
    output: MapOutput,
    advance: Callable[[], None] = lambda: None,
    block: int = BLOCK,
) -> None:
    """Predicts a map; its files appear whole or not at all.

    Args:
        advance: called after each block.

    Raises:
        ValueError: no map that is read, or label ids that a GeoTIFF does not hold.
        OSError: an output cannot be written.
    """
    rasterio, space = _rasterio(), predictor.label_space
    resized = predictor.resized_to
    if resized is not None:
        raise ValueError(
            f"{source}: transforms.eval.img_size={resized} is of whole images, and a map is predicted in blocks; add "
            "transforms.eval.img_size=null"
        )
    if space.kind == "colours":
        raise ValueError(f"{source}: maps are written as label ids, but this run has colours; train it on label ids")
    try:
        with rasterio.open(source) as opened, replaced_file(output.labels) as temporary:
            with rasterio.open(temporary, "w", **_profile(opened, space)) as written:
                small = _predict_blocks(predictor, opened, written, advance, block)
                if output.fingerprint is not None:
                    written.update_tags(**{_FINGERPRINT: output.fingerprint})
                _describe(written, space)
            bands = _bands(opened)
            reduced = opened.read(bands, out_shape=(len(bands), *small.shape))
            shown = _exposures(opened, reduced, predictor.white_levels[:1]).shown
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"{source}: cannot be read as a map ({error})") from error
    with replaced_file(output.overlay) as temporary:
        overlay(shown, small, space).save(temporary)


def _predict_blocks(
    predictor: Predictor, opened: Any, written: Any, advance: Callable[[], None], block: int
) -> Integer[np.ndarray, "height width"]:
    """Writes every block; returns every few pixels of the class map."""
    window = _rasterio().windows.Window
    space, height, width = predictor.label_space, opened.height, opened.width
    step = max(1, -(-max(height, width) // _LARGEST_OVERLAY))
    small = np.full((-(-height // step), -(-width // step)), space.ignore_index, np.uint16)
    for part in blocks(height, width, predictor.context, block):
        place = window.from_slices(part.read_rows, part.read_columns)
        values = opened.read(_bands(opened), window=place)
        picture = _exposures(opened, values, predictor.white_levels)
        inside = opened.dataset_mask(window=place) > 0
        class_map = outside_as_ignored(predictor.predict(picture).class_map, inside, space)[part.inner]
        written.write(space.decode(class_map), 1, window=window.from_slices(part.rows, part.columns))
        top, left = (-part.rows[0] % step, -part.columns[0] % step)
        kept = class_map[top::step, left::step]
        row, column = -(-part.rows[0] // step), -(-part.columns[0] // step)
        small[row : row + kept.shape[0], column : column + kept.shape[1]] = kept
        advance()
    return small


def _bands(opened: Any) -> list[int]:
    """What is shown of a map: its first three bands, or its one."""
    return [1, 2, 3] if opened.count >= 3 else [1]


def _exposures(opened: Any, values: np.ndarray, white_levels: tuple[int | None, ...]) -> Exposures:
    """Bands (band, height, width) as RGB, for each white level."""
    pixels = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    return Exposures.of(np.ascontiguousarray(pixels), white_levels, opened.name)


def _profile(opened: Any, space: LabelSpace) -> dict[str, Any]:
    """How the label map is stored: as the map, in tiles, compressed."""
    nothing = space.decode(np.array([[space.ignore_index]]))
    compression = str(opened.profile.get("compress") or "").lower()
    return {
        "driver": "GTiff",
        "height": opened.height,
        "width": opened.width,
        "count": 1,
        "dtype": nothing.dtype.name,
        "crs": opened.crs,
        "transform": opened.transform,
        "nodata": int(nothing[0, 0]),
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "compress": compression if compression in _KEPT_COMPRESSION else "deflate",
        "bigtiff": "IF_SAFER",
    }


def _describe(written: Any, space: LabelSpace) -> None:
    """Names and colours of the classes, as other tools show them."""
    written.update_tags(1, **{f"class_{entry.label_ids[0]}": entry.name for entry in space.classes})
    if written.dtypes[0] == "uint8":
        colours = {label_id: (*entry.colour, 255) for entry in space.classes for label_id in entry.label_ids}
        written.write_colormap(1, colours)


def _rasterio() -> Any:
    import rasterio
    import rasterio.errors
    import rasterio.windows

    return rasterio
