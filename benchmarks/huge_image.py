"""Peak memory of predicting a huge image, beyond the model and the image: windows, accumulation, resizing, argmax.

    python benchmarks/huge_image.py [--head m2f --height 3648 --width 5472 --classes 150 --mode slide --unstriped]

ViT-S/14 with random weights. Goal: under 4 GB at these defaults, with either head. ``--unstriped`` predicts once more
without stripes, whatever memory that takes, and counts the pixels that differ; the goal is none.
"""

import argparse
import time

import torch
from measure import peak_kilobytes, report

from dinoseg.config.loading import load_config
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.resampling import argmax_classes
from dinoseg.inference.windows import infer_scores, predict_class_map
from dinoseg.models.segmenter import Segmenter, build_segmenter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", choices=("linear", "m2f"), default="linear")
    parser.add_argument("--mode", choices=("slide", "whole"), default="slide")
    for name, default in (("height", 3648), ("width", 5472), ("classes", 150), ("crop", 518), ("stride", 345)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--unstriped", action="store_true")
    options = parser.parse_args()
    segmenter = build(options.head, options.classes)
    image = torch.randn(3, options.height, options.width)
    crop, stride = (options.crop,) * 2, (options.stride,) * 2
    policy = WindowPolicy(options.mode, crop, stride)
    before, started = peak_kilobytes(), time.perf_counter()
    class_map = predict_class_map(segmenter, image, policy)
    seconds = time.perf_counter() - started
    gigabytes = (peak_kilobytes() - before) * 1024 / 1e9
    found = {"classes_found": len(class_map.unique())}  # a map of one class would prove nothing
    facts = found | {name: getattr(options, name) for name in ("head", "mode", "height", "width", "classes")}
    report("peak memory of a huge image", gigabytes, "GB", goal="< 4", seconds=round(seconds, 1), **facts)
    if options.unstriped:
        differing = int((argmax_classes(infer_scores(segmenter, image, policy)) != class_map).sum())
        report("pixels that differ without stripes", differing, "pixels", goal="0", **facts)


def build(head: str, num_classes: int) -> Segmenter:
    """ViT-S/14 and a head, all with random weights."""
    overrides = [
        "datasets.root=.",
        "model.dino_hub=dinov2_vits14",
        "model.weights=none",
        f"decoder_head.type={head}",
    ]
    torch.manual_seed(0)
    return build_segmenter(load_config(overrides), num_classes).eval()


if __name__ == "__main__":
    main()
