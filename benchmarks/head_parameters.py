"""Parameters of the heads of several backbones, counted on models without memory.

python benchmarks/head_parameters.py [--classes 150] [--heads eomt pmt m2f]
"""

import argparse
import warnings

import torch
from measure import report

from dinoseg.config.loading import load_config
from dinoseg.models.segmenter import HEADS, build_segmenter

BACKBONES = (
    *(f"dinov3_vit{size}" for size in ("s16", "b16", "l16", "h16plus", "7b16")),
    *(f"dinov2_vit{size}14" for size in ("s", "b", "l", "g")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=["eomt", "pmt", "m2f"])
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*random.*")
    for backbone in BACKBONES:
        for head in options.heads:
            given = [f"decoder_head.type={head}", f"model.dino_hub={backbone}", "model.weights=none"]
            with torch.device("meta"):
                segmenter = build_segmenter(load_config(given), options.classes)
            own, backbones = (_millions(part) for part in (segmenter.head, segmenter.backbone))
            report("parameters of the head", own, "million", head=head, backbone=backbone, backbone_million=backbones)


def _millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


if __name__ == "__main__":
    main()
