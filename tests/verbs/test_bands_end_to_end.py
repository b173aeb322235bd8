"""Pictures of many bands, of floating-point grey and of arrays: check, train, resume, eval, predict, export, API."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.band_files import hidden_band, write_band_set, write_tiff
from helpers.tiny import run_cli, tiny_settings
from PIL import Image
from safetensors.torch import load_file

import dinoseg

BANDS = "datasets.bands=[4,3,2,8]"


def train(data: Path, out: Path, *more: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(out.parent / "cache"))
        patch.setenv("COLUMNS", "400")
        code = run_cli(["train", *tiny_settings(data, out), "trackers=[]", *more], patch)
    assert code == 0
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("bands")
    data = write_band_set(base / "data")
    return data, train(data, base / "run", BANDS)


def config_of(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


def labels(run: Path, image: Path, **options: object) -> np.ndarray:
    return dinoseg.load(run, device="cpu", **options).predict(image).labels


def test_the_run_keeps_what_was_measured_of_its_bands(finished: tuple[Path, Path]) -> None:
    data, run = finished
    config = config_of(run)
    files = [file for file in data.glob("*/images/*.tif")]
    read = np.concatenate([hidden_band(number)[0].astype(np.uint16).reshape(13, -1) for number in range(4)], axis=1)
    expected = read[[3, 2, 1, 7]] / config["datasets"]["white_level"]
    assert len(files) == 4 and config["datasets"]["white_level"] == 4095
    np.testing.assert_allclose(config["transforms"]["mean"], expected.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(config["transforms"]["std"], expected.std(axis=1), rtol=1e-6)
    assert config["model"]["train_bands"] is True and config["model"]["band_weights"] == "mean"


def test_the_patch_embedding_is_trained_and_saved_with_the_head(finished: tuple[Path, Path], tmp_path: Path) -> None:
    frozen = train(finished[0], tmp_path / "frozen", BANDS, "model.train_bands=false")
    name = "backbone.model.patch_embed.proj.weight"
    trained, still = (load_file(run / "checkpoints/last/model.safetensors") for run in (finished[1], frozen))
    assert trained[name].shape[1] == still[name].shape[1] == 4
    assert not torch.equal(trained[name], still[name])
    other = "backbone.model.blocks.0.attn.qkv.weight"
    assert torch.equal(trained[other], still[other])


def test_training_and_predicting_again_give_the_same(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = finished
    image = next((data / "test/images").iterdir())
    again = train(data, tmp_path / "again", BANDS)
    first, second = (load_file(folder / "checkpoints/last/model.safetensors") for folder in (run, again))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    with pytest.MonkeyPatch.context() as patch:
        assert run_cli(["export", run, tmp_path / "export"], patch) == 0
    maps = [labels(folder, image) for folder in (run, run, again, tmp_path / "export")]
    assert all(np.array_equal(maps[0], other) for other in maps[1:])
    # An export's patch embedding is taken along as the run's is.
    on = train(data, tmp_path / "on", BANDS, f"load_from={tmp_path / 'export'}", "scheduler.total_iter=0")
    assert "1 trained tensors of the backbone loaded too" in (on / "train.log").read_text(encoding="utf-8")


def test_a_resumed_training_is_the_same_bit_for_bit(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = finished
    half = tmp_path / "half"
    shutil.copytree(run, half)
    shutil.rmtree(half / "checkpoints/last")
    (half / "checkpoints/previous").rename(half / "checkpoints/last")
    settings = [f"config={run / 'config.yaml'}", f"output_dir={half}"]
    assert run_cli(["train", *settings, "datasets.bands=[4,3,2,7]", "--resume"], monkeypatch) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "datasets.bands: [4, 3, 2, 8] in the run, [4, 3, 2, 7] now; it would be another training" in said
    assert run_cli(["train", *settings, "datasets.range=p1-p99", "--resume"], monkeypatch) == 1
    assert "datasets.range: null in the run, p1-p99 now" in " ".join(capsys.readouterr().err.split())
    assert run_cli(["train", *settings, "--resume"], monkeypatch) == 0
    whole, resumed = (load_file(folder / "checkpoints/last/model.safetensors") for folder in (run, half))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_evaluation_report_and_maps_read_the_bands(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = finished
    image = next((data / "test/images").iterdir())
    assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
    assert run_cli(["report", run, "--split", "test"], monkeypatch) == 0
    values = hidden_band(3)[0].astype(np.uint16)
    placed = write_tiff(tmp_path / "maps/placed.tif", values, crs="EPSG:32633", transform=(10, 0, 5e5, 0, -10, 5e6))
    assert run_cli(["predict", run, image, placed, "--out", tmp_path / "out"], monkeypatch) == 0
    whole = np.asarray(Image.open(tmp_path / f"out/labels/{image.stem}.png"))
    found = [np.asarray(Image.open(tmp_path / "out/labels/placed.tif")), labels(run, image)]
    found.append(dinoseg.load(run, device="cpu").predict(np.moveaxis(values, 0, -1)).labels)
    assert all(np.array_equal(whole, other) for other in found)
    metrics = json.loads((run / "eval/test/metrics.json").read_text())
    truth = np.asarray(Image.open(next((data / "test/masks").iterdir())))
    assert metrics["aAcc"] == pytest.approx(100 * (whole == truth).mean())


def test_files_of_other_order_and_of_too_few_bands(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = finished
    image = next((data / "test/images").iterdir())
    values = hidden_band(3)[0].astype(np.uint16)
    small = write_tiff(tmp_path / "four.tif", values[[3, 2, 1, 7]])
    assert np.array_equal(labels(run, small, overrides=["datasets.bands=[1,2,3,4]"]), labels(run, image))
    with pytest.raises(ValueError, match=r"four.tif: holds 4 bands, and datasets.bands=\[4, 3, 2, 8\] names band 8"):
        labels(run, small)
    with pytest.raises(ValueError, match=r"datasets.bands=\[1, 2, 3\]: the model of this run was trained with \[4, 3"):
        labels(run, small, overrides=["datasets.bands=[1,2,3]"])


def test_load_from_takes_the_patch_embedding_along(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = finished
    again = train(data, tmp_path / "again", BANDS, f"load_from={run}", "scheduler.total_iter=0")
    name = "backbone.model.patch_embed.proj.weight"
    first = load_file(run / "checkpoints/best/model.safetensors")
    assert torch.equal(first[name], load_file(again / "checkpoints/last/model.safetensors")[name])
    assert "1 trained tensors of the backbone loaded too" in " ".join((again / "train.log").read_text().split())


def test_load_from_says_that_a_frozen_backbone_took_other_bands(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, said = [BANDS, "model.train_bands=false", "scheduler.total_iter=1"], "took other bands"
    first = train(finished[0], tmp_path / "first", *frozen)
    for number, (bands, other) in enumerate(((BANDS, False), ("datasets.bands=[1,2]", True))):
        again = train(finished[0], tmp_path / str(number), *frozen[1:], bands, f"load_from={first}")
        assert (said in " ".join((again / "train.log").read_text().split())) is other


@pytest.mark.parametrize("head", ["dense", "m2f"])
def test_heads_with_a_stem_take_any_number_of_bands(head: str, tmp_path: Path) -> None:
    data = write_band_set(tmp_path / "data", "npy", bands=5, shown=4)
    small = ["decoder_head.num_queries=4", "decoder_head.decoder_layers=1", "decoder_head.encoder_layers=1"]
    more = [f"decoder_head.type={head}", "datasets.range=p1-p99", "datasets.bands=[1,2,3,4,5]", *small]
    more += ["scheduler.total_iter=1", "decoder_head.backbone_out_layers=[0,1,2,3]", "decoder_head.hidden_dim=32"]
    run = train(data, tmp_path / "run", *(more if head == "m2f" else more[:3] + more[6:8]))
    config = config_of(run)
    assert len(config["datasets"]["range"]) == len(config["transforms"]["mean"]) == 5
    image = next((data / "test/images").iterdir())
    first = np.moveaxis(np.load(image), -1, 0)
    assert np.array_equal(labels(run, image), dinoseg.load(run, device="cpu").predict(first).labels)


def test_floating_point_grey_by_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_band_set(tmp_path / "data", "grey")
    run = train(data, tmp_path / "run", "datasets.range=p1-p99")
    low, high = config_of(run)["datasets"]["range"]
    assert 1.7 < low < 2 < 3.4 < high < 3.7
    image = next((data / "test/images").iterdir())
    values = np.asarray(Image.open(image))
    grey = np.round(np.clip((values - low) / (high - low), 0, 1) * 255)
    found = dinoseg.load(run, device="cpu").predict(values)
    np.testing.assert_allclose(np.asarray(found.image)[..., 0], grey, atol=1)
    assert np.array_equal(found.labels, labels(run, image))
    assert run_cli(["eval", run], monkeypatch) == 0
    with pytest.raises(ValueError, match=r"datasets.range=p1-p99 is measured when a training begins"):
        labels(run, image, overrides=["datasets.range=p1-p99"])
