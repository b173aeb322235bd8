"""Maps: GeoTIFFs of any size, predicted block by block and written with the georeference that they were read with.

A block is predicted with a margin of the map around it, of which nothing is written: but for the border of the map, no
pixel is judged without what lies around it. Memory depends on the block, not on the map.
"""

import errno
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from dinoseg.data.bands import shown_picture
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.raster_pictures import raster_picture
from dinoseg.data.rasters import (
    Area,
    Inside,
    has_rasterio,
    import_rasterio,
    opened_raster,
    read_header,
)
from dinoseg.data.regions import outside_as_ignored
from dinoseg.drawing.overlay import overlay
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.fingerprint import png_text
from dinoseg.inference.map_blocks import BLOCK, TILE, blocks, write_errors
from dinoseg.inference.map_probabilities import FINGERPRINT, MapProbabilities, ProbabilityRasters
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace
from dinoseg.system.files import replaced_file

# What a picture is shown in, however large the map.
_LARGEST_OVERLAY = 2048
# Pixels that are read at once as a picture.
_LARGEST_PICTURE = 100_000_000
_KEPT_COMPRESSION = ("deflate", "lzw", "zstd", "packbits")


def is_map(path: Path) -> bool:
    """Whether a file is a TIFF with a georeference, or too large to be read whole; and rasterio is there to read it.

    Its header is read.
    """
    header = read_header(path) if has_rasterio() else None
    return header is not None and (header.is_placed or header.size[0] * header.size[1] > _LARGEST_PICTURE)


def count_blocks(path: Path) -> int:
    """In how many blocks a map is predicted."""
    header = read_header(path)
    return 1 if header is None else sum(1 for _ in blocks(*header.size, 0))


def map_holds(path: Path, fingerprint: str) -> bool:
    """Whether a label map of a map is there and carries this fingerprint."""
    if not path.is_file():
        return False
    try:
        with opened_raster(path) as found:
            return bool(found.tags().get(FINGERPRINT) == fingerprint)
    except ValueError:
        return False


def is_foreign_map(path: Path) -> bool:
    """Whether a file is there that holds something and was not written by a prediction of a map."""
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        with opened_raster(path) as found:
            return FINGERPRINT not in found.tags()
    except ValueError:
        return True


@dataclass(frozen=True)
class MapOutput:
    """Where a predicted map goes.

    Attributes:
        labels: a GeoTIFF of label ids, with the nodata value where the map has none, and where it is ignored.
        overlay: a small picture of it.
        fingerprint: is written into all of them.
        probabilities: GeoTIFFs of probabilities, where they are wanted.
        overviews: it gets smaller copies within, by which viewers draw it at once.
        polygons: a GeoPackage or GeoJSON file, where one is wanted.
    """

    labels: Path
    overlay: Path
    fingerprint: str | None = None
    overviews: bool = False
    polygons: Path | None = None
    probabilities: MapProbabilities | None = None


def predict_map(
    predictor: Predictor,
    source: Path,
    output: MapOutput,
    advance: Callable[[], None] = lambda: None,
    block: int = BLOCK,
) -> None:
    """Predicts a map; label map and overlay appear whole or not at all.

    Args:
        advance: called after each block.

    Raises:
        ValueError: no map that is read, or label ids that a GeoTIFF does not hold.
        OSError: an output cannot be written.
    """
    rasterio, space = import_rasterio(), predictor.label_space
    resized = predictor.resized_to
    if resized is not None:
        raise ValueError(
            f"{source}: transforms.eval.img_size={resized} is of whole images, and a map is predicted in blocks; add "
            "transforms.eval.img_size=null"
        )
    if space.kind == "colours":
        raise ValueError(f"{source}: maps are written as label ids, but this run has colours; train it on label ids")
    header = read_header(source)
    if header is not None and header.colours:
        raise ValueError(f"{source}: a map in {header.colours}, which is not read; save it as RGB or grey")
    with opened_raster(source) as opened, replaced_file(output.labels) as temporary:
        temporary.touch()  # says what is wrong with the folder in words
        profile = _profile(opened, space)
        beside = nullcontext() if output.probabilities is None else output.probabilities.opened(profile, space)
        with (
            beside as rasters,
            write_errors(output.labels),
            rasterio.open(temporary, "w", **profile) as written,
        ):
            # Before the pixels: a TIFF that holds some cannot be told any more that its values have colours.
            _describe(written, space)
            small, checksum = _predict_blocks(predictor, opened, (written, rasters), advance, block)
            if output.fingerprint is not None:
                written.update_tags(**{FINGERPRINT: output.fingerprint})
        _refuse_unwritten(temporary, output.labels, checksum, block)
        if output.overviews:
            _build_overviews(temporary, output.labels)
        whole = Area((0, opened.height), (0, opened.width))
        shown = shown_picture(raster_picture(opened, whole, predictor.forms[0], (small.shape[0], small.shape[1]))[0])
    with replaced_file(output.overlay) as temporary:
        overlay(shown, small, space).save(temporary, pnginfo=png_text(output.fingerprint))


