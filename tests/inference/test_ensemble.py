"""Several runs as one: the mean of what each says alone, refused where they do not speak of the same classes."""

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image

import dinoseg

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
