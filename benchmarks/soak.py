"""A training that is killed again and again against one that is left alone. Prints one JSON line per figure.

    python benchmarks/soak.py [--ends 30] [--steps 2000] [--kind linear|m2f|dense|everything] [--seed 0]

Both train the same tiny model on the same pictures. The second is ended at random moments, by SIGKILL, SIGTERM or
SIGINT, and started again with ``--resume auto`` each time; in one life of ten another training of the same folder is
started beside it, which must be refused. In the end weights, metrics.jsonl and figures must be equal, and no file may
lie in one run folder alone.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import report
from PIL import Image
from safetensors.torch import load_file

_M2F = (
    "decoder_head.type=m2f",
    "decoder_head.hidden_dim=32",
    "decoder_head.num_queries=6",
    "decoder_head.encoder_layers=1",
    "decoder_head.decoder_layers=2",
    "decoder_head.adapter_inplane=4",
    "m2f_train.num_points=64",
)
KINDS = {
    "linear": (),
    "m2f": _M2F,
    "dense": (
        "decoder_head.type=dense",
        "decoder_head.stem_widths=[8,8,16,16]",
        "train.cache_features=true",
        "eval.mode=whole",
    ),
    "everything": (
        *_M2F,
        "model.mode=lora",
        "lora.rank=2",
        "lora.dropout=0.1",
        "train.ema_decay=0.9",
        "train.accumulation_steps=2",
        "num_workers=2",
    ),
}
CLOCK = ("images_per_second", "data_wait_share")


def write_pictures(root: Path) -> Path:
    """Eight training and three validation pictures of a bright square."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((40, 56), dtype=np.uint8)
            top, left = generator.integers(0, (24, 40))
            mask[top : top + 16, left : left + 16] = 1
            image = (mask[..., None] * 120 + generator.integers(0, 100, (*mask.shape, 3))).astype(np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


def settings(data: Path, run: Path, kind: str, steps: int) -> list[str]:
    return [
        f"datasets.root={data}",
        f"output_dir={run}",
        "model.dino_hub=tiny_vit8",
        "model.weights=none",
        "num_workers=0",
        "device=cpu",
        "transforms.train.crop_size=32",
        f"scheduler.total_iter={steps}",
        f"eval.eval_interval={max(1, steps // 20)}",
        f"train.checkpoint_interval={max(1, steps // 100)}",
        "train.log_interval=1",
        f"train.cache_folder={run.parent / 'features'}",
        *KINDS[kind],
    ]


def train(arguments: list[str], log: Path) -> None:
    """The command line in this process; what it prints goes to ``log``."""
    from dinoseg.__main__ import main

    # Data loading processes start as they do from a shell; the fork server's child would start them by another server.
    multiprocessing.set_start_method("fork", force=True)
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["dinoseg", "train", *arguments, "--resume", "auto"]
    main()


class Lives:
    """Processes that train, each ended at a random moment."""

    def __init__(self, arguments: list[str], metrics: Path, log: Path, seed: int) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["dinoseg.verbs.train"])
        self.arguments, self.metrics, self.log = arguments, metrics, log
        self.random = random.Random(seed)
        self.ends: dict[str, int] = {"SIGKILL": 0, "SIGTERM": 0, "SIGINT": 0}
        self.refused = 0
        self.lost = 0
        self.slowest_answer = 0.0

    def whole(self) -> float:
        """Seconds of a life that ends by itself."""
        started, process = time.perf_counter(), self._start()
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"ended with {process.exitcode}:\n{self.log.read_text()[-2000:]}")
        return time.perf_counter() - started

    def cut_short(self, longest: float) -> bool:
        """One life of at most ``longest`` seconds from its first step; one in five is ended before that.

        Returns:
            False if it came to its end first.
        """
        before, process = self._stamp(), self._start()
        if self.random.random() < 0.2:
            time.sleep(self.random.uniform(0, 1))
        else:
            while self._stamp() == before and process.is_alive():
                time.sleep(0.01)
            time.sleep(self.random.uniform(0, longest))
        if self.random.random() < 0.1 and process.is_alive() and self._stamp() != before:
            self._be_refused()
        name = self.random.choice(sorted(self.ends))
        if not process.is_alive():
            if process.exitcode == 0:
                return False
            raise SystemExit(f"a training ended with {process.exitcode}:\n{self.log.read_text()[-2000:]}")
        sent = time.perf_counter()
        assert process.pid > 0, "signal 0 would end this program's own process group"
        os.kill(process.pid, getattr(signal, name))
        process.join()
        self.ends[name] += 1
        if name != "SIGKILL":
            self.slowest_answer = max(self.slowest_answer, time.perf_counter() - sent)
            number = getattr(signal, name)
            # A signal in the very last moment finds a training that ends anyway.
            self.lost += process.exitcode == 0 and "stopped " not in self.log.read_text()[-300:]
            # 0: a checkpoint was written. Else there was nothing to save: before the loop starts the signal ends the
            # process, as it ends any other.
            if process.exitcode not in (0, 128 + number, -number):
                raise SystemExit(f"{name}: ended with {process.exitcode}:\n{self.log.read_text()[-2000:]}")
        return True

    def _be_refused(self) -> None:
        """A second training of the same folder ends with exit code 1, and says that another one is at work."""
        log = self.log.with_name("second.log")
        second = self.context.Process(target=train, args=(self.arguments, log))
        second.start()
        second.join()
        if second.exitcode != 1 or "process" not in log.read_text():
            raise SystemExit(f"two at once: the second ended with {second.exitcode}:\n{log.read_text()[-2000:]}")
        self.refused += 1

    def _start(self) -> Any:
        process = self.context.Process(target=train, args=(self.arguments, self.log))
        process.start()
        return process

    def _stamp(self) -> tuple[int, int]:
        if not self.metrics.exists():
            return 0, 0
        status = self.metrics.stat()
        return status.st_ino, status.st_size


