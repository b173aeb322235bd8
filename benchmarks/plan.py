"""What a plan reaches against fixed recipes in the same minutes: mIoU of the test split at native size.

    python benchmarks/plan_sets.py sets/
    python benchmarks/plan.py --set drive --data data/drive --weights dinov2_vits14.safetensors --minutes 10
    python benchmarks/plan.py --set blobs --data sets/blobs --weights dinov2_vits14.safetensors --minutes 10
    python benchmarks/plan.py --table

A call trains one set's contenders that ``--out`` lacks, one after the other, each from an empty feature cache, so that
it may be broken off and called again. ``plan`` is ``dinoseg train minutes=...`` with nothing but data and weights; the
others are recipes whose keys are given, and whose steps ``minutes`` fits to the budget. All end by the clock, final
evaluation on the validation split included: a machine that does nothing else is wanted. The last checkpoint is scored.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, RECIPES, RETINA_TWICE
from measure import machine
from plan_sets import CLASSES

_NATIVE = tuple(CONTENDERS["camvid"]["linear, cached"].settings)
# Ways to train that were worth measuring, by recipe and what is changed in it.
FIXED: dict[str, tuple[str, tuple[str, ...]]] = {
    "dense, scale 2, turned": ("retina.yaml", RETINA_TWICE),
    "dense, scale 1.5 (street.yaml)": ("street.yaml", ()),
    "dense, scale 1": ("street.yaml", ("model.backbone_scale=1",)),
    "linear, scale 1": ("street_linear.yaml", _NATIVE),
    "linear, scale 2": ("street_linear.yaml", (*_NATIVE, "model.backbone_scale=2")),
    "m2f, scale 1": ("street_m2f.yaml", (*_NATIVE[:-1], "eval.mode=whole")),
}
NAMES = {
    "drive": ("background", "artery", "vein", "crossing"),
    "camvid": tuple(
        ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    ),
    **CLASSES,
}
IGNORED = {"camvid": "[11, 255]"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", choices=sorted(NAMES))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--contender", action="append", choices=["plan", *FIXED])
    parser.add_argument("--runs", type=Path, help="where runs are kept, in a folder of each set; else nowhere")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        if options.set is None or options.data is None or options.weights is None:
            parser.error("give --set, --data and --weights, or --table")
        for name in options.contender or ["plan", *FIXED]:
            results = _read(options.out)
            entries = results.setdefault(options.set, {}).setdefault(f"{options.minutes:g}", {})
            if name not in entries:
                entries[name] = measured(name, options)
                options.out.write_text(json.dumps(results, indent=2) + "\n")
                print(name, json.dumps(entries[name]), flush=True)
    print(table(_read(options.out)))


def _read(file: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return contents


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains a contender and scores it; a contender for which there is no room has the reason in place of a figure."""
    classes = ", ".join(f"{index}: {label}" for index, label in enumerate(NAMES[options.set]))
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        run = Path(folder) / "run" if options.runs is None else options.runs / options.set / _folder_name(name)
        arguments = [
            f"datasets.root={options.data}",
            f"datasets.classes={{{classes}}}",
            f"datasets.ignore={IGNORED.get(options.set, '255')}",
            "model.dino_hub=dinov2_vits14",
            f"model.weights={options.weights}",
            f"minutes={options.minutes:g}",
            f"output_dir={run}",
            f"train.cache_folder={folder}/cache",
            "trackers=[]",
            "eval.num_visualizations=0",
        ]
        if name != "plan":
            recipe, changes = FIXED[name]
            # What is quickest on this machine is no merit of a plan; and all validate on as many images.
            quick = ["model_dtype=BFLOAT16", "num_workers=1", "eval.max_val_samples=10"]
            arguments = [f"config={RECIPES / recipe}", *changes, *quick, *arguments]
        started = time.monotonic()
        ended = subprocess.run([sys.executable, "-m", "dinoseg", "train", *arguments], capture_output=True, text=True)
        minutes = round((time.monotonic() - started) / 60, 2)
        if ended.returncode:
            return {"refused": ended.stderr.strip().splitlines()[-1:], "minutes": minutes}
        scoring = ["eval", str(run), "--split", "test", "--checkpoint", "last"]
        subprocess.run([sys.executable, "-m", "dinoseg", *scoring], check=True, capture_output=True)
        figures = json.loads((run / "eval" / "test" / "metrics.json").read_text())
        progress = json.loads((run / "checkpoints" / "last" / "checkpoint.json").read_text())["progress"]
        chosen = _chosen(run) if name == "plan" else {}
        found = {"mIoU": figures["mIoU"], "interval": figures["confidence"]["mIoU"], "steps": progress["step"]}
        return found | {"minutes": minutes} | chosen | machine()


def _folder_name(contender: str) -> str:
    return contender.split(" (")[0].replace(", ", "_").replace(" ", "")


def _chosen(run: Path) -> dict[str, Any]:
    import yaml

    plan = yaml.safe_load((run / "plan.yaml").read_text())
    return {"head": plan["decoder_head"]["type"], "scale": plan["model"]["backbone_scale"]}


def table(results: dict[str, Any]) -> str:
    """A table a set: a row a contender, the best first, with its interval, steps and minutes."""
    lines = []
    for name, budgets in sorted(results.items()):
        for minutes, entries in sorted(budgets.items(), key=lambda entry: float(entry[0])):
            lines += ["", f"{name}, {minutes} minutes", "", "| contender | mIoU | 95 % interval | steps | minutes |"]
            lines += ["| --- | ---: | ---: | ---: | ---: |"]
            for contender, entry in sorted(entries.items(), key=lambda pair: -pair[1].get("mIoU", 0.0)):
                if "mIoU" not in entry:
                    lines.append(f"| {contender} | no room | | | {entry['minutes']:g} |")
                    continue
                low, high = entry["interval"]
                label = f"plan: {entry['head']}, scale {entry['scale']:g}" if contender == "plan" else contender
                row = f"| {label} | {entry['mIoU']:.1f} | {low:.1f} to {high:.1f} | {entry['steps']} "
                lines.append(f"{row}| {entry['minutes']:g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
