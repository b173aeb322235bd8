"""Quality against minutes of training: every head on the same images, scored on the test split at native size.

    python benchmarks/quality_minutes.py --set drive --data data/drive --weights dinov2_vits14.safetensors \
        [--contender dense] [--minutes 20] [--fields data/drive/test/fov] [--out benchmarks/quality_minutes.json]
    python benchmarks/quality_minutes.py --draw

A contender is trained once, through the command line, from an empty feature cache, with a schedule planned for
``--minutes``. Whenever one of the marks has passed, the last checkpoint is set aside; they are scored when the training
has ended, so that scoring takes none of its time. A figure before the end is what the run had by then on its way.

Results are kept in ``--out``, one entry a set and contender, so that a table may grow over several evenings; ``--draw``
draws all of them. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine
from PIL import Image
from quality_chart import draw
from torch import Tensor

from dinoseg.backbone import Backbone, FeatureMap
from dinoseg.config import with_changes
from dinoseg.data.dataset import EvaluationDataset, Sample
from dinoseg.data.folders import find_pairs
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import evaluate
from dinoseg.evaluation.settings import evaluation_settings
from dinoseg.features.fill import FeatureCache
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.training.feature_cache import fits_evaluation

MARKS = (2, 5, 10, 20, 30, 60)
ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
BLIND = "DINOSEG_BENCHMARK_BLIND"
# What is averaged at the end: a street has an up, a retina has none.
AUGMENTED = {
    "drive": ("eval.use_tta=true", "transforms.eval.tta_right_angle_rotations=true"),
    "camvid": ("eval.use_tta=true",),
}


@dataclass(frozen=True)
class Contender:
    """A way to train.

    Attributes:
        recipe: its file.
        steps: optimiser steps that 20 minutes of two quiet cores have room for.
        settings: on top of the recipe.
        blind: the head sees zeros in place of the backbone's features.
    """

    recipe: str
    steps: int
    settings: tuple[str, ...] = ()
    blind: bool = False


_UNCACHED = ("train.cache_features=false",)
_RETINA_CACHED = ("train.cache_features=true", "model.backbone_scale=2", "eval.mode=whole")
_STREET_NATIVE = (
    "transforms.train.img_size=null",
    "transforms.eval.img_size=null",
    "transforms.train.crop_size=336",
    "eval.mode=whole",
)
CONTENDERS: dict[str, dict[str, Contender]] = {
    "drive": {
        "linear": Contender("retina_linear.yaml", 1900, _UNCACHED),
        "linear, cached": Contender(
            "retina_linear.yaml",
            6000,
            (*_RETINA_CACHED, "transforms.train.img_size=null", "transforms.eval.img_size=null", "bs=8"),
        ),
        "LoRA": Contender("retina_linear.yaml", 720, ("model.mode=lora", "optimizer.backbone_lr_factor=0.1")),
        "dense": Contender("retina.yaml", 2100),
        "m2f": Contender("retina_m2f.yaml", 380),
        "dense without backbone": Contender("retina.yaml", 2600, _UNCACHED, blind=True),
    },
    "camvid": {
        "linear": Contender("street_linear.yaml", 1700, (*_STREET_NATIVE, *_UNCACHED)),
        "linear, cached": Contender("street_linear.yaml", 5000, _STREET_NATIVE),
        "LoRA": Contender("street_linear.yaml", 720, (*_STREET_NATIVE, "model.mode=lora")),
        "dense": Contender("street.yaml", 1400),
        "m2f": Contender("street_m2f.yaml", 380, _STREET_NATIVE),
        "dense without backbone": Contender("street.yaml", 1600, _UNCACHED, blind=True),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", choices=sorted(CONTENDERS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--contender", action="append", choices=sorted(CONTENDERS["drive"]))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--fields", type=Path, help="fields of view of the test images, for the weighted F1 of vessels")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "quality_minutes.svg")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    if not options.draw:
        if options.set is None or options.data is None or options.weights is None:
            parser.error("give --set, --data and --weights, or --draw")
        for name in options.contender or CONTENDERS[options.set]:
            result = measured(CONTENDERS[options.set][name], options)
            results.setdefault(options.set, {})[name] = result
            options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(draw(results, options.picture))


def measured(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one contender and scores what it had at each mark."""
    # Left there if anything goes wrong: a training is too dear to lose.
    folder = Path(tempfile.mkdtemp(prefix="quality-"))
    print(f"work folder {folder}", flush=True)
    steps = max(20, round(contender.steps * options.minutes / 20))
    arguments = [
        f"config={RECIPES / contender.recipe}",
        f"datasets.root={options.data}",
        f"model.weights={options.weights}",
        "model_dtype=BFLOAT16",
        "num_workers=1",
        "trackers=[]",
        f"output_dir={folder / 'run'}",
        f"train.cache_folder={folder / 'cache'}",
        f"scheduler.total_iter={steps}",
        "train.checkpoint_interval=20",
        "eval.max_val_samples=4",
        "eval.num_visualizations=0",
        *contender.settings,
    ]
    moments = list(_train(arguments, folder, contender.blind))
    points = []
    for minutes, kept in moments:
        points.append({"minutes": round(minutes, 2)} | _scored(kept, folder, contender, options))
        print(json.dumps(points[-1]), flush=True)
    last = moments[-1][1]
    augmented = _scored(last, folder, contender, options, AUGMENTED[options.set])
    shutil.rmtree(folder)
    settings = [f"scheduler.total_iter={steps}", *contender.settings]
    return {"points": points, "augmented": augmented, "settings": settings, **machine()}


