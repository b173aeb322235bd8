"""Maps: any size in blocks, the georeference kept, nothing where the map has no data."""

import json
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.map_files import LAYOUTS, write_raster
from helpers.tiny import run_cli, train_tiny_run
from PIL import Image

from dinoseg.inference.files import InputImage
from dinoseg.inference.job import PredictionJob
from dinoseg.inference.map_blocks import blocks
from dinoseg.inference.maps import MapOutput, is_map, predict_map
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.predictor import Predictor

rasterio = pytest.importorskip("rasterio", reason="needs rasterio (pip install 'dinoseg[geo]')")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny_run(tmp_path_factory, {"train": 3, "val": 2}, "eval.crop_size=32", "eval.stride=16")[1]


def write_map(path: Path, size: tuple[int, int] = (100, 150), bands: int = 3, **profile: Any) -> np.ndarray:
    """A map of noise in the tiny data set's colours; the first ten columns hold no data."""
    values = np.random.default_rng(5).integers(0, 256, (bands, *size)).astype(profile.pop("dtype", "uint8"))
    values[:, :, :10] = 0
    write_raster(path, values, **({"nodata": 0} | profile))
    return values


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_keeps_its_place(layout: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_map(tmp_path / "map.tif", **LAYOUTS[layout])
    out = tmp_path / "out"
    assert run_cli(["predict", run, tmp_path / "map.tif", "--out", out], monkeypatch) == 0
    with rasterio.open(tmp_path / "map.tif") as source, rasterio.open(out / "labels/map.tif") as found:
        assert (found.crs, found.transform, found.shape) == (source.crs, source.transform, source.shape)
        labels = found.read(1)
        assert found.nodata == 255
        assert found.compression.value.lower() == LAYOUTS[layout].get("compress", "deflate")
        assert found.tags(1)["class_1"] == "class_1"
        assert found.colorinterp[0].name == "palette" and found.colormap(1)[1][3] == 255
        assert found.profile["tiled"]
    assert (labels[:, :10] == 255).all()
    assert (labels[:, 10:] < 3).all()
    assert json.loads((out / "predictions.json").read_text())["labels"] == {str(tmp_path / "map.tif"): "labels/map.tif"}
    with Image.open(out / "overlays/map.png") as picture:
        assert picture.width >= 150


def test_what_is_there_is_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_map(tmp_path / "map.tif")
    command = ["predict", run, tmp_path / "map.tif", "--out", tmp_path / "out"]
    assert run_cli(command, monkeypatch) == 0
    first = (tmp_path / "out/labels/map.tif").stat().st_mtime_ns
    assert run_cli(command, monkeypatch) == 0
    assert (tmp_path / "out/labels/map.tif").stat().st_mtime_ns == first
    assert run_cli([*command, "--overwrite"], monkeypatch) == 0
    assert (tmp_path / "out/labels/map.tif").stat().st_mtime_ns > first


def test_blocks_cover_every_pixel_once_and_have_a_margin() -> None:
    seen = np.zeros((70, 95), int)
    for part in blocks(70, 95, 8, 32):
        seen[slice(*part.rows), slice(*part.columns)] += 1
        whole = np.arange(70 * 95).reshape(70, 95)
        read = whole[slice(*part.read_rows), slice(*part.read_columns)]
        assert (read[part.inner] == whole[slice(*part.rows), slice(*part.columns)]).all()
        assert part.rows[0] - part.read_rows[0] == min(8, part.rows[0])
        assert part.read_columns[1] - part.columns[1] == min(8, 95 - part.columns[1])
    assert (seen == 1).all()


def test_blocks_show_no_seams(run: Path, tmp_path: Path) -> None:
    """Where windows lie alike, a block says what the whole image says; elsewhere nearly so."""
    values = write_map(tmp_path / "map.tif", (128, 160))
    predictor = Predictor.load(ChosenRun(run).open())
    predict_map(predictor, tmp_path / "map.tif", MapOutput(tmp_path / "l.tif", tmp_path / "o.png"), block=64)
    with rasterio.open(tmp_path / "l.tif") as found:
        labels = found.read(1)
    whole = predictor.predict(np.ascontiguousarray(np.moveaxis(values, 0, -1))).labels
    assert (labels[:, 10:] == whole[:, 10:]).mean() > 0.95


def test_what_is_nodata_has_no_say_in_what_is_shown(run: Path, tmp_path: Path) -> None:
    """65535 as nodata is no value above white, in blocks or in the overlay."""
    values = np.random.default_rng(5).integers(0, 256, (3, 100, 150)).astype(np.uint16)
    values[:, :, :10] = 65535
    write_raster(tmp_path / "map.tif", values, nodata=65535)
    predictor = Predictor.load(ChosenRun(run, overrides=["datasets.white_level=255"]).open())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_map(predictor, tmp_path / "map.tif", MapOutput(tmp_path / "l.tif", tmp_path / "o.png"))
    with rasterio.open(tmp_path / "l.tif") as found:
        assert (found.read(1)[:, :10] == 255).all()


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (4, "uint8"), (3, "uint16")])
def test_other_bands_and_depths(bands: int, dtype: str, run: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif", bands=bands, dtype=dtype)
    job = PredictionJob(Predictor.load(ChosenRun(run).open()), OutputFolder(tmp_path / "out"))
    with pytest.warns(UserWarning) if dtype == "uint16" else nullcontext():
        outcome = job.do(InputImage(tmp_path / "map.tif", "map"))
    assert (outcome.error, outcome.suffix) == (None, ".tif")


def test_floats_are_refused_with_the_name_of_the_file(run: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif", dtype="float32")
    job = PredictionJob(Predictor.load(ChosenRun(run).open()), OutputFolder(tmp_path / "out"))
    outcome = job.do(InputImage(tmp_path / "map.tif", "map"))
    assert outcome.error and "map.tif" in outcome.error and "float32" in outcome.error
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_a_picture_is_no_map(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.tif")
    assert not is_map(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(b"garbage")
    assert not is_map(tmp_path / "b.tif")


def test_a_damaged_map_leaves_nothing(run: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif", (300, 300))
    content = (tmp_path / "map.tif").read_bytes()
    (tmp_path / "map.tif").write_bytes(content[: len(content) // 2])
    job = PredictionJob(Predictor.load(ChosenRun(run).open()), OutputFolder(tmp_path / "out"))
    outcome = job.do(InputImage(tmp_path / "map.tif", "map"))
    assert outcome.error and "map.tif" in outcome.error
    assert not list((tmp_path / "out").rglob("*.*"))


def test_a_map_with_options_of_pictures_is_a_picture(run: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "map.tif")
    predictor = Predictor.load(ChosenRun(run).open())
    outputs = OutputFolder(tmp_path / "out", regions=tmp_path)
    Image.fromarray(np.full((100, 150), 255, np.uint8)).save(tmp_path / "region.png")
    image = InputImage(tmp_path / "map.tif", "map", region=tmp_path / "region.png")
    assert PredictionJob(predictor, outputs).do(image).suffix == ".png"
    resized = Predictor.load(ChosenRun(run, overrides=["transforms.eval.img_size=64"]).open())
    assert PredictionJob(resized, OutputFolder(tmp_path / "resized")).do(image).suffix == ".png"
    with pytest.raises(ValueError, match=r"map\.tif: transforms\.eval\.img_size=64 is of whole images"):
        predict_map(resized, tmp_path / "map.tif", MapOutput(tmp_path / "l.tif", tmp_path / "o.png"))
