"""Quality against minutes of training: every head on the same images, scored on the test split at native size.

    python benchmarks/quality_minutes.py --set drive --data data/drive --weights dinov2_vits14.safetensors \
        [--contender dense] [--minutes 20] [--fields data/drive/test/fov] [--out benchmarks/quality_minutes.json]
    python benchmarks/quality_minutes.py --set drive ... --pace
    python benchmarks/quality_minutes.py --draw

A contender is trained once, through the command line, from an empty feature cache. First its pace is measured, for a
minute on a machine that does nothing else (``--pace`` does that alone): how long it takes to begin, features included,
and how long a step takes. The schedule is as many steps as ``--minutes`` have room for, and minutes are counted in
steps at that pace, so that the training itself may share the machine with other work. Whenever a mark has passed, the
last checkpoint is set aside; they are scored when the training has ended. A figure before the end is what the run had
by then on its way.

Results are kept in ``--out``, one entry a set and contender, so that a table may grow over several evenings; ``--draw``
draws all of them.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from contenders import AUGMENTED, CONTENDERS, Contender, blindfold
from measure import machine
from PIL import Image
from quality_chart import draw
from torch import Tensor

from dinoseg.backbone import Backbone, backbone_hash
from dinoseg.config import with_changes
from dinoseg.data.dataset import EvaluationDataset, Sample
from dinoseg.data.folders import find_pairs
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import evaluate
from dinoseg.evaluation.settings import evaluation_settings
from dinoseg.features.fill import FeatureCache
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.training.feature_cache import fits_evaluation

MARKS = (2, 5, 10, 20, 30, 60)
ROOT = Path(__file__).parent.parent
BLIND = "DINOSEG_BENCHMARK_BLIND"
# Steps for so many seconds make a pace, the first few aside.
_PACE_SECONDS = 60
_FIRST_STEPS = 3
# Seconds; marks fall on a checkpoint, so a point may be that much early.
_BETWEEN_CHECKPOINTS = 6


@dataclass(frozen=True)
class Pace:
    """Of a contender on a quiet machine.

    Attributes:
        begin_seconds: from the command to the first step, features included.
        step_seconds: mean of a step.
    """

    begin_seconds: float
    step_seconds: float

    def step_at(self, minutes: float) -> int:
        """The step that is done after so many minutes."""
        return max(0, int((60 * minutes - self.begin_seconds) / self.step_seconds))


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
    parser.add_argument("--pace", action="store_true", help="measure the pace, and do not train")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    if not options.draw:
        if options.set is None or options.data is None or options.weights is None:
            parser.error("give --set, --data and --weights, or --draw")
        for name in options.contender or CONTENDERS[options.set]:
            entry = _read(options.out).get(options.set, {}).get(name, {})
            if options.pace or "pace" not in entry:
                entry = {"pace": asdict(measured_pace(CONTENDERS[options.set][name], options)) | machine()} | {
                    key: value for key, value in entry.items() if key != "pace"
                }
                _keep(options, name, entry)
            if not options.pace:
                pace = Pace(entry["pace"]["begin_seconds"], entry["pace"]["step_seconds"])
                _keep(options, name, {"pace": entry["pace"]} | measured(CONTENDERS[options.set][name], pace, options))
    print(draw(_read(options.out), options.picture))


def _read(file: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return contents


def _keep(options: argparse.Namespace, name: str, entry: dict[str, Any]) -> None:
    results = _read(options.out)
    results.setdefault(options.set, {})[name] = entry
    options.out.write_text(json.dumps(results, indent=2) + "\n")


def measured_pace(contender: Contender, options: argparse.Namespace) -> Pace:
    """Begins a training from an empty feature cache and ends it after a minute of steps."""
    with tempfile.TemporaryDirectory(prefix="pace-") as name:
        changes = ["scheduler.total_iter=100000", "train.log_interval=1"]
        arguments = contender.arguments(options.data, options.weights, Path(name), changes)
        lines = Path(name) / "run" / "metrics.jsonl"
        started, moments = time.monotonic(), list[tuple[float, int]]()
        process = _training(arguments, contender.blind)
        while process.poll() is None and (not moments or time.monotonic() - moments[0][0] < _PACE_SECONDS):
            time.sleep(0.05)
            steps = lines.read_text().count('"train"') if lines.exists() else 0
            if steps and (not moments or steps > moments[-1][1]):
                moments.append((time.monotonic(), steps))
        process.send_signal(signal.SIGTERM)
        process.wait()
    if len(moments) < _FIRST_STEPS + 2:
        raise SystemExit(f"the training ended with {process.returncode} before its pace was known")
    (since, first), (until, last) = moments[_FIRST_STEPS], moments[-1]
    step_seconds = (until - since) / (last - first)
    begin = since - started - first * step_seconds
    print(f"begins after {begin:.0f} s, then {step_seconds:.3f} s a step", flush=True)
    return Pace(round(begin, 1), round(step_seconds, 4))


def measured(contender: Contender, pace: Pace, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one contender and scores what it had at each mark."""
    # Left there if anything goes wrong: a training is too dear to lose.
    folder = Path(tempfile.mkdtemp(prefix="quality-"))
    print(f"work folder {folder}", flush=True)
    steps = max(20, pace.step_at(options.minutes))
    interval = max(1, round(_BETWEEN_CHECKPOINTS / pace.step_seconds))
    changes = [f"scheduler.total_iter={steps}", f"train.checkpoint_interval={interval}"]
    arguments = contender.arguments(options.data, options.weights, folder, changes)
    marks = [pace.step_at(minutes) // interval * interval for minutes in MARKS]
    marks = [step for step in marks if 0 < step < 0.97 * steps]
    points = []
    kept = folder
    for step, kept in list(_train(arguments, folder, contender.blind, marks)):
        points.append({"step": step} | _scored(kept, folder, contender, options))
        print(json.dumps(points[-1]), flush=True)
    augmented = _scored(kept, folder, contender, options, AUGMENTED[options.set])
    shutil.rmtree(folder)
    settings = [f"scheduler.total_iter={steps}", *contender.settings]
    return {"points": points, "augmented": augmented, "settings": settings, **machine()}


def _training(arguments: Sequence[str], blind: bool) -> "subprocess.Popen[bytes]":
    environment = os.environ | ({BLIND: "1"} if blind else {})
    return subprocess.Popen([sys.executable, __file__, "train", *arguments], env=environment)


def _train(arguments: Sequence[str], folder: Path, blind: bool, marks: Sequence[int]) -> Iterator[tuple[int, Path]]:
    """Runs ``dinoseg train``; gives the step and a run folder at each mark, which has a checkpoint, and at the end."""
    run, waiting = folder / "run", list(marks)
    process = _training(arguments, blind)
    while process.poll() is None:
        time.sleep(0.2)
        if waiting and _last_step(run) >= waiting[0]:
            aside = _set_aside(run, folder / f"mark_{waiting.pop(0)}")
            yield _last_step(aside), aside
    if process.returncode:
        raise SystemExit(f"the training ended with {process.returncode}")
    aside = _set_aside(run, folder / "end")
    yield _last_step(aside), aside


def _last_step(run: Path) -> int:
    """Of the last checkpoint; 0 where there is none, or another takes its place at this moment."""
    try:
        return int(Checkpoint.open(run / "checkpoints" / "last").progress["step"])
    except (OSError, ValueError):
        return 0


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
    with blindfold(contender.blind):
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
    cache = FeatureCache.of(config, backbone, backbone_hash(backbone.frozen_state()))
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


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        from dinoseg.__main__ import main as dinoseg

        with blindfold(BLIND in os.environ):
            dinoseg()
    else:
        main()