def _train(arguments: Sequence[str], folder: Path, blind: bool) -> Iterator[tuple[float, Path]]:
    """Runs ``dinoseg train``; gives minutes since its start and a run folder with the checkpoint of that moment."""
    environment = os.environ | ({BLIND: "1"} if blind else {})
    command = [sys.executable, __file__, "train", *arguments]
    started = time.monotonic()
    run, waiting = folder / "run", list(MARKS)
    process = subprocess.Popen(command, env=environment)
    while process.poll() is None:
        time.sleep(0.5)
        minutes = (time.monotonic() - started) / 60
        if waiting and minutes >= waiting[0]:
            mark = waiting.pop(0)
            if (run / "checkpoints" / "last").exists():
                yield mark, _set_aside(run, folder / f"minute_{mark}")
    if process.returncode:
        raise SystemExit(f"the training ended with {process.returncode}")
    yield (time.monotonic() - started) / 60, _set_aside(run, folder / "end")


def _set_aside(run: Path, target: Path) -> Path:
    """What a run folder needs to be evaluated; checkpoints are replaced meanwhile, so a copy may need a second try."""
    for _ in range(20):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        try:
            for name in ("config.yaml", "labels.json"):
                shutil.copy(run / name, target / name)
            shutil.copytree(run / "checkpoints" / "last", target / "checkpoints" / "last")
            ChosenRun(target, "last", "cpu").open()
            return target
        except (OSError, ValueError):
            time.sleep(0.3)
    raise SystemExit(f"{run}: no whole checkpoint to be had")


def _scored(
    run: Path, folder: Path, contender: Contender, options: argparse.Namespace, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Figures of the test split, in percent."""
    opened = ChosenRun(run, "last", "auto", changes).open()
    with _blindfold(contender.blind):
        segmenter = opened.load_segmenter().to(opened.device).eval()
        data = EvaluationDataset(
            find_pairs(opened.config.datasets, "test").pairs,
            opened.label_space,
            build_eval_transform(opened.config.transforms),
        )
        if opened.config.train.cache_features and fits_evaluation(opened.config):
            _give_features(data, opened, segmenter.backbone, folder / "test-cache")
        f1: list[float] = []
        settings = evaluation_settings(opened.config, opened.label_space)
        evaluation = evaluate(
            segmenter,
            data,
            replace(settings, max_samples=None),
            opened.device,
            on_image=_collect_f1(f1, options.fields) if options.fields else None,
        )
    contents = evaluation.to_dict()
    found: dict[str, Any] = {"mIoU": contents["mIoU"], "interval": contents["confidence"]["mIoU"]}
    found["per_class"] = {row["name"]: row["IoU"] for row in contents["per_class"]}
    return found | ({"weighted_f1": round(float(np.mean(f1)), 2)} if f1 else {})


def _give_features(data: EvaluationDataset, opened: OpenedRun, backbone: Backbone, folder: Path) -> None:
    """The test images' features, computed for the first checkpoint and read for the others."""
    config = with_changes(opened.config, {"train.cache_folder": str(folder), "eval.max_val_samples": None})
    cache = FeatureCache.of(config, backbone)
    files, indices = cache.missing(data)
    cache.fill(data, files, indices, lambda: None)
    data.features = cache.source(files)


def _collect_f1(values: list[float], fields: Path) -> Callable[[Sample, Tensor], None]:
    """Weighted F1 of classes 1, 2, 3 within the field of view, an image at a time (Zhou et al., MICCAI 2021)."""
    by_number = {file.name.split("_")[0]: file for file in fields.iterdir()}

    def collect(sample: Sample, class_map: Tensor) -> None:
        truth, found = sample["class_map"].numpy(), class_map.numpy()
        inside = np.array(Image.open(by_number[sample["name"].split("_")[0]]).convert("L")) > 0
        shares = np.array([(truth == index).sum() for index in (1, 2, 3)], float)
        scores = []
        for index in (1, 2, 3):
            true, said = (truth == index) & inside, (found == index) & inside
            scores.append(2 * (true & said).sum() / max(1, true.sum() + said.sum()))
        values.append(100 * float((shares * scores).sum() / shares.sum()))

    return collect


@contextmanager
def _blindfold(blind: bool) -> Iterator[None]:
    """Within, a backbone gives zeros, and takes no time for them."""
    if not blind:
        yield
        return
    seeing = Backbone.forward_fitted

    def zeros(backbone: Backbone, image: Tensor) -> list[FeatureMap]:
        height, width = image.shape[-2:]
        return [
            FeatureMap(image.new_zeros(len(image), channels, height // stride, width // stride), None)
            for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True)
        ]

    Backbone.forward_fitted = zeros  # type: ignore[method-assign]
    try:
        yield
    finally:
        Backbone.forward_fitted = seeing  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        from dinoseg.__main__ import main as dinoseg

        with _blindfold(BLIND in os.environ):
            dinoseg()
    else:
        main()
