"""Small data sets of many bands, in which one class shows in one band alone."""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

SIZE = (40, 48)


def write_tiff(path: Path, values: np.ndarray, **profile: object) -> Path:
    """A TIFF of (band, height, width) values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", dtype=values.dtype, **options, **profile) as written:
        written.write(values)
    return path


def hidden_band(seed: int, bands: int = 13, shown: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Values (band, height, width) about 2000 and label ids: 1 where band ``shown`` alone is brighter, else 0."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(SIZE, np.uint8)
    top, left = generator.integers(0, SIZE[0] - 20), generator.integers(0, SIZE[1] - 20)
    mask[top : top + 20, left : left + 20] = 1
    values = generator.normal(2000, 60, (bands, *SIZE))
    values[shown - 1, mask == 1] += 1500
    return values, mask


def write_band_set(root: Path, kind: str = "tif", bands: int = 13, shown: int = 8) -> Path:
    """Two pictures of train and one each of val and test: ``tif`` (16 bits), ``npy`` (float32, bands last),
    ``grey`` (float32 TIFF of the shown band, divided by 1000) or ``grey16`` (PNG of the shown band)."""
    for number, split in enumerate(("train", "train", "val", "test")):
        values, mask = hidden_band(number, bands, shown)
        image = root / split / "images" / f"{split}_{number}"
        image.parent.mkdir(parents=True, exist_ok=True)
        if kind == "npy":
            np.save(image.with_suffix(".npy"), np.moveaxis(values, 0, -1).astype(np.float32))
        elif kind == "grey":
            Image.fromarray((values[shown - 1] / 1000).astype(np.float32)).save(image.with_suffix(".tif"))
        elif kind == "grey16":
            Image.fromarray(values[shown - 1].astype(np.uint16)).save(image.with_suffix(".png"))
        else:
            write_tiff(image.with_suffix(".tif"), values.astype(np.uint16))
        (root / split / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / split / "masks" / f"{split}_{number}.png")
    return root
