"""Files of probabilities: what they hold, that they agree with the label maps, and when they are made anew."""

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.map_files import write_map_pair
from helpers.tiny import run_cli, train_tiny_run
from PIL import Image

import dinoseg
from dinoseg.inference.map_probabilities import MapProbabilities
from dinoseg.inference.maps import MapOutput, predict_map

pytestmark = pytest.mark.filterwarnings("ignore:.*random")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_tiny_run(
        tmp_path_factory, {"train": 2, "val": 1, "test": 2}, "datasets.classes={0: back, 4: red, 2: green, 1: red}"
    )


def _predict(run: Path, images: Path, out: Path, patch: pytest.MonkeyPatch, *more: str, code: int = 0) -> None:
    assert run_cli(["predict", run, images, "--out", out, *more], patch) == code


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _label_map(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def _times(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.*") if path.suffix != ".json"}


def test_every_class_and_the_largest(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = finished
    out, images = tmp_path / "out", data / "test/images"
    _predict(run, images, out, monkeypatch, "--probabilities", "--confidence")
    found, labels = _arrays(out / "probabilities/test_0.npz"), _label_map(out / "labels/test_0.png")
    values = found["probabilities"]
    assert values.shape == (40, 56, 3) and values.dtype == np.float16
    assert np.array_equal(found["label_ids"][values.argmax(axis=-1)], labels)
    space = dinoseg.load(run, device="cpu").label_space
    assert found["names"].tolist() == list(space.class_names)
    np.testing.assert_allclose(values.astype(float).sum(axis=-1), 1, atol=3e-3)
    expected = dinoseg.load(run, device="cpu").predict(images / "test_0.png", probabilities=True).probabilities
    assert expected is not None
    np.testing.assert_allclose(values, np.moveaxis(expected, 0, -1), atol=1e-3)
    confidence = _label_map(out / "confidence/test_0.png")
    assert np.abs(confidence / 255 - expected.max(axis=0)).max() < 0.6 / 255
    said = json.loads((out / "predictions.json").read_text())["probabilities"]
    assert said["temperatures"] == [1.0] and said["top"] is None
    assert said["probabilities"][str(images / "test_0.png")] == "probabilities/test_0.npz"
    assert said["confidence"][str(images / "test_0.png")] == "confidence/test_0.png"


def test_the_largest_of_each_pixel(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = finished
    _predict(run, data / "test/images", tmp_path / "all", monkeypatch, "--probabilities")
    _predict(run, data / "test/images", tmp_path / "two", monkeypatch, "--probabilities", "--top-k", "2")
    every, two = (_arrays(tmp_path / name / "probabilities/test_1.npz") for name in ("all", "two"))
    assert two["probabilities"].shape == (40, 56, 2) and two["class_indices"].shape == (40, 56, 2)
    expected = np.sort(every["probabilities"], axis=-1)[..., ::-1][..., :2]
    assert np.array_equal(two["probabilities"], expected)
    chosen = np.take_along_axis(every["probabilities"], two["class_indices"].astype(int), axis=-1)
    assert np.array_equal(chosen, expected)
    labels = _label_map(tmp_path / "two/labels/test_1.png")
    assert np.array_equal(two["label_ids"][two["class_indices"][..., 0]], labels)


def test_finished_files_are_kept_and_missing_ones_made(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, trained = finished
    run, out, options = tmp_path / "run", tmp_path / "out", ("--probabilities", "--confidence")
    shutil.copytree(trained, run)
    _predict(run, data / "test/images", out, monkeypatch)
    assert not (out / "probabilities").exists()
    _predict(run, data / "test/images", out, monkeypatch, *options)
    bytes_before, before = (out / "probabilities/test_0.npz").read_bytes(), _times(out)
    _predict(run, data / "test/images", out, monkeypatch, *options)
    assert _times(out) == before
    (out / "confidence/test_0.png").unlink()
    cut = out / "probabilities/test_1.npz"
    cut.write_bytes(cut.read_bytes()[:-200])
    cut.unlink()
    _predict(run, data / "test/images", out, monkeypatch, *options)
    assert (out / "confidence/test_0.png").exists() and cut.exists()
    assert (out / "probabilities/test_0.npz").read_bytes() == bytes_before
    assert run_cli(["calibrate", run], monkeypatch) == 0
    labels = _times(out / "labels")
    _predict(run, data / "test/images", out, monkeypatch)
    assert _times(out / "labels") == labels, "a temperature changes no label map"
    _predict(run, data / "test/images", out, monkeypatch, *options)
    assert (out / "probabilities/test_0.npz").read_bytes() != bytes_before
    temperature = json.loads((run / "calibration.json").read_text())["temperature"]
    assert json.loads((out / "predictions.json").read_text())["probabilities"]["temperatures"] == [temperature]


def test_nothing_is_claimed_outside_a_region(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = finished
    regions, inside = tmp_path / "regions", np.zeros((40, 56), np.uint8)
    inside[10:30, 5:40] = 255
    regions.mkdir()
    for name in ("test_0", "test_1"):
        Image.fromarray(inside).save(regions / f"{name}.png")
    options = ("--probabilities", "--confidence", "--overlay-uncertainty", "--regions", str(regions))
    _predict(run, data / "test/images", tmp_path / "out", monkeypatch, *options)
    values = _arrays(tmp_path / "out/probabilities/test_0.npz")["probabilities"].astype(float)
    assert values[inside == 0].max() == 0 and values[inside > 0].sum(axis=-1).min() > 0.99
    assert np.array_equal(_label_map(tmp_path / "out/confidence/test_0.png") == 0, inside == 0)


def test_a_fading_overlay_is_another_picture(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = finished
    _predict(run, data / "test/images", tmp_path / "out", monkeypatch)
    plain = (tmp_path / "out/overlays/test_0.png").read_bytes()
    _predict(run, data / "test/images", tmp_path / "out", monkeypatch, "--overlay-uncertainty")
    assert (tmp_path / "out/overlays/test_0.png").read_bytes() != plain
    _predict(run, data / "test/images", tmp_path / "out", monkeypatch)
    assert (tmp_path / "out/overlays/test_0.png").read_bytes() == plain


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--top-k", "2"), "--top-k 2: is of the probabilities that --probabilities writes"),
        (("--probabilities", "--top-k", "0"), "--top-k 0: give 1 or more"),
        (("--probabilities", "--top-k", "4"), "--top-k 4: the run has 3 classes; give as many or fewer"),
    ],
)
def test_wrong_numbers(
    options: tuple[str, ...],
    said: str,
    finished: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _predict(finished[1], finished[0] / "test/images", tmp_path / "out", monkeypatch, *options, code=1)
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_file_of_others_stays(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out/probabilities").mkdir(parents=True)
    np.savez(tmp_path / "out/probabilities/test_0.npz", mine=np.arange(3))
    options = ("--probabilities",)
    _predict(finished[1], finished[0] / "test/images", tmp_path / "out", monkeypatch, *options, code=1)
    assert "is there and is no prediction of dinoseg's" in capsys.readouterr().err
    assert _arrays(tmp_path / "out/probabilities/test_0.npz")["mine"].tolist() == [0, 1, 2]


def test_what_lies_beside_a_label_map_is_of_it(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, images = tmp_path / "out", finished[0] / "test/images"
    _predict(finished[1], images, out, monkeypatch, "--probabilities", "--confidence")
    mine = out / "probabilities/test_1.npz"
    np.savez(mine, mine=np.arange(3))
    _predict(finished[1], images, out, monkeypatch, "--overwrite")
    beside = [out / "probabilities/test_0.npz", out / "confidence/test_0.png"]
    assert all(path.exists() for path in beside), "the same label map is written again"
    _predict(finished[1], images, out, monkeypatch, "--confidence", "eval.use_tta=true")
    assert [path.exists() for path in beside] == [False, True]
    _predict(finished[1], images, out, monkeypatch)
    assert not beside[1].exists() and _arrays(mine)["mine"].tolist() == [0, 1, 2]


@pytest.fixture
def a_map(tmp_path: Path) -> Path:
    pytest.importorskip("rasterio")
    write_map_pair(tmp_path)
    return tmp_path / "images/map.tif"


def _read(path: Path) -> Any:
    import rasterio

    with rasterio.open(path) as file:
        return file.read(), file.profile, file.descriptions, file.tags(1), file.scales


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_map_has_a_band_a_class(
    finished: tuple[Path, Path], a_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    _predict(finished[1], a_map, out, monkeypatch, "--probabilities", "--confidence")
    labels, of_labels, *_ = _read(out / "labels/map.tif")
    values, profile, names, tags, _ = _read(out / "probabilities/map.tif")
    space = dinoseg.load(finished[1], device="cpu").label_space
    assert values.dtype == np.float32 and names == space.class_names
    assert tags["label_id"] == str(space.classes[0].label_ids[0])
    assert profile["transform"] == of_labels["transform"] and profile["crs"] == of_labels["crs"]
    ids = np.array([entry.label_ids[0] for entry in space.classes])
    assert np.array_equal(ids[values.argmax(axis=0)], labels[0])
    np.testing.assert_allclose(values.sum(axis=0), 1, atol=1e-5)
    confidence, of_confidence, _, _, scales = _read(out / "confidence/map.tif")
    assert of_confidence["nodata"] == 0 and scales[0] == pytest.approx(1 / 255)
    assert np.array_equal(confidence[0], np.rint(values.max(axis=0) * 255).astype(np.uint8))
    said = json.loads((out / "predictions.json").read_text())["probabilities"]
    assert said["probabilities"] == {str(a_map): "probabilities/map.tif"}
    before = _times(out)
    _predict(finished[1], a_map, out, monkeypatch, "--probabilities", "--confidence")
    assert _times(out) == before
    (out / "confidence/map.tif").unlink()
    _predict(finished[1], a_map, out, monkeypatch, "--probabilities", "--confidence", "--vector", "gpkg")
    assert (out / "confidence/map.tif").exists() and (out / "vectors/map.gpkg").exists()
    # Another label map takes along what was beside the one before.
    _predict(finished[1], a_map, out, monkeypatch, "--confidence", "eval.use_tta=true")
    assert [path.name for path in sorted(out.rglob("map.*"))] == ["map.tif", "map.tif", "map.png"]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_blocks_of_a_map_fill_it_without_gaps(finished: tuple[Path, Path], a_map: Path, tmp_path: Path) -> None:
    predictor = dinoseg.load(finished[1], device="cpu", overrides=["eval.crop_size=32", "eval.stride=32"])
    found = []
    for block in (64, 512):
        beside = MapProbabilities(tmp_path / f"p{block}.tif", tmp_path / f"c{block}.tif")
        output = MapOutput(tmp_path / f"l{block}.tif", tmp_path / f"o{block}.png", probabilities=beside)
        predict_map(predictor, a_map, output, block=block)
        assert beside.every is not None
        values, labels = _read(beside.every)[0], _read(output.labels)[0]
        assert not np.isnan(values).any()
        ids = np.array([entry.label_ids[0] for entry in predictor.label_space.classes])
        assert np.array_equal(ids[values.argmax(axis=0)], labels[0])
        found.append(values)
    # Blocks start their windows where they start; far from the borders of blocks that is all the same.
    assert np.abs(found[0] - found[1]).mean() < 0.05


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_no_data_has_no_probability(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rasterio")
    from helpers.map_files import write_raster

    image = np.random.default_rng(0).integers(1, 255, (3, 80, 90)).astype(np.uint8)
    image[:, :20] = 0
    write_raster(tmp_path / "map.tif", image, nodata=0)
    options = ("--probabilities", "--confidence")
    _predict(finished[1], tmp_path / "map.tif", tmp_path / "out", monkeypatch, *options)
    values, confidence = (_read(tmp_path / "out" / name / "map.tif")[0] for name in ("probabilities", "confidence"))
    assert np.isnan(values[:, :20]).all() and not np.isnan(values[:, 20:]).any()
    assert (confidence[0, :20] == 0).all() and (confidence[0, 20:] > 0).all()


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """The limit of file sizes stands for a disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [100, 3000])
def test_a_full_disk_leaves_no_file_of_probabilities(
    size: int,
    finished: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = finished
    with _full_disk(size):
        _predict(run, data / "test/images", tmp_path / "out", monkeypatch, "--probabilities", code=1)
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "File too large" in said and "probabilities/test_0.npz" in said
    assert "Traceback" not in said and [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_full_disk_leaves_no_map_of_probabilities(
    share: float, finished: tuple[Path, Path], a_map: Path, tmp_path: Path
) -> None:
    predictor = dinoseg.load(finished[1], device="cpu")
    beside = MapProbabilities(tmp_path / "p.tif", None)
    output = MapOutput(tmp_path / "l.tif", tmp_path / "o.png", probabilities=beside)
    predict_map(predictor, a_map, output)
    size = int((tmp_path / "p.tif").stat().st_size * share)
    for path in ("p.tif", "l.tif", "o.png"):
        (tmp_path / path).unlink()
    # GDAL writes what waits for one file when it comes to another, which then is named.
    with _full_disk(size), pytest.raises(OSError, match=r"[pl]\.tif"):
        predict_map(predictor, a_map, output)
    assert not (tmp_path / "p.tif").exists() and not [path for path in tmp_path.iterdir() if ".new" in path.name]


def test_options_of_pictures_are_refused_for_maps(
    finished: tuple[Path, Path],
    a_map: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--probabilities", "--top-k", "2", "--overlay-uncertainty")
    _predict(finished[1], a_map, tmp_path / "out", monkeypatch, *options, code=1)
    assert "a map, and --top-k 2 --overlay-uncertainty is of pictures; leave it out" in capsys.readouterr().err
