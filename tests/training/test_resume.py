"""A training that ends in any way and is resumed ends where an uninterrupted one ends, to the bit."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from rich.console import Console
from safetensors.torch import load_file, save_file

from dinoseg.backbone import build_backbone
from dinoseg.config.loading import load_config, save_config
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.checkpoint_manifest import write_contents
from dinoseg.run_folder.lock import locked_run
from dinoseg.training import loop
from dinoseg.training.loop import Trainer
from dinoseg.verbs.train import Start, train

HEADS = {
    "linear": [],
    "dense, cached": [
        "decoder_head.type=dense",
        "decoder_head.stem_widths=[8,8,8,16]",
        "model.backbone_scale=1.5",
        "train.cache_features=true",
        "train.ema_decay=0.5",
        "transforms.train.elastic=2",
        "transforms.train.noise=0.1",
        "eval.mode=whole",
    ],
    "m2f": [
        "decoder_head.type=m2f",
        "decoder_head.hidden_dim=32",
        "decoder_head.num_heads=2",
        "decoder_head.num_queries=6",
        "decoder_head.encoder_layers=1",
        "decoder_head.decoder_layers=3",
        "decoder_head.adapter_inplane=4",
        "decoder_head.encoder_ffn_dim=32",
        "decoder_head.decoder_ffn_dim=32",
        "m2f_train.num_points=64",
    ],
    "pmt, cached": [
        "decoder_head.type=pmt",
        "train.cache_features=true",
        "eval.mode=whole",
        "decoder_head.num_queries=6",
        "decoder_head.decoder_layers=3",
        "decoder_head.decoder_ffn_dim=32",
        "train.ema_decay=0.5",
        "m2f_train.num_points=64",
    ],
    "eomt": [
        "decoder_head.type=eomt",
        "decoder_head.num_queries=6",
        "decoder_head.decoder_layers=2",
        "model.drop_path=0.2",
        "train.ema_decay=0.5",
        "m2f_train.num_points=64",
    ],
}
LAST_STEP = [
    "scheduler.total_iter=6",
    "eval.eval_interval=3",
    "train.accumulation_steps=2",
    "train.checkpoint_interval=2",
]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package catches it."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, and the uninterrupted runs that ``_whole`` makes there."""
    folder = tmp_path_factory.mktemp("resume")
    write_tiny_dataset(folder / "data", {"train": 5, "val": 2})
    return folder


def _whole(base: Path, head: str) -> Path:
    """The uninterrupted run of a head, trained when it is first asked for."""
    run = base / f"whole-{head}"
    if not run.exists():
        _train(_settings(base, run, head))
    return run


def _settings(base: Path, run: Path, head: str, *more: str) -> list[str]:
    return tiny_settings(base / "data", run, *LAST_STEP, *HEADS[head], *more)


def _train(settings: list[str], how: str | None = None) -> None:
    train(load_config(settings), Console(quiet=True), Start(how))


def _figures(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("images_per_second", "data_wait_share")} for line in lines]


def _assert_equal_runs(whole: Path, parts: Path) -> None:
    for name in ("last", "best"):
        first, second = (load_file(run / "checkpoints" / name / "model.safetensors") for run in (whole, parts))
        assert first.keys() == second.keys()
        assert not {key for key in first if not torch.equal(first[key], second[key])}, name
        assert Checkpoint(whole / "checkpoints" / name).progress == Checkpoint(parts / "checkpoints" / name).progress
    assert _figures(whole) == _figures(parts)
    assert (whole / "eval/val/metrics.json").read_text() == (parts / "eval/val/metrics.json").read_text()
    assert sorted(path.name for path in (parts / "checkpoints").iterdir()) == ["best", "last", "previous"]
    assert [path.name for path in parts.rglob(".*")] == [".lock"]


def _once(patch: pytest.MonkeyPatch, method: str, when: Callable[..., bool], action: Callable[[], None]) -> None:
    """Lets the action happen before the first call of a Trainer's method for which ``when`` holds."""
    original, done = getattr(Trainer, method), []

    def wrapped(trainer: Trainer, *arguments: Any) -> Any:
        if not done and when(trainer, *arguments):
            done.append(True)
            action()
        return original(trainer, *arguments)

    patch.setattr(Trainer, method, wrapped)


