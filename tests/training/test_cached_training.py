"""Trainings that read features from the cache, through the command line."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dinoseg.backbone import build_backbone
from dinoseg.features.store import CachedFeatures
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


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/proc/x/y", "no folder can be made in /proc (No such file or directory)"),
        ("file", "file is a file, not a folder"),
        ("file/below/it", "file is a file, not a folder"),
        ("link/below", "link is a link to nowhere"),
        ("read-only/new", "read-only (Read-only file system)"),
    ],
)
def test_a_cache_folder_that_cannot_be_made_is_named(
    folder: str,
    said: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "read-only").mkdir()
    _refuse_below(tmp_path / "read-only", errno.EROFS, monkeypatch)
    given = f"train.cache_folder={tmp_path / folder}"
    assert run_cli(["train", *settings(data, tmp_path / "run", given)], monkeypatch) == 1
    error = capsys.readouterr().err
    assert f"error: train.cache_folder {tmp_path / folder}: " in error and said in error
    assert "; give another train.cache_folder, or train.cache_features=false" in error and "room" not in error
    assert not (tmp_path / "run").exists()


def test_the_default_cache_folder_that_cannot_be_made_is_named_with_its_key(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/x")
    assert run_cli(["train", *tiny_settings(data, tmp_path / "run", "train.cache_features=true")], monkeypatch) == 1
    assert (
        "error: train.cache_folder (by default) /proc/x/dinoseg/features: no folder can be" in capsys.readouterr().err
    )


def test_a_full_disk_of_the_cache_asks_for_room(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "features").mkdir()
    _refuse_below(tmp_path / "features", errno.ENOSPC, monkeypatch)
    assert run_cli(["train", *settings(data, tmp_path / "run")], monkeypatch) == 1
    assert "No space left on device; make room there, give a train.cache_folder on another" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def _refuse_below(folder: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system makes no folder below this one, as on a disk that is full or mounted for reading."""
    mkdir = os.mkdir

    def refused(path: Any, *arguments: Any, **options: Any) -> None:
        if folder in Path(path).parents:
            raise OSError(code, os.strerror(code), str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refused)


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
    assert "features of 7 pictures removed" in capsys.readouterr().out


def test_the_plan_stands_before_the_pass_over_the_images(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def broken_off(trainer: Trainer, *others: Any) -> None:
        raise ValueError("the pass is broken off")

    with monkeypatch.context() as patch:
        patch.setattr("dinoseg.verbs.train.fill_feature_cache", broken_off)
        assert run_cli(["train", *settings(data, run)], patch) == 1
    captured = capsys.readouterr()
    assert "images       5 train, 2 val" in captured.out and "broken off" in captured.err
    assert not run.exists() or not any(path.name != ".lock" for path in run.iterdir())
    assert run_cli(["train", *settings(data, run)], monkeypatch) == 0
    assert capsys.readouterr().out.count("images       5 train, 2 val") == 1
    assert (run / "train.log").read_text().count("images       5 train, 2 val") == 1


def test_the_plan_says_where_validation_reads_no_cache(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["train", *settings(data, tmp_path / "whole")], monkeypatch) == 0
    assert "of validation in each evaluation" not in capsys.readouterr().out
    assert run_cli(["train", *settings(data, tmp_path / "slide"), "eval.mode=slide"], monkeypatch) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert "of validation in each evaluation (once, too, with eval.mode=whole)" in said


def test_training_measures_augmented_predictions_as_eval_does(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the cache is asked for or settled on: features are turned with the image in both, or in neither."""
    augmented = ["eval.use_tta=true", "transforms.eval.tta_right_angle_rotations=true"]
    weights_file = tmp_path / "weights.safetensors"
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match="random initialisation"):
        save_file(build_backbone("tiny_vit8", "none").model.state_dict(), weights_file)
    for name, cache in (("asked", ["train.cache_features=true"]), ("settled", [])):
        run = tmp_path / name
        options = [option for option in settings(data, run, *HEADS["dense"]) if "cache_features" not in option]
        options = [*options, *cache, *augmented, f"model.weights={weights_file}"]
        assert run_cli(["train", *options], monkeypatch) == 0
        trained = json.loads((run / "eval" / "val" / "metrics.json").read_text())
        assert trained["policy"]["window"]["tta"]["backbone_once"] is True
        assert run_cli(["eval", run], monkeypatch) == 0
        evaluated = json.loads((run / "eval" / "val" / "metrics.json").read_text())
        assert evaluated["mIoU"] == pytest.approx(trained["mIoU"], abs=0.5)
        assert evaluated["policy"] == trained["policy"]


def test_features_damaged_while_a_training_runs_are_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = CachedFeatures.sample

    def damaged(self: CachedFeatures, *arguments: Any) -> Any:
        found = source(self, *arguments)
        return found._replace(maps=[layer.fill_(float("nan")) for layer in found.maps])

    with monkeypatch.context() as patch:
        patch.setattr(CachedFeatures, "sample", damaged)
        assert run_cli(["train", *settings(data, tmp_path / "run", *HEADS["dense"])], patch) == 1
    error = capsys.readouterr().err
    assert "step 1: features of " in error and "in the cache were damaged" in error and "--resume" in error


@pytest.mark.parametrize("replaced", [False, True])
def test_an_image_that_is_replaced_meanwhile_ends_the_training(
    replaced: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is copied over itself does not."""
    copied = shutil.copytree(data, tmp_path / "data")
    image = copied / "train/images/train_3.png"
    before = Trainer._validate

    def replace_then_validate(trainer: Trainer, *given: Any) -> None:
        os.utime(image, ns=(1, 1))
        if replaced:
            shutil.copyfile(copied / "train/images/train_1.png", image)
        before(trainer, *given)

    monkeypatch.setattr(Trainer, "_validate", replace_then_validate)
    code = run_cli(["train", *settings(copied, tmp_path / "run"), "scheduler.total_iter=2"], monkeypatch)
    said = capsys.readouterr().err
    assert code == int(replaced)
    if replaced:
        assert f"{image}: changed or removed since the training began" in said and "go on with --resume" in said
