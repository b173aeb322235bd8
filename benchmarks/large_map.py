"""Memory and time of a map of 20,000 x 20,000 pixels, predicted in blocks.

    python benchmarks/large_map.py [--side 20000] [--backbone tiny_vit8] [--crop 512] [--striped]

The map is made first. Goal: under 4 GB, model included. The backbone is random: what it predicts means nothing, and its
cost is that of a real one.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import rasterio
import torch
from measure import peak_kilobytes, report
from rasterio.transform import from_origin
from rasterio.windows import Window

from dinoseg.config.loading import load_config
from dinoseg.inference.maps import MapOutput, predict_map
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import build_segmenter


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--backbone", default="tiny_vit8")
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--striped", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*random.*")
    with tempfile.TemporaryDirectory() as folder:
        source, labels = Path(folder, "map.tif"), Path(folder, "labels.tif")
        _write_map(source, options.side, options.striped)
        before = peak_kilobytes()
        predictor = _predictor(options)
        started = time.monotonic()
        predict_map(predictor, source, MapOutput(labels, Path(folder, "overlay.png")))
        seconds = time.monotonic() - started
        with rasterio.open(source) as first, rasterio.open(labels) as second:
            assert (first.crs, first.transform, first.shape) == (second.crs, second.transform, second.shape)
        facts = {key: value for key, value in vars(options).items() if value is not None}
        report("predicting a map", seconds, "s", **facts)
        report("peak memory", peak_kilobytes() / 1e6, "GB", **facts)
        report("peak memory before", before / 1e6, "GB", **facts)
        report("file of label ids", labels.stat().st_size / 1e6, "MB", **facts)


def _write_map(path: Path, side: int, striped: bool) -> None:
    layout = {} if striped else {"tiled": True, "blockxsize": 512, "blockysize": 512}
    profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "compress": "deflate"}
    place = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_400_000, 0.1, 0.1)}
    generator = np.random.default_rng(0)
    with rasterio.open(path, "w", bigtiff="IF_SAFER", **profile, **place, **layout) as file:
        for top in range(0, side, 512):
            rows = min(512, side - top)
            # Smooth, as a photograph is: noise at every pixel would make files that no disk wants.
            coarse = generator.integers(0, 256, (3, rows // 64 + 1, side // 64 + 1), dtype=np.uint8)
            values = coarse.repeat(64, axis=1).repeat(64, axis=2)[:, :rows, :side]
            file.write(values, window=Window(0, top, side, rows))


def _predictor(options: argparse.Namespace) -> Predictor:
    config = load_config(
        [
            f"model.dino_hub={options.backbone}",
            "model.weights=none",
            f"eval.crop_size={options.crop}",
            f"eval.stride={options.crop}",
        ]
    )
    space = LabelSpace.build({index: f"class_{index}" for index in range(8)}, None, None, [])
    torch.manual_seed(0)
    return Predictor(build_segmenter(config, space.num_classes).eval(), space, config, torch.device("cpu"))


if __name__ == "__main__":
    main()
