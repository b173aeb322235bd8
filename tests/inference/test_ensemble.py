"""Several runs as one: the mean of what each says alone, refused where they do not speak of the same classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image

import dinoseg
from dinoseg.system.files import file_sha256

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")

CLASSES = "datasets.classes={0: back, 1: red, 2: green}"
SMALL_M2F = [
    "decoder_head.type=m2f",
    "decoder_head.hidden_dim=32",
    "decoder_head.num_heads=2",
    "decoder_head.num_queries=8",
    "decoder_head.encoder_layers=1",
    "decoder_head.decoder_layers=1",
    "decoder_head.adapter_inplane=4",
    "m2f_train.num_points=64",
]
# Heads, windows and augmentation of the runs that are averaged.
RUNS = {
    "slide": ["eval.crop_size=24", "eval.stride=16", "eval.blend=hann"],
    "whole": [*SMALL_M2F, "eval.mode=whole", "transforms.eval.img_size=48"],
    "augmented": ["eval.use_tta=true", "transforms.eval.tta_ratios=[0.75, 1.0]", "seed=5"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and the runs on it."""
    base = tmp_path_factory.mktemp("ensemble")
    write_tiny_dataset(base / "data", {"train": 4, "val": 2, "test": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        for name, settings in RUNS.items():
            given = tiny_settings(base / "data", base / name, CLASSES, "scheduler.total_iter=2", *settings)
            assert run_cli(["train", *given], patch) == 0
    return base


def _images(base: Path) -> list[Path]:
    return sorted((base / "data/test/images").iterdir())


def _probabilities(run: Path, image: Path) -> np.ndarray:
    """By hand, of what a run says alone."""
    scores = dinoseg.load(run, device="cpu").scores(image).astype(np.float64)
    if run.name == "slide":
        scores = np.exp(scores - scores.max(axis=0))
    return scores / scores.sum(axis=0)


@pytest.mark.parametrize("names", [("slide", "whole"), ("whole", "augmented"), ("slide", "augmented", "whole")])
def test_the_ensemble_is_the_mean_of_each_runs_probabilities(names: tuple[str, ...], finished: Path) -> None:
    segmenter = dinoseg.load([finished / name for name in names], device="cpu")
    for image in _images(finished):
        by_hand = np.mean([_probabilities(finished / name, image) for name in names], axis=0)
        result = segmenter.predict(image, scores=True)
        assert result.scores is not None
        np.testing.assert_allclose(result.scores, by_hand, atol=1e-5)
        np.testing.assert_allclose(result.scores.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(segmenter.predict(image).class_map, result.class_map)
        np.testing.assert_array_equal(result.class_map, result.scores.argmax(axis=0))


def test_predict_writes_what_the_ensemble_says(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = [finished / "slide", finished / "whole", finished / "augmented"], tmp_path / "maps"
    command = ["predict", *runs[:2], finished / "data/test/images", runs[2], "--out", out, "--device", "cpu"]
    assert run_cli(command, monkeypatch) == 0
    segmenter = dinoseg.load(runs)
    for image in _images(finished):
        found = np.asarray(Image.open(out / "labels" / image.name))
        np.testing.assert_array_equal(found, segmenter.predict(image).labels)
    capsys.readouterr()
    assert run_cli(command, monkeypatch) == 0
    assert "0 predicted, 3 already there" in capsys.readouterr().out


def test_figures_are_those_of_the_maps(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, masks = [finished / "whole", finished / "slide"], finished / "data/test/masks"
    out, maps = tmp_path / "figures", tmp_path / "maps"
    assert run_cli(["eval", *runs, "--split", "test", "--out", out], monkeypatch) == 0
    assert "test, mean of 2 runs, checkpoint best" in capsys.readouterr().out
    found = json.loads((out / "metrics.json").read_text())
    # By hand: the mean of what each says, as label maps that another tool might have written.
    maps.mkdir()
    for image in _images(finished):
        mean = np.mean([_probabilities(run, image) for run in runs], axis=0)
        Image.fromarray(mean.argmax(axis=0).astype(np.uint8)).save(maps / image.name)
    assert run_cli(["eval", "--predictions", maps, "--masks", masks, CLASSES], monkeypatch) == 0
    expected = json.loads((maps / "eval/metrics.json").read_text())
    for key in ("mIoU", "aAcc", "mDice", "per_class", "confidence"):
        assert found[key] == expected[key]
    assert found["confidence"]["mIoU"] is not None
    members = found["policy"]["members"]
    assert [member["run"] for member in members] == [str(run) for run in runs]
    assert [member["checkpoint"] for member in members] == ["best", "best"]
    weights = [run / "checkpoints/best/model.safetensors" for run in runs]
    assert [member["weights_sha256"] for member in members] == [file_sha256(path) for path in weights]
    assert members[0]["resolution"] == "short side 48, scores resized to native"
    assert members[0]["window"]["mode"] == "whole" and members[1]["window"]["crop"] == [24, 24]
    assert "window" not in found["policy"] and "resolution" not in found["policy"]


def test_figures_of_an_ensemble_are_compared(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = [finished / "slide", finished / "augmented"], tmp_path / "figures"
    evaluation = dinoseg.evaluate(runs, split="test", write=out)
    dinoseg.evaluate(runs[0], split="test", write=True)
    assert run_cli(["compare", runs[0], out, "--split", "test"], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"members: none | run {runs[0]}, checkpoint best" in said and "resolution: native | none" in said
    assert evaluation.metrics.means["mIoU"] is not None


def test_shards_of_an_ensemble_add_up(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, whole, parts = [finished / "slide", finished / "augmented"], tmp_path / "whole", tmp_path / "parts"
    dinoseg.evaluate(runs, split="test", write=whole)
    command = ["eval", *runs, "--split", "test", "--out", parts]
    for part in ("1/2", "2/2"):
        assert run_cli([*command, "--shard", part], monkeypatch) == 0
    assert run_cli([*command, "--merge"], monkeypatch) == 0
    for name in ("metrics.json", "per_class.csv", "confusion.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_images_that_a_run_learned_from_are_said(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = tmp_path / "fold"
    given = tiny_settings(
        finished / "data", fold, CLASSES, "scheduler.total_iter=1", "datasets.train=test", "datasets.test=train"
    )
    assert run_cli(["train", *given], monkeypatch) == 0
    capsys.readouterr()
    assert run_cli(["eval", finished / "slide", fold, "--split", "test", "--out", tmp_path / "out"], monkeypatch) == 0
    assert f"of the 3 images of --split test, runs learned from some: {fold} from 3;" in capsys.readouterr().err
    assert run_cli(["eval", finished / "slide", fold, "--split", "val", "--out", tmp_path / "val"], monkeypatch) == 0
    assert "learned from" not in capsys.readouterr().err
