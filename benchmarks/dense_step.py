"""What a training step and a prediction with the dense head cost, with features from the cache and without.

    python benchmarks/dense_step.py [--backbone dinov2_vits14] [--batch 2] [--size 288] [--scale 2] [--bf16]

Goals on two CPU cores at ViT-S: a dense step from the cache of 2 x 288 px at most 0.5 s; a prediction at most 1.3 times
the backbone's forward pass at the same scale.
"""

import argparse
import warnings
from contextlib import AbstractContextManager

import torch
from measure import interleaved, peak_kilobytes, report

from dinoseg.backbone import FeatureMap
from dinoseg.config.loading import load_config
from dinoseg.losses.pixel import PixelLoss
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.training.optim import build_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="dinov2_vits14")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=288)
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--head", choices=("dense", "linear"), default="dense")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    warnings.filterwarnings("ignore", message=".*random.*")
    torch.manual_seed(0)
    config = load_config(
        [
            f"model.dino_hub={options.backbone}",
            "model.weights=none",
            f"model.backbone_scale={options.scale}",
            f"decoder_head.type={options.head}",
        ]
    )
    segmenter = build_segmenter(config, options.classes).to(device)
    assert config.train.diceloss_weight is not None  # filled in when the config was loaded
    criterion = PixelLoss(ignore_index=255, diceloss_weight=config.train.diceloss_weight)
    optimizer = build_optimizer(segmenter, config.optimizer)
    shape = (options.batch, 3, options.size, options.size)
    image = torch.randn(shape, device=device)
    class_map = torch.randint(0, options.classes, (shape[0], *shape[2:]), device=device)
    with torch.no_grad():
        known = [FeatureMap(layer.map.clone(), layer.cls) for layer in segmenter.backbone(image)]

    def precision() -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16, enabled=options.bf16)

    def step(features: list[FeatureMap] | None) -> None:
        segmenter.train()
        with precision():
            output = segmenter(image, features)
        torch.stack(list(criterion(output, class_map).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def backbone() -> None:
        with torch.no_grad(), precision():
            segmenter.backbone(image)

    def predict() -> None:
        segmenter.eval()
        with torch.no_grad(), precision():
            segmenter.semantic_logits(image)

    functions = {
        "step from the cache": lambda: step(known),
        "step without": lambda: step(None),
        "backbone forward": backbone,
        "prediction": predict,
    }
    seconds = interleaved(functions, options.repeats)
    facts = vars(options)
    for name, value in seconds.items():
        report(name, value, "s", **facts)
    report("prediction / backbone forward", seconds["prediction"] / seconds["backbone forward"], "ratio", **facts)
    report(
        "step without / step from the cache", seconds["step without"] / seconds["step from the cache"], "ratio", **facts
    )
    flops = _step_flops(segmenter, image, known, criterion, class_map)
    report("operations of a step from the cache", flops / 1e9, "GFLOP", **facts)
    report("peak memory", peak_kilobytes() / 1e6, "GB", **facts)


def _step_flops(
    segmenter: Segmenter,
    image: torch.Tensor,
    features: list[FeatureMap],
    criterion: PixelLoss,
    class_map: torch.Tensor,
) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    segmenter.train()
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(criterion(segmenter(image, features), class_map).values())).sum().backward()
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
