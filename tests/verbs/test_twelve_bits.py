"""Pictures of 12 bits in files of 16, from training to prediction: the same as their twins of 8 bits."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image

import dinoseg
from dinoseg.data.pictures import BrighterThanWhite
from dinoseg.evaluation.evaluate import Evaluation


def twelve_bits(grey: np.ndarray) -> np.ndarray:
    """The smallest values of 12 bits that come out as these of 8: value * 4095 / 255, rounded up."""
    return -(-grey.astype(np.int64) * 4095 // 255).astype(np.uint16)


def arrays_of(data: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.array(Image.open(path)), np.array(Image.open(data / split / "masks" / f"{path.stem}.png")))
        for path in sorted((data / split / "images").iterdir())
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``eight`` and ``twelve``: data and run of both."""
    base = tmp_path_factory.mktemp("bits")
    write_tiny_dataset(base / "eight", {"train": 4, "val": 2, "test": 2})
    for path in sorted((base / "eight").glob("*/images/*.png")):
        grey = np.asarray(Image.open(path).convert("L")).copy()
        grey[0, :2] = 0, 255
        Image.fromarray(grey).save(path)
    shutil.copytree(base / "eight", base / "twelve")
    for path in (base / "twelve").glob("*/images/*.png"):
        Image.fromarray(twelve_bits(np.asarray(Image.open(path)))).save(path.with_suffix(".tif"))
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        for name in ("eight", "twelve"):
            assert run_cli(["train", *tiny_settings(base / name, base / f"run_{name}")], patch) == 0
    return base


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def test_a_run_keeps_the_white_that_the_scan_found(runs: Path) -> None:
    recorded = [yaml.safe_load((runs / f"run_{name}/config.yaml").read_text()) for name in ("eight", "twelve")]
    assert [config["datasets"]["white_level"] for config in recorded] == [None, 4095]
    log = (runs / "run_twelve" / "train.log").read_text()
    assert "8 images with 16 bits a channel, brightest value 4095" in " ".join(log.split())


def test_training_sees_what_it_sees_of_8_bits(runs: Path) -> None:
    assert losses(runs / "run_twelve") == losses(runs / "run_eight") != []


def test_evaluation_and_report_see_it_too(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("eight", "twelve"):
        run = runs / f"run_{name}"
        assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
        assert run_cli(["report", run, "--split", "test"], monkeypatch) == 0
        drawn = (run / "overlays/test/test_0/image.jpg").read_bytes()
        found.append((json.loads((run / "eval/test/metrics.json").read_text())["per_class"], drawn))
    assert found[0] == found[1]


def test_files_arrays_and_the_command_line_are_predicted_alike(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = runs / "twelve/test/images/test_0.tif"
    expected = dinoseg.load(runs / "run_eight").predict(runs / "eight/test/images/test_0.png")
    segmenter = dinoseg.load(runs / "run_twelve")
    for given in (image, np.array(Image.open(image)), Image.open(image)):
        found = segmenter.predict(given)
        np.testing.assert_array_equal(np.asarray(found.image), np.asarray(expected.image))
        np.testing.assert_array_equal(found.labels, expected.labels)
    assert run_cli(["predict", runs / "run_twelve", image, "--out", tmp_path], monkeypatch) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "labels/test_0.png")), expected.labels)
    # An option given by hand wins.
    brighter = dinoseg.load(runs / "run_twelve", overrides=["datasets.white_level=2047"])
    with pytest.warns(BrighterThanWhite, match=r"the brightest value is 4095"):
        assert np.asarray(brighter.predict(image).image).mean() > np.asarray(expected.image).mean()


def test_the_same_command_resumes_and_another_white_does_not(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = tiny_settings(runs / "twelve", run, "scheduler.type=Constant")
    assert run_cli(["train", *settings, "scheduler.total_iter=2", "eval.eval_interval=1"], monkeypatch) == 0
    capsys.readouterr()
    assert run_cli(["train", *settings, "datasets.white_level=2047", "--resume"], monkeypatch) == 1
    assert "datasets.white_level: 4095 in the run, 2047 now" in " ".join(capsys.readouterr().err.split())
    # A picture that is brighter than those the run began with changes nothing for the others.
    shutil.copytree(runs / "twelve", tmp_path / "brighter")
    picture = tmp_path / "brighter/val/images/val_0.tif"
    Image.fromarray(np.asarray(Image.open(picture)) * np.uint16(3)).save(picture)
    resumed = [*tiny_settings(tmp_path / "brighter", run, "scheduler.type=Constant"), "--resume"]
    assert run_cli(["train", *resumed, "scheduler.total_iter=2"], monkeypatch) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["datasets"]["white_level"] == 4095


def test_a_fifo_among_the_images_is_named_and_the_others_are_predicted(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(runs / "eight/test/images", images)
    os.mkfifo(images / "live.png")
    given = [images, "--out", tmp_path / "out"]
    assert run_cli(["predict", runs / "run_eight", *given], monkeypatch) == 1
    assert f"{images / 'live.png'}: a FIFO (named pipe), which is not read" in " ".join(capsys.readouterr().err.split())
    assert len(list((tmp_path / "out/labels").iterdir())) == 2
    assert run_cli(["predict", runs / "run_eight", images / "live.png", "--out", tmp_path], monkeypatch) == 1
    assert "a FIFO (named pipe)" in capsys.readouterr().err
    assert run_cli(["check", f"config={images / 'live.png'}"], monkeypatch) == 1
    assert "a FIFO (named pipe)" in capsys.readouterr().err


class Arrays(list[tuple[np.ndarray, np.ndarray]]):
    """A data set of one's own: arrays in memory."""


def test_arrays_of_16_bits_are_trained_and_evaluated_alike(runs: Path, tmp_path: Path) -> None:
    found: list[tuple[list[float], Evaluation]] = []
    for name in ("eight", "twelve"):
        train, val = (Arrays(arrays_of(runs / name, split)) for split in ("train", "val"))
        settings = [s for s in tiny_settings(tmp_path, tmp_path / name) if not s.startswith("datasets.root")]
        run = dinoseg.train(settings, train_data=train, val_data=val)
        found.append((losses(tmp_path / name), dinoseg.evaluate(run, data=val).matrix.tolist()))
    assert found[0] == found[1]
    assert yaml.safe_load((tmp_path / "twelve/config.yaml").read_text())["datasets"]["white_level"] == 4095
