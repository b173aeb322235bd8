"""What a training step and a prediction of each head cost over the backbone's forward pass, in one run.

    python benchmarks/heads.py [--size S] [--side 512] [--batch 2] [--heads linear dense eomt pmt m2f] [--bf16]

A step is forward, loss, backward and optimiser; a prediction is the semantic map at the size of the image. Peak memory
of a step is that of tensors, on a GPU; on a CPU it is the process's, so each head is measured in one of its own. The
backbone is frozen, but for eomt, of whose step its training is a part.
"""

import argparse
import multiprocessing
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from measure import interleaved, peak_kilobytes, report
from torch import nn

from dinoseg.config.loading import load_config
from dinoseg.labels import LabelSpace
from dinoseg.losses.criterion import build_criterion
from dinoseg.models.segmenter import build_segmenter
from dinoseg.training.optim import build_optimizer

HEADS = ("linear", "dense", "eomt", "pmt", "m2f")


def main() -> None:
    options = _options()
    torch.manual_seed(0)
    works = {head: Work(head, options) for head in options.heads}
    functions: dict[str, Callable[[], object]] = {"backbone": next(iter(works.values())).backbone}
    for head, work in works.items():
        functions |= {f"{head} step": work.step, f"{head} prediction": work.predict}
    seconds = interleaved(functions, options.repeats)
    facts = {"backbone": options.backbone, "side": options.side, "batch": options.batch, "classes": options.classes}
    facts |= {"bf16": options.bf16}
    report("backbone forward", seconds["backbone"], "s", **facts)
    for head, work in works.items():
        for what in ("step", "prediction"):
            found = seconds[f"{head} {what}"]
            report(f"{head} {what}", found, "s", **facts)
            report(f"{head} {what} / backbone forward", found / seconds["backbone"], "ratio", **facts)
        parameters = sum(value.numel() for value in work.segmenter.head.parameters())
        report(f"{head} parameters", parameters / 1e6, "million", **facts)
        report(f"{head} peak memory of a step", _peak_gigabytes(head, options), "GB", **facts)


class Work:
    """A backbone with a head, and one batch. A late step: what a head anneals is half way through."""

    def __init__(self, head: str, options: argparse.Namespace) -> None:
        warnings.filterwarnings("ignore", message=".*random.*")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = options.bf16
        config = load_config([f"model.dino_hub={options.backbone}", "model.weights=none", f"decoder_head.type={head}"])
        space = LabelSpace.build({i: f"class_{i}" for i in range(options.classes)}, None, None, range(options.classes))
        self.segmenter = build_segmenter(config, options.classes).to(self.device)
        self.segmenter.head.set_progress(0.5)
        self.criterion: nn.Module = build_criterion(config, space, [1] * options.classes).to(self.device)
        self.optimizer = build_optimizer(self.segmenter, config.optimizer)
        side = options.side
        self.image = torch.randn(options.batch, 3, side, side, device=self.device)
        # Patches of classes, a few in each image, as in a picture.
        coarse = torch.randint(0, options.classes, (options.batch, 1, 3, 3)).float()
        class_map = nn.functional.interpolate(coarse, size=(side, side), mode="nearest")
        self.class_map = class_map[:, 0].long().to(self.device)

    def precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def backbone(self) -> None:
        with torch.no_grad(), self.precision():
            self.segmenter.backbone(self.image)

    def step(self) -> None:
        self.segmenter.train()
        with self.precision():
            output = self.segmenter(self.image)
        torch.stack(list(self.criterion(output, self.class_map).values())).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def predict(self) -> None:
        self.segmenter.eval()
        with torch.no_grad(), self.precision():
            self.segmenter.semantic_logits(self.image)


def _peak_gigabytes(head: str, options: argparse.Namespace) -> float:
    """Of two steps of one head, the model and the optimiser's state included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of_steps, (head, options))


def _peak_of_steps(head: str, options: argparse.Namespace) -> float:
    work = Work(head, options)
    for _ in range(2):
        work.step()
    if work.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return peak_kilobytes() / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("S", "B", "L"), default="S", help="of the ViT")
    parser.add_argument("--side", type=int, default=512, help="of the image, in pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.backbone = f"dinov3_vit{options.size.lower()}16"
    return options


if __name__ == "__main__":
    main()
