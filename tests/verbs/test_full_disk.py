"""A disk that fills up, or data that vanishes, while a verb is at work: one message, and what was finished is whole."""

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import run_cli, tiny_settings, train_tiny_run, write_tiny_dataset
from PIL import Image

import dinoseg.verbs.train
from dinoseg.inference.job import PredictionJob
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.training_records import read_training_records
from dinoseg.training.loop import Trainer
from dinoseg.verbs import evaluate

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")


@dataclass
class Disk:
    """The limit of file sizes stands for a disk: beyond it writing fails, in every library alike."""

    limits: tuple[int, int]

    def fill(self, size: int = 0) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self.limits[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


@contextmanager
def _a_disk() -> Iterator[Disk]:
    disk = Disk(resource.getrlimit(resource.RLIMIT_FSIZE))
    try:
        yield disk
    finally:
        disk.free()


def _when_step_is_done(number: int, action: Callable[[], Any], patch: pytest.MonkeyPatch) -> None:
    report = Trainer._report

    def reported(trainer: Trainer, *arguments: Any) -> None:
        if trainer.progress.step == number:
            action()
        report(trainer, *arguments)

    patch.setattr(Trainer, "_report", reported)


def _one_message(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1 and "Traceback" not in said.err + said.out, said.err
    return said.err


def _half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".new" in path.name]


# Metrics, log and events; a checkpoint; a picture of the evaluation after step 4; the cut of a line.
@pytest.mark.parametrize("size", [0, 40, 3_000, 20_000])
@pytest.mark.parametrize("step", [3, 4])
def test_a_disk_that_fills_up_in_training_leaves_what_was_saved(
    step: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = tiny_settings(write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2}), run)
    with _a_disk() as disk, monkeypatch.context() as patch:
        _when_step_is_done(step, lambda: disk.fill(size), patch)
        code = run_cli(["train", *settings], patch)
    said = _one_message(capsys)
    assert code == 1 and "File too large" in said and str(run) in said
    assert "whole" in said and ("raise it (ulimit -f)" in said or "make room" in said)
    last = Checkpoint.open(run / "checkpoints/last")
    assert last.progress["step"] == 2 and last.weights() and last.trainer_state()
    assert not _half_written(run)
    assert run_cli(["train", run, "--resume"], monkeypatch) == 0
    assert [line["step"] for line in read_training_records(run / "metrics.jsonl") if line["kind"] == "train"] == [
        1,
        2,
        3,
        4,
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "val"])
def test_data_that_vanishes_in_training_is_named(
    split: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    settings = tiny_settings(
        data, run, f"num_workers={workers}", "train.cache_features=false", "scheduler.total_iter=12"
    )
    with monkeypatch.context() as patch:
        _when_step_is_done(3, lambda: (data / split).rename(tmp_path / "away"), patch)
        assert run_cli(["train", *settings], patch) == 1
    said = _one_message(capsys)
    assert f"{data / split}/" in said and "no such file" in said
    last = Checkpoint.open(run / "checkpoints/last")
    # Processes that read ahead may have had a few more batches.
    assert last.progress["step"] >= 2 and last.weights() and not _half_written(run)
    (tmp_path / "away").rename(data / split)
    assert run_cli(["train", run, "--resume", "num_workers=0"], monkeypatch) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_tiny_run(tmp_path_factory, {"train": 2, "val": 3}, "scheduler.total_iter=1")


@pytest.fixture
def copied(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Data and run, free to be spoilt."""
    data, run = finished
    return shutil.copytree(data, tmp_path / "data"), shutil.copytree(run, tmp_path / "run")


def _when_written(number: int, action: Callable[[], Any], patch: pytest.MonkeyPatch) -> None:
    """The action after so many images of ``predict`` are written."""
    write, written = PredictionJob.write, []

    def wrote(job: PredictionJob, *arguments: Any) -> Any:
        if len(written) == number:
            action()
        written.append(1)
        return write(job, *arguments)

    patch.setattr(PredictionJob, "write", wrote)


@pytest.mark.parametrize("size", [0, 100])
def test_a_disk_that_fills_up_in_prediction_leaves_whole_outputs(
    size: int,
    copied: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (data, run), out = copied, tmp_path / "out"
    command = ["predict", run, data / "val/images", "--out", out]
    with _a_disk() as disk, monkeypatch.context() as patch:
        _when_written(1, lambda: disk.fill(size), patch)
        code = run_cli(command, patch)
    said = _one_message(capsys)
    assert code == 1 and f"{out}/labels/val_1.png: File too large" in said and "finished before is whole" in said
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["labels/val_0.png", "overlays/val_0.png"]
    for file in files:
        with Image.open(out / file) as picture:
            picture.load()
    assert run_cli(command, monkeypatch) == 0
    assert "2 predicted, 1 already there" in capsys.readouterr().out


def test_images_that_vanish_in_prediction_are_recorded_and_the_others_whole(
    copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (data, run), out = copied, tmp_path / "out"
    images, opened = data / "val/images", PredictionJob.open

    def vanished(job: PredictionJob, image: Any) -> Any:
        if image.name == "val_1" and images.exists():
            images.rename(tmp_path / "away")
        return opened(job, image)

    command = ["predict", run, images, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(PredictionJob, "open", vanished)
        assert run_cli(command, patch) == 1
    said = capsys.readouterr()
    assert "1 predicted, 2 failed" in said.out and "Traceback" not in said.err
    assert said.err.count("error: ") == 2 and all(
        f"{images}/val_{number}.png: No such file" in said.err for number in (1, 2)
    )
    assert [path.name for path in (out / "labels").iterdir()] == ["val_0.png"] and not _half_written(out)
    (tmp_path / "away").rename(images)
    assert run_cli(command, monkeypatch) == 0
    assert "2 predicted, 1 already there" in capsys.readouterr().out


# The smallest of the files; one in the middle; all but the largest.
@pytest.mark.parametrize("size", [0, 200, 1_000])
def test_a_disk_that_fills_up_in_evaluation_leaves_no_figures_that_look_whole(
    size: int, copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = copied
    write = evaluate.write_evaluation
    with _a_disk() as disk, monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_evaluation", lambda *arguments: (disk.fill(size), write(*arguments)))
        code = run_cli(["eval", run], patch)
    said = _one_message(capsys)
    assert code == 1 and f"{run}/eval/val/" in said and "File too large" in said
    assert not (run / "eval/val/metrics.json").exists() and not _half_written(run)
    assert run_cli(["report", run, "--max-images", "0"], monkeypatch) == 1
    assert "split val is not evaluated yet" in capsys.readouterr().err
    assert run_cli(["eval", run], monkeypatch) == 0


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("workers", [0, 2])
def test_data_that_vanishes_in_evaluation_leaves_the_figures_before(
    workers: int,
    kind: str,
    copied: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = copied
    figures = {path: path.read_bytes() for path in (run / "eval/val").iterdir()}
    count = evaluate.evaluate

    def vanished(*arguments: Any, **options: Any) -> Any:
        (data / "val" / kind).rename(tmp_path / "away")
        return count(*arguments, **options)

    monkeypatch.setattr(evaluate, "evaluate", vanished)
    assert run_cli(["eval", run, f"datasets.root={data}", f"num_workers={workers}"], monkeypatch) == 1
    said = _one_message(capsys)
    assert f"{data}/val/{kind}/val_0.png: no such file" in said
    assert {path: path.read_bytes() for path in (run / "eval/val").iterdir()} == figures


@pytest.mark.parametrize("size", [0, 200, 3000])
def test_a_disk_that_fills_up_below_the_feature_cache(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1})
    cache = ["train.cache_features=true", f"train.cache_folder={tmp_path / 'features'}"]
    fill = dinoseg.verbs.train.fill_feature_cache
    with _a_disk() as disk, monkeypatch.context() as patch:

        def full(*arguments: Any) -> None:
            disk.fill(size)
            fill(*arguments)

        patch.setattr("dinoseg.verbs.train.fill_feature_cache", full)
        assert run_cli(["train", *tiny_settings(data, tmp_path / "run", *cache)], patch) == 1
    said = _one_message(capsys)
    assert "File too large; make room there, give a train.cache_folder on another disk" in said
    assert not list((tmp_path / "features").rglob("*.safetensors")) and not (tmp_path / "run").exists()
