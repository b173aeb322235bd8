"""When a training is done, and what an early stop counts."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import tiny_settings, write_tiny_dataset
from PIL import Image
from rich.console import Console

from dinoseg.config.loading import load_config
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.training import loop
from dinoseg.training.loop import Trainer
from dinoseg.training.progress import Progress
from dinoseg.verbs.train import Start, train


def _evaluate(progress: Progress, step: int, found: float | None) -> None:
    progress.step = step
    if progress.finish_evaluation(found):
        progress.set_best(found, step)


def test_evaluations_are_counted_since_the_best() -> None:
    progress = Progress()
    counts = []
    for step, found in enumerate([None, 10.0, 9.0, None, 10.0, 11.0, 11.0], start=1):
        _evaluate(progress, step, found)
        counts.append(progress.evaluations_since_best)
    # Undefined and equal figures are not better.
    assert counts == [1, 0, 1, 2, 3, 0, 1]
    assert (progress.best_metric, progress.best_step) == (11.0, 6)


def test_an_evaluation_done_again_counts_as_it_did() -> None:
    # Killed between `best` and `last`: the best is known, its evaluation is done once more.
    progress = Progress(step=2)
    progress.set_best(50.0, 3)
    _evaluate(progress, 3, 50.0)
    assert (progress.evaluations_since_best, progress.best_step) == (0, 3)
    _evaluate(progress, 6, 50.0)
    assert progress.evaluations_since_best == 1


def test_patience_decides_what_is_finished() -> None:
    progress = Progress(step=6, evaluated_step=6, evaluations_since_best=2)
    assert not progress.is_finished(10, None)
    assert not progress.is_finished(10, 3)
    assert progress.is_finished(10, 2)
    assert progress.is_finished(6, None)


def test_another_figure_to_beat_starts_the_count_anew() -> None:
    progress = Progress(best_metric=5.0, best_step=2, evaluations_since_best=2)
    progress.set_best(None, 0)
    assert progress.evaluations_since_best == 0


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package catches it."""


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every evaluation finds less than the one before, starting from step 1."""
    original = loop.evaluate

    def evaluate(*arguments: Any, **options: Any) -> Any:
        evaluation = original(*arguments, **options)
        evaluation.metrics.means["mIoU"] = 90.0 - falling_steps.pop()
        return evaluation

    falling_steps = list(range(20, 0, -1))
    monkeypatch.setattr(loop, "evaluate", evaluate)


def _settings(folder: Path, run: Path, *more: str) -> list[str]:
    if not (folder / "data").exists():
        write_tiny_dataset(folder / "data", {"train": 3, "val": 1})
    common = ["scheduler.total_iter=9", "eval.eval_interval=1", "train.early_stopping=3", "eval.num_visualizations=0"]
    return tiny_settings(folder / "data", run, *common, *more)


def _train(settings: list[str], how: str | None = None) -> str:
    out = io.StringIO()
    train(load_config(settings), Console(file=out, width=200), Start(how))
    return out.getvalue()


@pytest.mark.usefixtures("falling")
def test_a_training_stops_early_and_is_then_done(tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = _train(_settings(tmp_path, run))
    words = (
        "stopped early after step 4 of 9, 3 evaluations without a better mIoU (train.early_stopping=3): "
        "best mIoU 89.00 at step 1"
    )
    assert words in said and words in (run / "train.log").read_text()
    progress = Checkpoint(run / "checkpoints" / "last").progress
    assert (progress["step"], progress["best_step"], progress["evaluations_since_best"]) == (4, 1, 3)
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    for how in ("last", "auto"):
        assert words in _train(_settings(tmp_path, run), how)
    assert files == {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("falling")
def test_a_stopped_training_goes_on_with_more_patience(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _train(_settings(tmp_path, run))
    assert "stopped early after step 6 of 9" in _train(_settings(tmp_path, run, "train.early_stopping=5"), "last")
    assert "done: best mIoU 89.00 at step 1" in _train(_settings(tmp_path, run, "train.early_stopping=null"), "last")
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 9


@pytest.mark.usefixtures("falling")
def test_a_kill_does_not_start_the_count_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    original = Trainer._step

    def step(trainer: Trainer, batches: Any) -> None:
        if trainer.progress.step == 3:
            raise Killed
        original(trainer, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(Killed):
            _train(_settings(tmp_path, run))
    assert Checkpoint(run / "checkpoints" / "last").progress["evaluations_since_best"] == 2
    assert "stopped early after step 4 of 9" in _train(_settings(tmp_path, run), "auto")


def test_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"train\.early_stopping=0 is too small; give 1 or more"):
        load_config(["train.early_stopping=0"])
    for decay in ("0", "1", "1.5"):
        with pytest.raises(ValueError, match=r"train\.ema_decay=.* give a number above 0, below 1"):
            load_config([f"train.ema_decay={decay}"])


def test_without_a_figure_the_last_checkpoint_is_named(tmp_path: Path) -> None:
    data, said = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), io.StringIO()
    for path in (data / "val/masks").iterdir():
        Image.fromarray(np.full((40, 56), 255, np.uint8)).save(path)
    run = tmp_path / "run"
    train(load_config(tiny_settings(data, run, "datasets.ignore=[255]", "trackers=[]")), Console(file=said, width=400))
    assert "done: best mIoU n/a" in said.getvalue()
    assert f"next: dinoseg eval {run} --checkpoint last" in said.getvalue()
    assert not (run / "checkpoints/best").exists() and (run / "checkpoints/last").exists()
