"""A training that is stopped and resumed ends where an uninterrupted one ends, to the bit."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import run_cli, tiny_settings, write_tiny_dataset

from dinoseg.training.loop import Trainer


def _figures(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("images_per_second", "data_wait_share")} for line in lines]


@pytest.mark.parametrize(
    "more",
    [
        ["num_workers=2", "train.accumulation_steps=2"],
        [
            "decoder_head.type=m2f",
            "decoder_head.hidden_dim=32",
            "decoder_head.num_queries=6",
            "m2f_train.num_points=64",
        ],
    ],
    ids=["linear", "m2f"],
)
def test_stopped_and_resumed_equals_uninterrupted(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 5, "val": 2})
    small = [
        "scheduler.total_iter=6",
        "eval.eval_interval=2",
        "decoder_head.encoder_layers=1",
        "decoder_head.decoder_layers=3",
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_cli(["train", *tiny_settings(data, whole, *small, *more)], monkeypatch) == 0

    report = Trainer._report

    def stop_after_three(trainer: Trainer, *arguments: Any) -> None:
        report(trainer, *arguments)
        if trainer.progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_report", stop_after_three)
        assert run_cli(["train", *tiny_settings(data, parts, *small, *more)], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "stopped after step 3" in printed and "--resume" in printed
    assert run_cli(["train", f"config={parts / 'config.yaml'}", "--resume"], monkeypatch) == 0

    for name in ("last", "best"):
        first, second = (load_file(run / "checkpoints" / name / "model.safetensors") for run in (whole, parts))
        assert first.keys() == second.keys()
        assert not {key for key in first if not torch.equal(first[key], second[key])}, name
    assert _figures(whole) == _figures(parts)


def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "run"
    assert run_cli(["train", *tiny_settings(data, run, "scheduler.total_iter=1")], monkeypatch) == 0
    weights = run / "checkpoints" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert run_cli(["eval", run], monkeypatch) == 1
    assert "best/model.safetensors: damaged" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_and_names_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "run"
    settings = tiny_settings(data, run, "train.celoss_weight=.inf", "scheduler.total_iter=1")
    assert run_cli(["train", *settings], monkeypatch) == 1
    error = capsys.readouterr().err
    assert "step 1: the loss is not finite" in error and "train_0" in error and "optimizer.lr" in error
    assert not list((run / "checkpoints").glob("*")) if (run / "checkpoints").exists() else True
