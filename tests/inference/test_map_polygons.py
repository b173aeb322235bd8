"""Predicted maps as overviews and polygons, as other programs read them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.map_files import LAYOUTS, write_map_pair, write_raster
from helpers.tiny import run_cli, train_tiny_run
from PIL import Image
from rich.console import Console

from dinoseg.importing.geojson import read_geojson
from dinoseg.inference import map_polygons, maps
from dinoseg.inference.files import InputImage
from dinoseg.inference.job import PredictionJob
from dinoseg.inference.map_polygons import write_polygons
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.predictor import Predictor
from dinoseg.inference.vector_files import LabelPolygon, ReferenceSystem, write_vector
from dinoseg.labels import LabelSpace
from dinoseg.verbs.predict import predict_files

rasterio = pytest.importorskip("rasterio", reason="needs rasterio (pip install 'dinoseg[geo]')")

SPACE = LabelSpace.build({0: "ground", 3: "roof", 7: "Straße"}, None, None, [])
HERE = ReferenceSystem(32632, rasterio.crs.CRS.from_epsg(32632).to_wkt(version="WKT1_GDAL"), "WGS 84 / UTM zone 32N")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny_run(tmp_path_factory, {"train": 3, "val": 2}, "eval.crop_size=32", "eval.stride=16")[1]


def label_file(path: Path, labels: np.ndarray | None = None, **profile: Any) -> np.ndarray:
    """A label map with patches in patches and one that touches itself at a corner."""
    if labels is None:
        labels = np.zeros((40, 50), np.uint8)
        labels[5:30, 5:30], labels[10:20, 10:20], labels[12:14, 12:14] = 3, 7, 0
        labels[30:35, 30:40], labels[:, 45:] = 3, 255
    write_raster(path, labels, nodata=255, **profile)
    return labels


def painted(polygons: list[tuple[Any, int]], like: Path) -> np.ndarray:
    """Polygons burnt into the grid of a raster, 255 elsewhere."""
    from rasterio.features import rasterize

    with rasterio.open(like) as file:
        return rasterize(polygons, out_shape=file.shape, transform=file.transform, fill=255, dtype="uint8")


@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_polygons_hold_every_pixel_as_another_program_reads_them(suffix: str, tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="reads vector files")
    labels = label_file(tmp_path / "map.tif")
    target = tmp_path / f"map.{suffix}"
    write_polygons(tmp_path / "map.tif", target, SPACE)
    info = pyogrio.read_info(target)
    assert (info["crs"], info["geometry_type"]) == ("EPSG:32632", "Polygon")
    assert list(info["fields"]) == ["label_id", "name", "colour"]
    _, _, geometries, (ids, names, colours) = pyogrio.raw.read(target)
    shapes = [(_as_mapping(wkb), int(label_id)) for wkb, label_id in zip(geometries, ids, strict=True)]
    np.testing.assert_array_equal(painted(shapes, tmp_path / "map.tif"), labels)
    assert {(int(i), name, colour) for i, name, colour in zip(ids, names, colours, strict=True)} == {
        (entry.label_ids[0], entry.name, "#{:02x}{:02x}{:02x}".format(*entry.colour)) for entry in SPACE.classes
    }
    left, low, right, high = info["total_bounds"]
    assert (left, low, right, high) == (500_000, 5_400_000 - 20, 500_000 + 22.5, 5_400_000)


def _as_mapping(wkb: bytes) -> dict[str, Any]:
    rings, place = [], 9
    for _ in range(int.from_bytes(wkb[5:9], "little")):
        count = int.from_bytes(wkb[place : place + 4], "little")
        rings.append(np.frombuffer(wkb, "<f8", 2 * count, place + 4).reshape(-1, 2).tolist())
        place += 4 + 16 * count
    return {"type": "Polygon", "coordinates": rings}


def test_a_geopackage_is_what_the_standard_says(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    label_file(tmp_path / "map.tif")
    write_polygons(tmp_path / "map.tif", tmp_path / "map.gpkg", SPACE)
    with closing(sqlite3.connect(tmp_path / "map.gpkg")) as database:
        assert database.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        systems = database.execute("SELECT srs_id FROM gpkg_spatial_ref_sys ORDER BY srs_id").fetchall()
        assert systems == [(-1,), (0,), (4326,), (32632,)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.gpkg", "map.tif"]


def test_geojson_comes_back_as_the_same_mask(tmp_path: Path) -> None:
    labels = label_file(tmp_path / "map.tif")
    write_polygons(tmp_path / "map.tif", tmp_path / "map.geojson", SPACE)
    source = read_geojson(tmp_path / "map.geojson", tmp_path / "map.tif", "label_id")
    content = json.loads((tmp_path / "map.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    assert len(source.pictures[0].shapes) == len(content["features"]) == 5
    known = labels != 255
    drawn = np.full(labels.shape, 255)
    value_of = {label_id: value for value, label_id in source.classes.ids.items()}
    for shape in source.pictures[0].shapes:
        runs = shape.region.runs(*labels.shape)
        for row, start, end in zip(runs.rows, runs.starts, runs.ends, strict=True):
            drawn[row, start:end] = value_of[shape.label_id]
    np.testing.assert_array_equal(drawn[known], labels[known])


@pytest.mark.parametrize(("crs", "stated"), [("EPSG:4326", None), ("EPSG:25832", "urn:ogc:def:crs:EPSG::25832")])
def test_degrees_are_geojson_as_the_standard_has_it(crs: str, stated: str | None, tmp_path: Path) -> None:
    place = rasterio.Affine(0.001, 0, 8.0, 0, -0.001, 49.0)
    label_file(tmp_path / "map.tif", crs=crs, transform=place)
    write_polygons(tmp_path / "map.tif", tmp_path / "map.geojson", SPACE)
    content = json.loads((tmp_path / "map.geojson").read_text())
    assert content.get("crs", {"properties": {"name": None}})["properties"]["name"] == stated
    corners = np.concatenate([np.array(f["geometry"]["coordinates"][0]) for f in content["features"]])
    assert corners.min(axis=0).tolist() == pytest.approx([8.0, 48.96])


def test_a_system_without_a_number_goes_into_a_geopackage_alone(tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="reads vector files")
    own = rasterio.crs.CRS.from_proj4("+proj=laea +lat_0=47 +lon_0=9 +datum=WGS84 +units=m")
    label_file(tmp_path / "map.tif", crs=own)
    write_polygons(tmp_path / "map.tif", tmp_path / "map.gpkg", SPACE)
    assert rasterio.crs.CRS.from_user_input(pyogrio.read_info(tmp_path / "map.gpkg")["crs"]) == own
    with pytest.raises(ValueError, match="has none; use gpkg"):
        write_polygons(tmp_path / "map.tif", tmp_path / "map.geojson", SPACE)
    assert not (tmp_path / "map.geojson").exists()


def test_nothing_but_nodata_makes_an_empty_file(tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="reads vector files")
    label_file(tmp_path / "map.tif", np.full((40, 50), 255, np.uint8))
    for suffix in ("gpkg", "geojson"):
        write_polygons(tmp_path / "map.tif", tmp_path / f"map.{suffix}", SPACE)
        assert pyogrio.read_info(tmp_path / f"map.{suffix}")["features"] == 0


@pytest.mark.parametrize("size", [(40, 50), (513, 3), (1, 9), (1100, 7)])
def test_corners_are_counted_over_strips(size: tuple[int, int], tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 2, size, dtype=np.uint8)
    label_file(tmp_path / "map.tif", labels)
    expected = 0
    for row in range(size[0] - 1):
        for column in range(size[1] - 1):
            four = labels[row : row + 2, column : column + 2]
            expected += not ((four[0] == four[1]).all() or (four[:, 0] == four[:, 1]).all())
    with rasterio.open(tmp_path / "map.tif") as file:
        assert map_polygons._count_corners(file) == expected


def test_too_many_corners_are_refused_with_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label_file(tmp_path / "map.tif")
    monkeypatch.setattr(map_polygons, "MOST_CORNERS", 14)
    with pytest.raises(
        ValueError, match=r"map\.tif: its patches have \d+ corners, more than 14, .*gdal_polygonize\.py"
    ):
        write_polygons(tmp_path / "map.tif", tmp_path / "map.gpkg", SPACE)
    assert not (tmp_path / "map.gpkg").exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Any:
        yield LabelPolygon((((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)),), 1, "a", "#000000")
        raise ValueError("no more")

    for suffix in ("gpkg", "geojson"):
        with pytest.raises(ValueError, match="no more"):
            write_vector(tmp_path / f"a.{suffix}", broken(), HERE)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_vector(tmp_path / "file" / "a.gpkg", [], HERE)


def test_the_command_writes_overviews_and_polygons(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, layout in LAYOUTS.items():
        write_map_pair(tmp_path, name, (100, 1200), **layout)
    command = ["predict", run, tmp_path / "images", "--out", tmp_path / "out", "--overviews", "--vector", "gpkg"]
    assert run_cli(command, monkeypatch) == 0
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert list(record["vectors"].values()) == [f"vectors/{name}.gpkg" for name in sorted(LAYOUTS)]
    for name in LAYOUTS:
        with rasterio.open(tmp_path / f"out/labels/{name}.tif") as found:
            assert found.overviews(1) == [2, 4]
            whole = found.read(1)
            half = found.read(1, out_shape=(50, 600))
        assert set(np.unique(half)) <= set(np.unique(whole))
        assert (tmp_path / f"out/vectors/{name}.gpkg").stat().st_size


def test_what_is_there_is_completed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_map_pair(tmp_path, "map", (100, 120))
    command = ["predict", run, tmp_path / "images/map.tif", "--out", tmp_path / "out"]
    labels, vector = tmp_path / "out/labels/map.tif", tmp_path / "out/vectors/map.geojson"
    assert run_cli(command, monkeypatch) == 0
    before = rasterio.open(labels).read(1)
    monkeypatch.setattr("dinoseg.inference.job.predict_map", lambda *given: pytest.fail("predicted again"))
    assert run_cli([*command, "--vector", "geojson", "--overviews"], monkeypatch) == 0
    with rasterio.open(labels) as found:
        assert found.overviews(1) == [2]
        np.testing.assert_array_equal(found.read(1), before)
    first = (vector.stat().st_mtime_ns, labels.stat().st_mtime_ns)
    assert run_cli([*command, "--vector", "geojson", "--overviews"], monkeypatch) == 0
    assert (vector.stat().st_mtime_ns, labels.stat().st_mtime_ns) == first


def picture(folder: Path) -> Path:
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def placed(folder: Path, **profile: Any) -> Path:
    write_raster(folder / "a.tif", np.zeros((3, 40, 50), np.uint8), **profile)
    return folder / "a.tif"


OWN = "+proj=laea +lat_0=47 +lon_0=9 +datum=WGS84"
WRONG: dict[str, tuple[Any, list[str], str]] = {
    "a picture": (picture, ["--vector", "gpkg"], r"--vector gpkg: .*a\.png is no map"),
    "overviews of a picture": (picture, ["--overviews"], r"--overviews: .*a\.png is no map"),
    "a format": (placed, ["--vector", "shp"], "--vector shp: choose gpkg or geojson"),
    "no CRS": (
        lambda p: placed(p, crs=None),
        ["--vector", "gpkg"],
        r"a\.tif has no reference system \(CRS\).*give it one",
    ),
    "no place": (lambda p: placed(p, transform=None), ["--vector", "gpkg"], "a reference system, but no transform"),
    "no EPSG": (lambda p: placed(p, crs=OWN), ["--vector", "geojson"], "without an EPSG number.*--vector gpkg"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_before_anything_is_loaded(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, options, message = WRONG[case]
    command = ["predict", tmp_path / "no run", make(tmp_path), "--out", tmp_path / "out", *options]
    assert run_cli(command, monkeypatch) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_without_rasterio_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(map_polygons, "has_rasterio", lambda: False)
    assert run_cli(["predict", tmp_path / "no run", picture(tmp_path), "--overviews"], monkeypatch) == 1
    assert "pip install 'dinoseg[geo]'" in capsys.readouterr().err


def test_options_of_pictures_and_of_maps_do_not_mix(run: Path, tmp_path: Path) -> None:
    write_map_pair(tmp_path, "map", (40, 50))
    write_raster(tmp_path / "regions/map.tif", np.ones((40, 50), np.uint8))
    image = InputImage(tmp_path / "images/map.tif", "map", region=tmp_path / "regions/map.tif")
    outputs = OutputFolder(tmp_path / "out", regions=tmp_path / "regions", vector="gpkg")
    outcome = PredictionJob(Predictor.load(ChosenRun(run).open()), outputs).do(image)
    assert outcome.error and "--vector gpkg is of maps" in outcome.error and "--regions" in outcome.error


@pytest.mark.parametrize("folder", ["labels", "vectors"])
def test_a_folder_that_cannot_be_written_ends_the_job(
    folder: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_map_pair(tmp_path, "map", (40, 50))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / folder).write_text("a file where a folder belongs")
    command = ["predict", run, tmp_path / "images/map.tif", "--out", tmp_path / "out", "--vector", "gpkg"]
    assert run_cli(command, monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and folder in error and "truncated" not in error


def test_a_write_that_fails_is_no_fault_of_the_map(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_map_pair(tmp_path, "map", (40, 50))

    def full(self: Any, *given: Any, **named: Any) -> None:
        raise rasterio.errors.RasterioIOError("No space left on device")

    monkeypatch.setattr("rasterio.io.DatasetWriter.write", full)
    assert run_cli(["predict", run, tmp_path / "images/map.tif", "--out", tmp_path / "out"], monkeypatch) == 1
    error = capsys.readouterr().err
    assert "out/labels/map.tif" in error and "No space left on device" in error
    assert not list((tmp_path / "out/labels").iterdir())


def test_outcomes_come_in_the_order_given_and_blocks_are_counted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_map_pair(tmp_path, "b", (100, 130))
    write_map_pair(tmp_path, "c", (40, 50))
    (tmp_path / "images/c.tif").write_bytes((tmp_path / "images/c.tif").read_bytes()[:2000])
    images = [InputImage(tmp_path / "images/b.tif", "b"), InputImage(picture(tmp_path), "a")]
    images += [InputImage(tmp_path / "images/c.tif", "c")]
    seen: list[Any] = []

    class Progress:
        def __init__(self, console: Console, total: int, title: str, unit: str = "images") -> None:
            seen.append((total, unit))

        def __enter__(self) -> Any:
            return lambda: seen.append("step")

        def __exit__(self, *given: Any) -> None:
            pass

    monkeypatch.setattr("dinoseg.verbs.predict.image_progress", Progress)
    monkeypatch.setattr("dinoseg.inference.job.count_blocks", lambda path: maps.count_blocks(path) + 5)
    job = PredictionJob(Predictor.load(ChosenRun(run).open()), OutputFolder(tmp_path / "out"))
    summary = predict_files(job, images, Console(quiet=True))
    assert list(summary.written) == [str(image.path) for image in images[:2]]
    assert list(summary.failed) == [str(images[2].path)]
    assert seen == [(13, "images and blocks"), *["step"] * 13]


def test_blocks_of_a_map_are_counted_from_its_header(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.zeros((4097, 2048), np.uint8))
    assert maps.count_blocks(tmp_path / "a.tif") == 3
    (tmp_path / "b.tif").write_bytes(b"none")
    assert maps.count_blocks(tmp_path / "b.tif") == 1
