"""Trainings that read features from the cache, through the command line."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dinoseg.run_folder.folder import RunFolder
from dinoseg.training.loop import Trainer
from tests.helpers.tiny import run_cli, tiny_settings, write_tiny_dataset

HEADS = {
    "linear": [],
    "dense": ["decoder_head.type=dense", "decoder_head.stem_widths=[8,8,16,16]", "model.backbone_scale=1.5"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data"), {"train": 5, "val": 2})


def settings(data: Path, run: Path, *more: str) -> list[str]:
    cached = ["train.cache_features=true", f"train.cache_folder={run.parent / 'features'}", "eval.mode=whole"]
    return tiny_settings(data, run, *cached, "transforms.train.rotation=30", *more)


def weights(run: Path, name: str = "last") -> dict[str, bytes]:
    stored = load_file(run / "checkpoints" / name / "model.safetensors")
    return {key: tensor.numpy().tobytes() for key, tensor in stored.items()}


def losses(run: Path) -> list[float]:
    lines = RunFolder(run).metrics.read_text().splitlines()
    return [float(line.split('"loss": ')[1].split(",")[0]) for line in lines if '"loss": ' in line]


@pytest.mark.parametrize("head", HEADS)
def test_a_resumed_run_is_the_undisturbed_one(
    head: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run_cli(["train", *settings(data, whole, *HEADS[head])], monkeypatch) == 0
    assert "features     computed once" in capsys.readouterr().out
    # The second one finds the features of the first, and stops half way.
    assert run_cli(["train", *settings(data, stopped, *HEADS[head], "num_workers=2")], monkeypatch) == 0
    assert weights(stopped) == weights(whole)
    shutil.rmtree(stopped)
    with monkeypatch.context() as patch:
        report = Trainer._report

        def reported(trainer: Trainer, *arguments: Any) -> None:
            report(trainer, *arguments)
            if trainer.progress.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(Trainer, "_report", reported)
        assert run_cli(["train", *settings(data, stopped, *HEADS[head])], patch) == 0
    assert "stopped after step 3" in capsys.readouterr().out
    # Features that vanish between two lives of a run are computed anew.
    shutil.rmtree(tmp_path / "features")
    assert run_cli(["train", stopped, "--resume"], monkeypatch) == 0
    assert weights(stopped) == weights(whole)
    assert losses(stopped) == losses(whole)


def test_prediction_needs_no_cache(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert run_cli(["train", *settings(data, run, *HEADS["dense"])], monkeypatch) == 0
    shutil.rmtree(tmp_path / "features")
    assert run_cli(["eval", run], monkeypatch) == 0
    assert run_cli(["predict", run, data / "val" / "images", "--out", tmp_path / "out"], monkeypatch) == 0
    assert len(list((tmp_path / "out" / "labels").glob("*.png"))) == 2
    capsys.readouterr()
    recorded = RunFolder(run).read_config()
    assert recorded.train.cache_features is True and recorded.model.backbone_scale == 1.5


def test_a_trained_backbone_has_no_cache(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["train", *settings(data, tmp_path / "run", "model.mode=full")], monkeypatch) == 1
    assert "train.cache_features=true with model.mode=full" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "features").write_text("a file where a folder should be")
    assert run_cli(["train", *settings(data, tmp_path / "run")], monkeypatch) == 1
    error = capsys.readouterr().err
    assert "features" in error and "train.cache_folder" in error and "train.cache_features=false" in error
    assert not (tmp_path / "run").exists()


def test_the_cache_is_listed_and_cleared(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--folder", tmp_path / "features"]
    assert run_cli(["cache", *place], monkeypatch) == 0
    assert "no features there" in capsys.readouterr().out
    assert run_cli(["train", *settings(data, tmp_path / "run")], monkeypatch) == 0
    capsys.readouterr()
    assert run_cli(["cache", *place], monkeypatch) == 0
    assert "tiny_vit8" in capsys.readouterr().out
    assert run_cli(["cache", "nothing", "--clear", *place], monkeypatch) == 1
    assert "`dinoseg cache` lists them" in capsys.readouterr().err
    assert run_cli(["cache", "--clear", *place], monkeypatch) == 0
    assert "features of 7 images removed" in capsys.readouterr().out
