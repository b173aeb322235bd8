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
from torch.utils.flop_counter import FlopCounterMode

from dinoseg.backbone import FeatureMap
from dinoseg.config.loading import load_config
from dinoseg.losses.pixel import PixelLoss
from dinoseg.models.segmenter import build_segmenter
from dinoseg.training.optim import build_optimizer


def main() -> None:
    options = _options()
    warnings.filterwarnings("ignore", message=".*random.*")
    torch.manual_seed(0)
    work = Work(options)
    left, right = (torch.randn(2048, 2048, device=work.device) for _ in range(2))

    def multiply() -> None:
        with torch.no_grad(), work.precision():
            left @ right

    seconds = interleaved(
        {
            "step from the cache": lambda: work.step(work.known),
            "step without": lambda: work.step(None),
            "backbone forward": work.backbone,
            "prediction": work.predict,
            "product of 2048 x 2048": multiply,
        },
        options.repeats,
    )
    facts = vars(options)
    for name, value in seconds.items():
        report(name, value, "s", **facts)
    report("prediction / backbone forward", seconds["prediction"] / seconds["backbone forward"], "ratio", **facts)
    report(
        "step without / step from the cache", seconds["step without"] / seconds["step from the cache"], "ratio", **facts
    )
    operations = work.operations()
    report("operations of a step from the cache", operations / 1e9, "GFLOP", **facts)
    # What the step would take if all of it ran as fast as a large product of matrices.
    floor = operations * seconds["product of 2048 x 2048"] / (2 * 2048**3)
    report("step from the cache / floor of its operations", seconds["step from the cache"] / floor, "ratio", **facts)
    report("peak memory", peak_kilobytes() / 1e6, "GB", **facts)


class Work:
    """A head, one batch, and the features of it as a cache would give them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = options.bf16
        config = load_config(
            [
                f"model.dino_hub={options.backbone}",
                "model.weights=none",
                f"model.backbone_scale={options.scale}",
                f"decoder_head.type={options.head}",
            ]
        )
        self.segmenter = build_segmenter(config, options.classes).to(self.device)
        assert config.train.diceloss_weight is not None  # filled in when the config was loaded
        self.criterion = PixelLoss(ignore_index=255, diceloss_weight=config.train.diceloss_weight)
        self.optimizer = build_optimizer(self.segmenter, config.optimizer)
        shape = (options.batch, 3, options.size, options.size)
        self.image = torch.randn(shape, device=self.device)
        self.class_map = torch.randint(0, options.classes, (shape[0], *shape[2:]), device=self.device)
        with torch.no_grad():
            self.known = [FeatureMap(layer.map.clone(), layer.cls) for layer in self.segmenter.backbone(self.image)]

    def precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def step(self, features: list[FeatureMap] | None) -> None:
        self._loss(features).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backbone(self) -> None:
        with torch.no_grad(), self.precision():
            self.segmenter.backbone(self.image)

    def predict(self) -> None:
        self.segmenter.eval()
        with torch.no_grad(), self.precision():
            self.segmenter.semantic_logits(self.image)

    def operations(self) -> int:
        """Multiplications and additions of a step from the cache, without the optimiser's."""
        with FlopCounterMode(display=False) as counter:
            self._loss(self.known).backward()
        return counter.get_total_flops()

    def _loss(self, features: list[FeatureMap] | None) -> torch.Tensor:
        self.segmenter.train()
        with self.precision():
            output = self.segmenter(self.image, features)
        return torch.stack(list(self.criterion(output, self.class_map).values())).sum()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="dinov2_vits14")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=288)
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--head", choices=("dense", "linear"), default="dense")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
