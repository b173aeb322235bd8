"""Images per second of slide evaluation, and metric time per megapixel, against yardsticks measured in the same run.

    python benchmarks/evaluation.py [--height 1024 --width 1024 --classes 150 --rounds 2 --threads 1 --device cpu]

One JSON line a figure. Rounds interleave the contenders and the median round counts, so that other work on the machine
hits all of them alike.

Slide evaluation: the model is a ViT-Ti/16 with random weights, a 1x1 convolution to the classes and bilinear
upsampling. The yardstick takes one window at a time, pads its scores to the size of the image, adds them on the CPU,
divides and takes the argmax.

Metrics: a label map made of patches with 2 % scattered errors and 5 % ignored pixels, against torchmetrics' mean IoU
(one-hot; on a smaller map, it needs gigabytes a megapixel), torchmetrics' Jaccard index (a confusion matrix inside),
np.histogram2d, torch.histc of intersections and areas, and one np.bincount.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from dinoseg.data.window_axis import window_starts
from dinoseg.evaluation.metrics import confusion_matrix
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.windows import predict_class_map

_IGNORED = 255


class TinySegmenter(nn.Module):
    """ViT-Ti/16, 1x1 convolution, bilinear upsampling."""

    scores_are_probabilities = False

    def __init__(self, num_classes: int, crop: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        backbone: Any = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=crop, num_classes=0)
        self.backbone = backbone
        self.head = nn.Conv2d(backbone.embed_dim, num_classes, 1)

    def semantic_logits(self, image: Tensor) -> Tensor:
        tokens = self.backbone.forward_features(image)[:, self.backbone.num_prefix_tokens :]
        rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
        features = tokens.transpose(1, 2).reshape(len(image), -1, rows, columns)
        return functional.interpolate(self.head(features), image.shape[-2:], mode="bilinear", align_corners=False)


def yardstick(model: TinySegmenter, image: Tensor, crop: int, stride: int, device: str) -> Tensor:
    """The straightforward loop: one window, full-size padding, accumulation on the CPU."""
    height, width = image.shape[-2:]
    total = torch.zeros(1, model.num_classes, height, width)
    count = torch.zeros(1, 1, height, width)
    for top in window_starts(height, crop, stride):
        for left in window_starts(width, crop, stride):
            window = image[None, :, top : top + crop, left : left + crop].to(device)
            scores = model.semantic_logits(window).cpu()
            total += functional.pad(scores, (left, width - left - crop, top, height - top - crop))
            count[:, :, top : top + crop, left : left + crop] += 1
    scores = functional.interpolate(total / count, (height, width), mode="bilinear", align_corners=False)
    return scores.argmax(dim=1)[0]


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender over rounds in which all take turns, after one round of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def label_maps(height: int, width: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """Prediction and truth, uint8."""
    generator = np.random.default_rng(0)
    patches = generator.integers(0, num_classes, (height // 32 + 1, width // 32 + 1), dtype=np.uint8)
    truth = np.kron(patches, np.ones((32, 32), np.uint8))[:height, :width].copy()
    prediction = truth.copy()
    wrong = generator.random(truth.shape) < 0.02
    prediction[wrong] = generator.integers(0, num_classes, int(wrong.sum()), dtype=np.uint8)
    truth[: height // 20] = _IGNORED
    return torch.from_numpy(prediction), torch.from_numpy(truth)


def histogram2d(prediction: Tensor, truth: Tensor, num_classes: int) -> Any:
    edges = np.arange(num_classes + 1)
    counted = truth.numpy() != _IGNORED
    return np.histogram2d(truth.numpy()[counted], prediction.numpy()[counted], bins=[edges, edges])


def histc(prediction: Tensor, truth: Tensor, num_classes: int) -> list[Tensor]:
    counted = truth != _IGNORED
    predicted, true = prediction[counted].float(), truth[counted].float()
    parts = (true[predicted == true], predicted, true)
    return [torch.histc(part, bins=num_classes, min=0, max=num_classes - 1) for part in parts]


def bincount(prediction: Tensor, truth: Tensor, num_classes: int) -> Any:
    counted = truth.numpy() != _IGNORED
    codes = truth.numpy()[counted].astype(np.int64) * num_classes + prediction.numpy()[counted]
    return np.bincount(codes, minlength=num_classes * num_classes)


def torchmetrics_mean_iou(prediction: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    metric = MeanIoU(num_classes=num_classes + 1, input_format="index", per_class=True)
    counted = truth != _IGNORED
    # It has no ignore index: ignored pixels become a class of their own in both.
    return metric(
        torch.where(counted, prediction, num_classes).long()[None],
        torch.where(counted, truth, num_classes).long()[None],
    )


def torchmetrics_jaccard(prediction: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    metric = MulticlassJaccardIndex(num_classes, ignore_index=_IGNORED)
    return metric(prediction.long()[None], truth.long()[None])


def measure_windows(arguments: argparse.Namespace, facts: dict[str, Any]) -> None:
    crop, stride = arguments.crop, arguments.stride
    model = TinySegmenter(arguments.classes, crop).eval().to(arguments.device)
    image = torch.randn(3, arguments.height, arguments.width)
    policy = WindowPolicy(crop=(crop, crop), stride=(stride, stride), batch_size=arguments.batch_size)
    contenders = {
        "dinoseg": lambda: predict_class_map(model, image, policy),
        "yardstick": lambda: yardstick(model, image, crop, stride, arguments.device),
        "model": lambda: model.semantic_logits(image[None, :, :crop, :crop].to(arguments.device)),
    }
    with torch.no_grad():
        differing = int((contenders["dinoseg"]() != contenders["yardstick"]()).sum())
        seconds = interleaved(contenders, arguments.rounds)
    windows = len(window_starts(arguments.height, crop, stride)) * len(window_starts(arguments.width, crop, stride))
    print_line(
        "slide evaluation",
        {
            "images_per_second": 1 / seconds["dinoseg"],
            "yardstick_images_per_second": 1 / seconds["yardstick"],
            "speed_up": seconds["yardstick"] / seconds["dinoseg"],
            "seconds_in_model": windows * seconds["model"],
            "windows": windows,
            "pixels_that_differ": differing,
            "image": [arguments.height, arguments.width],
            "classes": arguments.classes,
        },
        facts,
    )


def measure_metrics(arguments: argparse.Namespace, facts: dict[str, Any]) -> None:
    classes = arguments.classes
    maps = label_maps(arguments.height, arguments.width, classes)
    small = label_maps(256, 256, classes)
    contenders = {
        "dinoseg": lambda: confusion_matrix(*maps, classes, _IGNORED),
        "dinoseg int64": lambda: confusion_matrix(maps[0].long(), maps[1].long(), classes, _IGNORED),
        "torchmetrics MeanIoU": lambda: torchmetrics_mean_iou(*small, classes),
        "torchmetrics MulticlassJaccardIndex": lambda: torchmetrics_jaccard(*maps, classes),
        "np.histogram2d": lambda: histogram2d(*maps, classes),
        "torch.histc": lambda: histc(*maps, classes),
        "np.bincount": lambda: bincount(*maps, classes),
    }
    seconds = interleaved(contenders, arguments.rounds + 2)
    megapixels = dict.fromkeys(contenders, maps[0].numel() / 1e6) | {"torchmetrics MeanIoU": small[0].numel() / 1e6}
    own = seconds["dinoseg"] / megapixels["dinoseg"]
    for name in contenders:
        per_megapixel = seconds[name] / megapixels[name]
        figures = {"milliseconds_per_megapixel": 1000 * per_megapixel, "times_dinoseg": per_megapixel / own}
        print_line(f"metric: {name}", figures | {"classes": classes}, facts)


def print_line(figure: str, values: dict[str, Any], facts: dict[str, Any]) -> None:
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
    print(json.dumps({"figure": figure} | rounded | facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("height", 1024), ("width", 1024), ("classes", 150), ("crop", 512), ("stride", 341)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    facts = {
        "torch": torch.__version__,
        "threads": arguments.threads,
        "machine": platform.machine(),
        "device": arguments.device if arguments.device == "cpu" else torch.cuda.get_device_name(),
    }
    measure_windows(arguments, facts)
    measure_metrics(arguments, facts)


if __name__ == "__main__":
    main()