def different_tensors(first: Path, second: Path) -> int:
    count = 0
    for name in ("last", "best"):
        states = [load_file(run / "checkpoints" / name / "model.safetensors") for run in (first, second)]
        count += len(states[0].keys() ^ states[1].keys())
        count += sum(not value.equal(states[1][key]) for key, value in states[0].items() if key in states[1])
    return count


def records(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


def files(run: Path) -> set[str]:
    """All but TensorBoard's, of which each start writes one."""
    return {str(path.relative_to(run)) for path in run.rglob("*") if "tensorboard" not in path.parts}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ends", type=int, default=30)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--kind", choices=KINDS, default="linear")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data, whole, parts = write_pictures(root / "data"), root / "whole", root / "parts"
        runs = {
            run: Lives(
                settings(data, run, options.kind, options.steps),
                run / "metrics.jsonl",
                root / f"{run.name}.log",
                options.seed,
            )
            for run in (whole, parts)
        }
        seconds = runs[whole].whole()
        for _ in range(options.ends):
            # The lives together must be shorter than the training.
            if not runs[parts].cut_short(seconds / options.ends):
                break
        runs[parts].whole()
        facts = {
            "kind": options.kind,
            "steps": options.steps,
            **runs[parts].ends,
            "second_refused": runs[parts].refused,
            "whole_seconds": round(seconds, 1),
        }
        first, second = records(whole), records(parts)
        report("tensors of last and best that differ", different_tensors(whole, parts), "tensors", **facts)
        differing = abs(len(first) - len(second)) + sum(a != b for a, b in zip(first, second, strict=False))
        report("lines of metrics.jsonl that differ", differing, "lines", lines=len(first), **facts)
        report("files in one run folder only", len(files(whole) ^ files(parts)), "files", **facts)
        same = all(
            (run / "eval/val/metrics.json").read_bytes() == (whole / "eval/val/metrics.json").read_bytes()
            for run in runs
        )
        report("metrics.json that differ", int(not same), "files", **facts)
        report("signals that a training outlived", runs[parts].lost, "signals", **facts)
        report("slowest answer to SIGTERM or SIGINT", runs[parts].slowest_answer, "s", **facts)


if __name__ == "__main__":
    main()
