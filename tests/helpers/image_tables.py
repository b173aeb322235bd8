"""Parquet files of images, as the Hub holds data sets."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from helpers.tiny import COLOURS

FILE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def encoded(values: np.ndarray, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def squares(count: int, seed: int, size: tuple[int, int] = (40, 32)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images whose colour tells the label id (0 to 2), and their masks."""
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        mask = (
            generator.integers(0, 3, (size[0] // 8, size[1] // 8), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        )
        noise = generator.integers(-15, 16, (*size, 3))
        pairs.append((np.clip(COLOURS[mask].astype(int) + noise, 0, 255).astype(np.uint8), mask))
    return pairs


def write_table(
    path: Path,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    names: Sequence[str | None] | None = None,
    columns: tuple[str, str] = ("image", "annotation"),
) -> Path:
    """A parquet file with row groups of two rows; ``names`` are what the images were called."""
    names = [None] * len(pairs) if names is None else names
    images = [{"bytes": encoded(image), "path": name} for (image, _), name in zip(pairs, names, strict=True)]
    masks = [{"bytes": encoded(mask), "path": None} for _, mask in pairs]
    arrays = [pyarrow.array(images, FILE), pyarrow.array(masks, FILE), pyarrow.array([0] * len(pairs))]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_arrays(arrays, names=[*columns, "scene_category"])
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path
