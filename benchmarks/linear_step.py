"""How much a training step of the linear head costs beyond the backbone's forward pass.

    python benchmarks/linear_step.py [--backbone dinov3_vits16] [--batch 4] [--size 512] [--classes 19]

Goal: below 1.15 at ViT-S, 512 x 512, batch 4.
"""

import argparse
import warnings

import torch
from measure import interleaved, report

from dinoseg.config.loading import load_config
from dinoseg.losses.pixel import PixelLoss
from dinoseg.models.segmenter import build_segmenter
from dinoseg.training.optim import build_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="dinov3_vits16")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    warnings.filterwarnings("ignore", message=".*random.*")
    torch.manual_seed(0)
    config = load_config([f"model.dino_hub={options.backbone}", "model.weights=none"])
    segmenter = build_segmenter(config, options.classes).to(device).train()
    optimizer = build_optimizer(segmenter, config.optimizer)
    criterion = PixelLoss(ignore_index=255)
    image = torch.randn(options.batch, 3, options.size, options.size, device=device)
    class_map = torch.randint(0, options.classes, (options.batch, options.size, options.size), device=device)

    def step() -> None:
        loss = torch.stack(list(criterion(segmenter(image), class_map).values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def forward() -> None:
        segmenter.backbone(image)

    seconds = interleaved({"step": step, "backbone": forward}, options.repeats)
    facts = {"backbone": options.backbone, "batch": options.batch, "size": options.size, "classes": options.classes}
    report("backbone forward", seconds["backbone"], "s", **facts)
    report("training step", seconds["step"], "s", **facts)
    report("training step / backbone forward", seconds["step"] / seconds["backbone"], "ratio", goal="< 1.15", **facts)


if __name__ == "__main__":
    main()
