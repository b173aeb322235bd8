"""A frozen ViT's forward pass in bfloat16 on a CPU: attention by blocks of rows against PyTorch's, a JSON line a size.

    python benchmarks/attention.py [--weights dinov2_vits14.safetensors] [--repeats 5]

``error`` is the relative error of the last layer's features against a pass in float32: by blocks, and PyTorch's.
"""

import argparse
from contextlib import nullcontext

import torch
from measure import interleaved, report
from torch import Tensor

from dinoseg.backbone import Backbone, build_backbone
from dinoseg.backbone import backbone as backbone_module
from dinoseg.backbone.attention import quick_attention

# Of CamVid at its own size and at 1.5 times, and of DRIVE at twice its size.
SIZES = ((360, 480), (540, 720), (1168, 1130))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", default="none")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    backbone = build_backbone("dinov2_vits14", options.weights).eval()
    for height, width in SIZES:
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 4 - 2

        def forward(by_blocks: bool, image: Tensor = image) -> Tensor:
            return _features(backbone, image, by_blocks)

        seconds = interleaved({"blocks": lambda: forward(True), "pytorch": lambda: forward(False)}, options.repeats)
        with torch.no_grad():
            exact = backbone(image)[-1].map
        errors = [round(((forward(way) - exact).norm() / exact.norm()).item(), 4) for way in (True, False)]
        report(
            "PyTorch's time over that by blocks",
            seconds["pytorch"] / seconds["blocks"],
            "ratio",
            size=f"{height} x {width}",
            seconds={name: round(value, 3) for name, value in seconds.items()},
            error=errors,
        )


def _features(backbone: Backbone, image: Tensor, by_blocks: bool) -> Tensor:
    backbone_module.quick_attention = quick_attention if by_blocks else lambda image: nullcontext()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return backbone(image)[-1].map.float()


if __name__ == "__main__":
    main()
