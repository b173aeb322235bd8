"""What bands beyond red, green and blue give, where one class shows in none of these. Prints one JSON line per choice.

    python benchmarks/bands.py --weights FILE [--steps 60]

Twenty pictures of 13 bands and 16 bits are drawn: smooth noise, of which one class is brighter in bands 2 to 4 and
another in band 8 alone. A linear head on DINOv2 ViT-S/14 is trained with each choice, on crops of 70 px; ``--weights``
is the file of the backbone, ``none`` a random one. IoU is of the whole validation images.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rich.console import Console
from scipy.ndimage import gaussian_filter

import dinoseg

SIZE = 140
CHOICES = {
    "red, green, blue": ["datasets.bands=[4,3,2]", "model.train_bands=true"],
    "and band 8, mean": ["datasets.bands=[4,3,2,8]"],
    "and band 8, copy": ["datasets.bands=[4,3,2,8]", "model.band_weights=copy"],
    "and band 8, zero": ["datasets.bands=[4,3,2,8]", "model.band_weights=zero"],
    "and band 8, mean, not trained": ["datasets.bands=[4,3,2,8]", "model.train_bands=false"],
    "all 13, mean": ["datasets.bands=[1,2,3,4,5,6,7,8,9,10,11,12,13]"],
}


def write_data(root: Path) -> None:
    """The pictures and masks."""
    generator = np.random.default_rng(0)

    def smooth(deviation: float) -> np.ndarray:
        return gaussian_filter(generator.standard_normal((SIZE, SIZE)), deviation)

    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            bands = np.stack([smooth(3) * 600 + 2000 + 100 * band for band in range(13)])
            bands += generator.normal(0, 80, bands.shape)
            seen, hidden = (field > np.percentile(field, 75) for field in (smooth(10), smooth(10)))
            bands[1:4, seen] += 900
            bands[7, hidden] += 1500
            profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "count": 13, "dtype": "uint16"}
            with rasterio.open(root / split / "images" / f"{number}.tif", "w", **profile) as written:
                written.write(bands.clip(0, 65535).astype(np.uint16))
            mask = np.where(hidden, 2, seen).astype(np.uint8)
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Bands beyond red, green and blue.")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_data(root / "data")
        common = [f"datasets.root={root / 'data'}", "model.dino_hub=dinov2_vits14", f"model.weights={options.weights}"]
        common += [
            "datasets.range=p0.1-p99.9",
            "transforms.train.crop_size=70",
            "eval.mode=whole",
            "bs=4",
            "device=cpu",
        ]
        common += [f"scheduler.total_iter={options.steps}", f"eval.eval_interval={options.steps}", "trackers=[]"]
        for number, (words, settings) in enumerate(CHOICES.items()):
            run = dinoseg.train([*common, f"output_dir={root / str(number)}", *settings], console=Console(quiet=True))
            found = json.loads((Path(run.path) / "metrics.jsonl").read_text().splitlines()[-1])
            print(json.dumps({"benchmark": "bands", "bands": words, "steps": options.steps, "mIoU": found["mIoU"]}))


if __name__ == "__main__":
    main()
