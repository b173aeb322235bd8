"""GeoTIFFs that several tests use."""

from pathlib import Path
from typing import Any

import numpy as np

from helpers.tiny import COLOURS

PLACE = {"crs": "EPSG:32632"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "striped": {},
    "tiled": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "compressed": {"compress": "lzw"},
    "BigTIFF": {"bigtiff": "YES"},
    "zstd": {"compress": "zstd", "tiled": True, "blockxsize": 32, "blockysize": 32},
}


def write_raster(path: Path, values: np.ndarray, **profile: Any) -> Path:
    """A GeoTIFF of values (height, width) or (band, height, width), in pixels of half a metre."""
    import rasterio
    from rasterio.transform import from_origin

    values = values[None] if values.ndim == 2 else values
    size = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype.name}
    place = PLACE | {"transform": from_origin(500_000, 5_400_000, 0.5, 0.5)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **(place | size | profile)) as file:
        file.write(values)
    return path


def write_map_pair(
    folder: Path, name: str = "map", size: tuple[int, int] = (200, 270), seed: int = 3, **profile: Any
) -> tuple[np.ndarray, np.ndarray]:
    """``images/NAME.tif`` and ``masks/NAME.tif``: squares whose colour tells the label id (0 to 2); their values."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 3, (-(-size[0] // 20), -(-size[1] // 20)), dtype=np.uint8)
    mask = coarse.repeat(20, axis=0).repeat(20, axis=1)[: size[0], : size[1]]
    noise = generator.integers(-15, 16, (*size, 3))
    image = np.clip(COLOURS[mask].astype(int) + noise, 1, 255).astype(np.uint8)
    write_raster(folder / "images" / f"{name}.tif", np.moveaxis(image, -1, 0), **profile)
    write_raster(folder / "masks" / f"{name}.tif", mask, **profile)
    return image, mask