def _kill() -> None:
    raise Killed


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# Where the training ends: Trainer's method, before which of its calls, how, and the step that resume goes on from.
ENDS: dict[str, tuple[str, Callable[..., bool], Callable[[], None], int]] = {
    "SIGTERM in a step": ("_report", lambda trainer, *_: trainer.progress.step == 1, _terminate, 1),
    "SIGTERM in an evaluation": ("_see_image", lambda trainer, *_: trainer.progress.step == 3, _terminate, 3),
    "SIGTERM in the last evaluation": ("_see_image", lambda trainer, *_: trainer.progress.step == 6, _terminate, 6),
    "kill in a step": ("_report", lambda trainer, *_: trainer.progress.step == 5, _kill, 4),
    "kill before any best": ("save", lambda trainer, name: name == "best", _kill, 2),
    "kill between best and last": (
        "save",
        lambda trainer, name: name == "last" and trainer.progress.step == 3,
        _kill,
        2,
    ),
}


# The loop is one for all heads; what a head brings to it is met by a few ends.
@pytest.mark.parametrize(
    ("head", "end"),
    [
        *(("linear", end) for end in ENDS),
        *(("dense, cached", end) for end in ("SIGTERM in a step", "kill in a step", "kill between best and last")),
        *(("m2f", end) for end in ("SIGTERM in a step", "SIGTERM in an evaluation", "kill between best and last")),
        ("pmt, cached", "SIGTERM in an evaluation"),
        ("eomt", "kill in a step"),
    ],
)
def test_ended_and_resumed_equals_uninterrupted(
    head: str, end: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, when, action, resumed_step = ENDS[end]
    # Workers are no part of what is drawn: those of a run may change at every restart.
    workers = "num_workers=2" if end in ("SIGTERM in a step", "kill in a step") else "num_workers=0"
    run = tmp_path / "parts"
    with monkeypatch.context() as patch:
        _once(patch, method, when, action)
        if action is _kill:
            with pytest.raises(Killed):
                _train(_settings(base, run, head))
        else:
            _train(_settings(base, run, head))
    assert Checkpoint(run / "checkpoints" / "last").progress["step"] == resumed_step
    _train([f"config={run / 'config.yaml'}", workers], "last")
    _assert_equal_runs(_whole(base, head), run)


def test_a_training_starts_resumes_and_finishes_with_one_command(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "new"
    settings = ["train", *_settings(base, run, "linear"), "--resume", "auto"]
    with monkeypatch.context() as patch:
        _once(patch, "_report", lambda trainer, *_: trainer.progress.step == 1, _terminate)
        assert run_cli(settings, monkeypatch) == 0
    assert f"go on with: dinoseg train {run} --resume" in capsys.readouterr().out
    assert run_cli(["train", run, "--resume", "train.log_interval=5"], monkeypatch) == 0
    assert "done: best mIoU" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert run_cli([*settings, "train.log_interval=5"], monkeypatch) == 0
    assert "done: best mIoU" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def test_nothing_to_resume_is_said_with_what_to_do(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, started = tmp_path / "empty", tmp_path / "started"
    empty.mkdir()
    started.mkdir()
    save_config(load_config(_settings(base, started, "linear")), started / "config.yaml")
    cases = [
        (["train", empty, "--resume"], ["empty", "no config.yaml in it", "dinoseg train config=FILE"]),
        (["train", started, "--resume"], ["started", "ended before its first checkpoint", "--resume auto"]),
        (["train", started, "--resume", "best"], ["checkpoints/best", "no checkpoint there", "plain --resume"]),
        (["train", started, empty, "--resume"], ["give one run folder"]),
    ]
    for arguments, parts in cases:
        assert run_cli(arguments, monkeypatch) == 1
        error = capsys.readouterr().err
        assert not [part for part in parts if part not in error], error


@pytest.fixture
def stopped(base: Path, tmp_path: Path) -> Path:
    """A copy of the finished linear run: damaged, changed or resumed as a test likes."""
    run = tmp_path / "run"
    shutil.copytree(_whole(base, "linear"), run)
    return run


def test_a_changed_config_is_refused_by_name_with_both_values(base: Path, stopped: Path) -> None:
    changed = ["optimizer.lr=0.5", "seed=1", "eval.blend=hann", "eval.cldice=[class_1]", "num_workers=1"]
    with pytest.raises(ValueError) as met:
        _train(_settings(base, stopped, "linear", *changed), "last")
    message = str(met.value)
    assert "optimizer.lr: 0.001 in the run, 0.5 now" in message
    assert "seed: 100 in the run, 1 now" in message
    assert "eval.blend: uniform in the run, hann now; it decides which checkpoint is best; `dinoseg eval" in message
    assert "num_workers" not in message and "cldice" not in message
    assert "load_from=" in message


def test_other_images_or_batches_are_refused(base: Path, stopped: Path, tmp_path: Path) -> None:
    _lose_last(stopped)
    shutil.copytree(base / "data", tmp_path / "moved")
    settings = [f"config={stopped / 'config.yaml'}", f"output_dir={stopped}", f"datasets.root={tmp_path / 'moved'}"]
    with pytest.raises(ValueError, match=r"images per batch: 2 in the run, 3 now; bs times the number of processes"):
        _train([*settings, "bs=3"], "last")
    for kind in ("images", "masks"):
        shutil.copy(tmp_path / f"moved/train/{kind}/train_0.png", tmp_path / f"moved/train/{kind}/copy.png")
    with pytest.raises(ValueError, match=r"train images: 5 \(SHA-256 .*\) in the run, 6 \(.*give back the images"):
        _train(settings, "last")


def test_another_backbone_is_refused(base: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"weights-{seed}.safetensors" for seed in (0, 1)]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        save_file(build_backbone("tiny_vit8", weights="none").model.state_dict(), file)
    run = tmp_path / "run"
    _train(_settings(base, run, "linear", f"model.weights={files[0]}", "scheduler.total_iter=2"))
    _lose_last(run)
    settings = [f"config={run / 'config.yaml'}"]
    with pytest.raises(ValueError, match=r"trained on other weights of tiny_vit8 than model.weights=.*weights-1"):
        _train([*settings, f"model.weights={files[1]}"], "last")
    shutil.copy(files[0], tmp_path / "moved.safetensors")
    _train([*settings, f"model.weights={tmp_path / 'moved.safetensors'}"], "last")


def test_a_run_that_holds_its_backbone_goes_on_with_it_whatever_weights_are_given(base: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"weights-{seed}.safetensors" for seed in (0, 1)]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        save_file(build_backbone("tiny_vit8", weights="none").model.state_dict(), file)
    run, whole = tmp_path / "run", tmp_path / "whole"
    more = [f"model.weights={files[0]}", "model.save_backbone=true", "train.cache_features=true"]
    more += [f"train.cache_folder={tmp_path / 'cache'}", "scheduler.total_iter=3", "eval.mode=whole"]
    for folder in (run, whole):
        _train(_settings(base, folder, "linear", *more))
    _lose_last(run)
    lines = [f"config={run / 'config.yaml'}", f"model.weights={files[1]}", "model.save_backbone=false"]
    _train(lines, "previous")
    ours, theirs = (Checkpoint(folder / "checkpoints" / "last") for folder in (run, whole))
    assert ours.metadata["backbone_sha256"] == theirs.metadata["backbone_sha256"] and ours.holds_backbone
    first, second = ours.weights(), theirs.weights()
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_without_best_names_the_checkpoint_that_is_there(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(stopped / "checkpoints" / "best")
    assert run_cli(["train", stopped, "--resume"], monkeypatch) == 0
    assert f"next: dinoseg eval {stopped} --checkpoint last" in capsys.readouterr().out


def _lose_last(run: Path) -> None:
    """Makes a finished run one whose last checkpoint is lost."""
    shutil.rmtree(run / "checkpoints" / "last")


def test_a_damaged_last_is_named_and_the_previous_goes_on(
    base: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = stopped / "checkpoints" / "last" / "model.safetensors"
    progress = Checkpoint(weights.parent).progress | {"evaluated_step": 3}
    write_contents(weights.parent, ("model.safetensors", "trainer.pt"), progress)
    weights.write_bytes(weights.read_bytes()[:100])
    assert run_cli(["train", stopped, f"output_dir={stopped}", "--resume"], monkeypatch) == 1
    error = capsys.readouterr().err
    assert "last/model.safetensors: damaged: 100 bytes found" in error and "--resume previous" in error
    assert run_cli(["train", stopped, "--resume", "previous"], monkeypatch) == 0
    assert "going on from checkpoints/previous, step 6" in capsys.readouterr().out
    _assert_equal_runs(_whole(base, "linear"), stopped)


def test_best_alone_goes_on_and_so_does_a_second_restart(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        _once(patch, "save", lambda trainer, name: name == "last", _kill)
        _train(_settings(base, run, "linear", "train.checkpoint_interval=null"))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["best"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        _once(patch, "run", lambda *_: True, _kill)
        _train([f"config={run / 'config.yaml'}"], "auto")
    assert Checkpoint(run / "checkpoints" / "last").progress["step"] == 3
    _train([f"config={run / 'config.yaml'}"], "auto")
    _assert_equal_runs(_whole(base, "linear"), run)


def test_best_is_never_replaced_by_a_worse_model(base: Path, stopped: Path) -> None:
    best = stopped / "checkpoints" / "best"
    write_contents(best, ("model.safetensors", "trainer.pt"), Checkpoint(best).progress | {"best_metric": 99.0})
    before = (best / "model.safetensors").read_bytes()
    _train([f"config={stopped / 'config.yaml'}", f"output_dir={stopped}"], "previous")
    assert (best / "model.safetensors").read_bytes() == before
    assert Checkpoint(stopped / "checkpoints" / "last").progress["best_metric"] == 99.0


def test_a_damaged_best_is_written_anew(stopped: Path) -> None:
    weights = stopped / "checkpoints" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    # ``previous`` is of the last step, before its evaluation.
    _train([f"config={stopped / 'config.yaml'}", f"output_dir={stopped}"], "previous")
    assert Checkpoint(weights.parent).progress["step"] == 6
    assert load_file(weights).keys() == load_file(stopped / "checkpoints/last/model.safetensors").keys()


def test_a_damaged_checkpoint_is_named_when_predicting(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = stopped / "checkpoints" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert run_cli(["eval", stopped], monkeypatch) == 1
    assert "best/model.safetensors: damaged" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_read(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"output_dir=.*new: .* cannot be written to; give another output_dir"):
        _train(_settings(tmp_path / "no data here", tmp_path / "new", "linear"))


def test_a_loss_that_is_not_finite_stops_and_names_the_images(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert run_cli(["train", *_settings(base, run, "linear", "train.celoss_weight=1e39")], monkeypatch) == 1
    error = capsys.readouterr().err
    assert "step 1: the loss is not finite" in error and "train_" in error and "optimizer.lr" in error
    assert not list(run.glob("checkpoints/*"))


def test_an_evaluation_is_broken_off_before_its_next_image(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Trainer, "_see_image", lambda trainer, sample, prediction: (seen.append(1), _terminate()))
    monkeypatch.setattr(loop, "write_evaluation", lambda *arguments: pytest.fail("nothing of it counts"))
    _train(_settings(base, tmp_path / "run", "linear"))
    assert len(seen) == 1


@pytest.mark.parametrize("resumed", [False, True])
def test_a_second_training_in_one_folder_is_refused_and_nothing_is_lost(
    resumed: bool, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with locked_run(run):
        before = sorted(path.name for path in run.iterdir())
        assert run_cli(["train", *_settings(base, run, "linear"), *(["--resume", "auto"] * resumed)], monkeypatch) == 1
        assert f"{run}: another training is at work there (process {os.getpid()} on" in capsys.readouterr().err
        assert sorted(path.name for path in run.iterdir()) == before
    assert run_cli(["train", *_settings(base, run, "linear")], monkeypatch) == 0
