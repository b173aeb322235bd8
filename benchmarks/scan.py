"""Time of ``dinoseg check``'s scan over masks as large as photographs. Prints one JSON line per figure.

    python benchmarks/scan.py [--masks 1000] [--size 1024] [--images]

Writes ``masks`` index masks (smooth blobs of eight classes, PNG) into a temporary folder, scans them cold and again
from the cache. ``--images`` adds a JPEG photograph of the same size to every mask, all of which are decoded too.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from dinoseg.check.scan import ScanCache, scan_pairs
from dinoseg.data.pairs import Pair

DIFFERENT = 20


def write_pairs(folder: Path, count: int, size: int, images: bool) -> list[Pair]:
    """``count`` pairs; the files repeat after ``DIFFERENT``, which the scan does not know."""
    generator = np.random.default_rng(0)
    pairs = []
    for index in range(count):
        mask, image = folder / f"{index}.png", folder / f"{index}.jpg"
        if index < DIFFERENT:
            noise = generator.random((8, size // 32, size // 32)).astype(np.float32)
            planes = [Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC) for plane in noise]
            Image.fromarray(np.stack(planes).argmax(axis=0).astype(np.uint8)).save(mask)
            texture = generator.integers(0, 256, (size // 4, size // 4, 3), dtype=np.uint8)
            side = size if images else 16
            Image.fromarray(texture).resize((side, side)).save(image, quality=90)
        else:
            shutil.copy(folder / f"{index % DIFFERENT}.png", mask)
            shutil.copy(folder / f"{index % DIFFERENT}.jpg", image)
        pairs.append(Pair(str(index), image, mask))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the scan of a data set.")
    parser.add_argument("--masks", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--images", action="store_true", help="full-size images too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pairs = write_pairs(Path(name), options.masks, options.size, options.images)
        for state in ("cold", "cached"):
            start = time.perf_counter()
            scan_pairs(pairs, cache=ScanCache(Path(name, "cache.json")))
            seconds = round(time.perf_counter() - start, 3)
            figure = {"benchmark": "scan", "state": state, "seconds": seconds, "cores": os.cpu_count()}
            print(json.dumps(figure | vars(options)))


if __name__ == "__main__":
    main()
