"""Probabilities of a map: GeoTIFFs with a band a class, or of the largest alone, written while a block is predicted.

Of a block no more than 512 rows are held, which fill tiles of the file.
"""

import errno
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from dinoseg.data.rasters import import_rasterio
from dinoseg.inference.judged_rows import JudgedRows, OnRows
from dinoseg.inference.map_blocks import TILE, Block, write_errors
from dinoseg.inference.pixel_maps import as_bytes, rounded
from dinoseg.labels import LabelSpace
from dinoseg.system.files import replaced_file

FINGERPRINT = "dinoseg_fingerprint"


@dataclass(frozen=True)
class MapProbabilities:
    """Where the probabilities of a map go; None where they are not wanted.

    Attributes:
        every: float32, a band a class; NaN where the map has no data.
        confidence: the largest, 1..255 of 8 bits for up to 1; 0 where the map has no data.
        fingerprint: is written into both.
    """

    every: Path | None
    confidence: Path | None
    fingerprint: str | None = None

    @property
    def paths(self) -> list[Path]:
        """Those that are wanted."""
        return [path for path in (self.every, self.confidence) if path is not None]

    @contextmanager
    def opened(self, profile: dict[str, Any], label_space: LabelSpace) -> Iterator["ProbabilityRasters"]:
        """Files to be filled, which appear at the end of the block, whole.

        Args:
            profile: of the label map, whose grid, tiles and compression they share.

        Raises:
            OSError: one of them cannot be written.
        """
        with ExitStack() as stack:
            rasters = []
            if self.every is not None:
                of_classes = {"count": label_space.num_classes, "dtype": "float32", "nodata": float("nan")}
                rasters.append((self.every, profile | of_classes | {"interleave": "band"} | _predictor(profile)))
            if self.confidence is not None:
                rasters.append((self.confidence, profile | {"count": 1, "dtype": "uint8", "nodata": 0}))
            targets = [stack.enter_context(_written_raster(path, form, self.fingerprint)) for path, form in rasters]
            every = targets.pop(0) if self.every is not None else None
            confidence = targets.pop(0) if self.confidence is not None else None
            if every is not None:
                _describe_bands(every.file, label_space)
            if confidence is not None:
                confidence.file.scales = (1 / 255,)
            yield ProbabilityRasters(every, confidence)


@dataclass
class _Target:
    """A raster that is open for writing, and what was written: places with checksums."""

    file: Any
    path: Path
    parts: list[tuple[Any, int]] = field(default_factory=list)

    def write(self, values: Shaped[np.ndarray, "bands rows columns"], top: int, left: int) -> None:
        window = import_rasterio().windows.Window(left, top, values.shape[2], values.shape[1])
        with write_errors(self.path):
            self.file.write(values, window=window)
        self.parts.append((window, zlib.crc32(np.ascontiguousarray(values).tobytes())))


@dataclass(frozen=True)
class ProbabilityRasters:
    """The files of one map while they are written."""

    every: _Target | None
    confidence: _Target | None

    def reader(self, part: Block, inside: Bool[np.ndarray, "height width"]) -> OnRows:
        """What takes the rows of a block as it is read, and writes those within.

        Args:
            inside: where the map has data.
        """
        rows, columns = part.inner
        held: list[tuple[Any, Any]] = []
        written = part.rows[0]

        def flush() -> None:
            nonlocal written
            for target, place in ((self.every, 0), (self.confidence, 1)):
                if target is not None:
                    target.write(np.concatenate([values[place] for values in held], axis=1), written, part.columns[0])
            written += sum(values[1].shape[1] for values in held)
            held.clear()

        def take(judged: JudgedRows) -> None:
            first, last = max(judged.first, rows.start), min(judged.last, rows.stop)
            while first < last:
                # Up to the next border of tiles.
                border = rows.start + ((first - rows.start) // TILE + 1) * TILE
                until = min(last, border)
                held.append(self._cut(judged, slice(first, until), columns, inside))
                if until == border or until == rows.stop:
                    flush()
                first = until

        return take

    def _cut(
        self, judged: JudgedRows, rows: slice, columns: slice, inside: Bool[np.ndarray, "height width"]
    ) -> tuple[Any, Any]:
        """Probabilities and confidence of some rows, with nothing where the map has no data."""
        within = slice(rows.start - judged.first, rows.stop - judged.first)
        known = inside[rows, columns]
        probabilities = judged.probabilities[:, within, columns]
        every = None
        if self.every is not None:
            largest = judged.largest
            every = rounded(probabilities, None if largest is None else largest[within, columns])
            every[:, ~known] = np.nan
        confidence = np.where(known, as_bytes(probabilities.amax(dim=0).cpu().numpy()), 0).astype(np.uint8)[None]
        return every, confidence


@contextmanager
def _written_raster(path: Path, profile: dict[str, Any], fingerprint: str | None) -> Iterator[_Target]:
    rasterio = import_rasterio()
    with replaced_file(path) as temporary:
        temporary.touch()  # says what is wrong with the folder in words
        with write_errors(path), rasterio.open(temporary, "w", **profile) as file:
            target = _Target(file, path)
            yield target
            file.update_tags(**({} if fingerprint is None else {FINGERPRINT: fingerprint}))
        # GDAL says nothing of a disk that is full when a file ends.
        with write_errors(path), rasterio.open(temporary) as found:
            whole = all(zlib.crc32(found.read(window=window).tobytes()) == known for window, known in target.parts)
        if not whole:
            raise OSError(errno.EIO, "cannot be read back as it was written; is the disk full?", str(path))


def _describe_bands(file: Any, label_space: LabelSpace) -> None:
    """Which band is which class, as other tools show it."""
    for band, entry in enumerate(label_space.classes, start=1):
        file.set_band_description(band, entry.name)
        file.update_tags(band, label_id=entry.label_ids[0])


def _predictor(profile: dict[str, Any]) -> dict[str, Any]:
    """What makes floating-point numbers compress, where the compression knows it."""
    return {"predictor": 3} if profile["compress"] in ("deflate", "lzw", "zstd") else {}
