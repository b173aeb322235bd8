"""Training step and inference of the Mask2Former head against transformers' parts, same sizes, same inputs, one run.

    python benchmarks/m2f_step.py [--size 512] [--batch 2] [--classes 19] [--repeats 3]

The peer is transformers' pixel decoder, transformer decoder and loss (``pip install '.[benchmarks]'``). It has no
adapter: ours is timed with it (the whole head) and without it, and the ratio compares like with like, on one pyramid of
the backbone's width. Memory is the peak of a fresh process for each side. Goals on a CPU in fp32: a step at least 2.5
times faster with at most half the peak memory, inference at least 2 times faster.
"""

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable

import torch
from measure import interleaved, peak_kilobytes, report
from torch import Tensor, nn

from dinoseg.backbone import FeatureMap
from dinoseg.config import Mask2FormerTrainConfig
from dinoseg.losses.mask_classification import MaskClassificationLoss
from dinoseg.models.mask2former_head import Mask2FormerHead, Mask2FormerOptions

WIDTH = 384  # ViT-S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-of", choices=("ours", "ours with adapter", "peer", "nothing"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    inputs = Inputs(options)
    if options.memory_of:
        _print_peak(options.memory_of, inputs)
        return
    ours, whole, peer = _ours(inputs), _ours_with_adapter(inputs), _peer(inputs)
    facts = {"batch": options.batch, "size": options.size, "classes": options.classes, "width": WIDTH}
    seconds = interleaved({"ours": ours.step, "ours with adapter": whole.step, "peer": peer.step}, options.repeats)
    for name, value in seconds.items():
        report(f"step, {name}", value, "s", **facts)
    report("step, peer / ours", seconds["peer"] / seconds["ours"], "ratio", goal=">= 2.5", **facts)
    report("step, peer / ours with adapter", seconds["peer"] / seconds["ours with adapter"], "ratio", **facts)
    floor = _flops(whole.step) / _matmul_rate()
    report(
        "step with adapter / FLOP floor", seconds["ours with adapter"] / floor, "ratio", floor_seconds=floor, **facts
    )
    seconds = interleaved({"ours": ours.infer, "peer": peer.infer}, options.repeats)
    for name, value in seconds.items():
        report(f"inference, {name}", value, "s", **facts)
    report("inference, peer / ours", seconds["peer"] / seconds["ours"], "ratio", goal=">= 2", **facts)
    _report_memory(facts)