def add_overviews(labels: Path) -> bool:
    """Gives a finished label map overviews, unless it has some; it changes at once or not at all.

    Returns:
        Whether it had none.

    Raises:
        OSError: it cannot be written.
    """
    with opened_raster(labels) as found:
        if found.overviews(1):
            return False
    with replaced_file(labels) as temporary:
        shutil.copyfile(labels, temporary)
        _build_overviews(temporary, labels)
    return True


def _build_overviews(path: Path, named: Path) -> None:
    """Halves until the longer side fits a tile; ``named`` is what messages call the file."""
    rasterio = import_rasterio()
    with write_errors(named), rasterio.open(path, "r+") as written:
        longest = max(written.shape)
        # One at least: by it a later run knows that they were made.
        factors = [2**power for power in range(1, 32) if power == 1 or longest > TILE * 2 ** (power - 1)]
        # Label ids have no mean.
        written.build_overviews(factors, rasterio.enums.Resampling.nearest)
    with write_errors(named):
        with rasterio.open(path) as found:
            missing = found.overviews(1) != factors
        for level in range(0 if missing else len(factors)):
            _checksum(path, BLOCK, level)
    if missing:
        raise OSError(errno.EIO, "its overviews cannot be read back; is the disk full?", str(named))


def _predict_blocks(
    predictor: Predictor,
    opened: Any,
    targets: tuple[Any, ProbabilityRasters | None],
    advance: Callable[[], None],
    block: int,
) -> tuple[Integer[np.ndarray, "height width"], int]:
    """Writes every block; returns every few pixels of the class map, and a checksum of all label ids.

    Args:
        targets: the label map, and the rasters of probabilities where they are wanted.
    """
    written, rasters = targets
    window = import_rasterio().windows.Window
    space, height, width = predictor.label_space, opened.height, opened.width
    step = max(1, -(-max(height, width) // _LARGEST_OVERLAY))
    small, checksum = np.full((-(-height // step), -(-width // step)), space.ignore_index, np.uint16), 0
    for part in blocks(height, width, predictor.context, block):
        with _read_errors(opened):
            picture, inside = _read(opened, Area(part.read_rows, part.read_columns), predictor.forms)
        if rasters is None:
            prediction = predictor.predict(picture)
        else:
            prediction = predictor.judge(picture, rasters.reader(part, inside))
        class_map = outside_as_ignored(prediction.class_map, inside, space)[part.inner]
        labels = space.decode(class_map)
        written.write(labels, 1, window=window.from_slices(part.rows, part.columns))
        checksum = zlib.crc32(np.ascontiguousarray(labels).tobytes(), checksum)
        top, left = (-part.rows[0] % step, -part.columns[0] % step)
        kept = class_map[top::step, left::step]
        row, column = -(-part.rows[0] // step), -(-part.columns[0] // step)
        small[row : row + kept.shape[0], column : column + kept.shape[1]] = kept
        advance()
    return small, checksum


def _read(opened: Any, area: Area, forms: Sequence[PictureForm]) -> tuple[Exposures, Inside]:
    """An area as every run reads it, and where all of them find data."""
    found = {form: raster_picture(opened, area, form) for form in forms}
    known = np.logical_and.reduce([inside for _, inside in found.values()])
    return Exposures({form: picture for form, (picture, _) in found.items()}), known


def _checksum(path: Path, block: int, level: int | None = None) -> int:
    """Of a label map, or of one of its overviews, read block by block."""
    rasterio = import_rasterio()
    checksum = 0
    with rasterio.open(path, **({} if level is None else {"overview_level": level})) as written:
        for part in blocks(written.height, written.width, 0, block):
            window = rasterio.windows.Window.from_slices(part.rows, part.columns)
            checksum = zlib.crc32(written.read(1, window=window).tobytes(), checksum)
    return checksum


def _refuse_unwritten(path: Path, named: Path, checksum: int, block: int) -> None:
    """Raises OSError unless a label map can be read back: GDAL says nothing of a disk that is full when a file ends."""
    with write_errors(named):
        found = _checksum(path, block)
    if found != checksum:
        raise OSError(errno.EIO, "cannot be read back as it was written; is the disk full?", str(named))


@contextmanager
def _read_errors(opened: Any) -> Iterator[None]:
    try:
        yield
    except import_rasterio().errors.RasterioError as error:
        reason = error.__cause__ or error
        raise ValueError(f"{opened.name}: truncated or damaged ({reason}); replace or remove the file") from error


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
        "blockxsize": TILE,
        "blockysize": TILE,
        "compress": compression if compression in _KEPT_COMPRESSION else "deflate",
        "bigtiff": "IF_SAFER",
    }


def _describe(written: Any, space: LabelSpace) -> None:
    """Names and colours of the classes, as other tools show them."""
    written.update_tags(1, **{f"class_{entry.label_ids[0]}": entry.name for entry in space.classes})
    if written.dtypes[0] == "uint8":
        colours = {label_id: (*entry.colour, 255) for entry in space.classes for label_id in entry.label_ids}
        written.write_colormap(1, colours)