class Inputs:
    """The same tensors for both sides: a pyramid, a class map with 6 to 12 classes an image."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.size, self.classes = options.size, options.classes
        batch, size = options.batch, options.size
        self.image = torch.randn(batch, 3, size, size)
        self.pyramid = [torch.randn(batch, WIDTH, size // stride, size // stride) for stride in (4, 8, 16, 32)]
        self.patches = [FeatureMap(torch.randn(batch, WIDTH, size // 16, size // 16), None) for _ in range(4)]
        self.class_map = torch.stack([self._regions(6 + (6 * item) // max(1, batch - 1)) for item in range(batch)])

    def _regions(self, count: int) -> Tensor:
        """A class map of ``count`` vertical bands of different classes."""
        chosen = torch.randperm(self.classes)[:count]
        return chosen[torch.arange(self.size) * count // self.size].expand(self.size, -1).contiguous()


class Side:
    """One side of the comparison: a training step and an inference."""

    def __init__(self, modules: nn.Module, step: Callable[[], object], infer: Callable[[], object]) -> None:
        self.modules, self._infer = modules, infer
        self.step = step

    def infer(self) -> None:
        with torch.inference_mode():
            self._infer()


def _ours(inputs: Inputs) -> Side:
    head = _head(inputs, is_pyramid=True)
    features = [FeatureMap(level, None) for level in inputs.pyramid]
    return _side_of_head(head, features, inputs)


def _ours_with_adapter(inputs: Inputs) -> Side:
    head = _head(inputs, is_pyramid=False)
    return _side_of_head(head, inputs.patches, inputs)


def _head(inputs: Inputs, is_pyramid: bool) -> Mask2FormerHead:
    return Mask2FormerHead(
        in_channels=(WIDTH,) * 4, num_classes=inputs.classes, is_pyramid=is_pyramid, options=Mask2FormerOptions()
    ).train()


def _side_of_head(head: Mask2FormerHead, features: list[FeatureMap], inputs: Inputs) -> Side:
    criterion = MaskClassificationLoss(num_classes=inputs.classes, ignore_index=255, settings=Mask2FormerTrainConfig())

    def step() -> None:
        terms = criterion(head(inputs.image, features), inputs.class_map)
        torch.stack(list(terms.values())).sum().backward()
        head.zero_grad(set_to_none=True)

    def infer() -> Tensor:
        return head.semantic_logits(head(inputs.image, features), (inputs.size, inputs.size))

    return Side(head, step, infer)


def _peer(inputs: Inputs) -> Side:
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerLoss,
        Mask2FormerPixelDecoder,
        Mask2FormerTransformerModule,
    )

    config = Mask2FormerConfig(num_labels=inputs.classes, no_object_weight=0.1, feature_size=256, mask_feature_size=256)
    pixel = Mask2FormerPixelDecoder(config, feature_channels=[WIDTH] * 4)
    decoder = Mask2FormerTransformerModule(in_features=256, config=config)
    classify = nn.Linear(256, inputs.classes + 1)
    modules = nn.ModuleList([pixel, decoder, classify]).train()
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    criterion = Mask2FormerLoss(config, weights)
    labels = [item.unique() for item in inputs.class_map]
    masks = [
        (item[None] == present[:, None, None]).float() for item, present in zip(inputs.class_map, labels, strict=True)
    ]

    def forward() -> tuple[list[Tensor], list[Tensor]]:
        encoded = pixel(inputs.pyramid, output_hidden_states=False)
        decoded = decoder(
            multi_scale_features=encoded.multi_scale_features,
            mask_features=encoded.mask_features,
            output_hidden_states=True,
            output_attentions=False,
        )
        states = [state.transpose(0, 1) for state in decoded.intermediate_hidden_states]
        return list(decoded.masks_queries_logits), [classify(state) for state in states]

    def step() -> None:
        mask_logits, class_logits = forward()
        auxiliary = [
            {"masks_queries_logits": m, "class_queries_logits": c}
            for m, c in zip(mask_logits[:-1], class_logits[:-1], strict=True)
        ]
        terms = criterion(mask_logits[-1], class_logits[-1], masks, labels, auxiliary)
        weighted = [next(w for key, w in weights.items() if key in name) * term for name, term in terms.items()]
        torch.stack(weighted).sum().backward()
        modules.zero_grad(set_to_none=True)

    def infer() -> Tensor:
        mask_logits, class_logits = forward()
        size = (inputs.size, inputs.size)
        upsampled = nn.functional.interpolate(mask_logits[-1], size=size, mode="bilinear", align_corners=False)
        probabilities = class_logits[-1].softmax(dim=-1)[..., :-1]
        return torch.einsum("bqc,bqhw->bchw", probabilities, upsampled.sigmoid())

    return Side(modules, step, infer)


def _flops(function: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    def of_product(total: torch.Size, left: torch.Size, right: torch.Size, **_: object) -> int:
        return 2 * left[0] * left[1] * right[1]

    # The counter knows addmm, not its form in place, which sums gradients of weights.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: of_product}) as counter:
        function()
    return float(counter.get_total_flops())


def _matmul_rate() -> float:
    """FLOP/s of a large matrix product on this machine, now."""
    a = torch.randn(2048, 2048)
    seconds = interleaved({"matmul": lambda: a @ a}, 5)["matmul"]
    return 2 * 2048**3 / seconds


def _report_memory(facts: dict[str, object]) -> None:
    peaks = {}
    for side in ("nothing", "ours", "ours with adapter", "peer"):
        command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", side]
        peaks[side] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["peak"]
    for side in ("ours", "ours with adapter", "peer"):
        report(f"peak memory, {side}", (peaks[side] - peaks["nothing"]) / 2**20, "GiB", **facts)
    ratio = (peaks["ours"] - peaks["nothing"]) / (peaks["peer"] - peaks["nothing"])
    report("peak memory, ours / peer", ratio, "ratio", goal="<= 0.5", **facts)


def _print_peak(side: str, inputs: Inputs) -> None:
    """Peak resident kilobytes of this process after two steps of one side."""
    builders = {"ours": _ours, "ours with adapter": _ours_with_adapter, "peer": _peer}
    if side == "nothing":
        # Both sides' imports without their work.
        import transformers.models.mask2former.modeling_mask2former  # noqa: F401
    else:
        built = builders[side](inputs)
        built.step()
        built.step()
    print(json.dumps({"peak": peak_kilobytes()}))


if __name__ == "__main__":
    main()
