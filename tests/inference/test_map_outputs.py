"""What is written of a map: proven whole, completed where something is missing, and nobody else's file replaced."""

import resource
import sqlite3
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.map_files import write_raster
from helpers.tiny import train_tiny_run
from PIL import Image
from rich.console import Console

from dinoseg.drawing.qgis_style import polygon_style, raster_style
from dinoseg.inference.chosen_runs import choose_runs
from dinoseg.inference.files import InputImage
from dinoseg.inference.job import PredictionJob
from dinoseg.inference.map_blocks import BLOCK
from dinoseg.inference.maps import MapOutput, predict_map
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.predictor import Predictor
from dinoseg.inference.vector_files import vector_fingerprint
from dinoseg.labels import LabelSpace
from dinoseg.verbs.predict import predict_run

rasterio = pytest.importorskip("rasterio", reason="needs rasterio (pip install 'dinoseg[geo]')")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    run = train_tiny_run(tmp_path_factory, {"train": 3, "val": 2}, "eval.crop_size=32", "eval.stride=16")[1]
    return Predictor.load(ChosenRun(run).open())


def colours_of_noise(size: tuple[int, int] = (100, 150)) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (*size, 3), dtype=np.uint8)


def done(predictor: Predictor, folder: Path, **outputs: Any) -> tuple[str | None, bool]:
    """The error, and whether the outputs were there already."""
    job = PredictionJob(predictor, OutputFolder(folder / "out", **outputs))
    outcome = job.do(InputImage(folder / "map.tif", "map"))
    return outcome.error, outcome.kept


def labels_in(path: Path) -> np.ndarray:
    with rasterio.open(path) as found:
        return np.asarray(found.read(1))


def test_a_palette_is_its_colours(predictor: Predictor, tmp_path: Path) -> None:
    palette = Image.fromarray(colours_of_noise()).quantize(64)
    table = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    indices = np.asarray(palette)
    write_raster(tmp_path / "rgb.tif", np.moveaxis(table[indices], -1, 0))
    write_raster(tmp_path / "palette.tif", indices, photometric="palette")
    with rasterio.open(tmp_path / "palette.tif", "r+") as file:
        file.write_colormap(1, {index: (*colour.tolist(), 255) for index, colour in enumerate(table)})
    for name in ("rgb", "palette"):
        output = MapOutput(tmp_path / f"{name}_labels.tif", tmp_path / f"{name}.png")
        predict_map(predictor, tmp_path / f"{name}.tif", output)
    np.testing.assert_array_equal(labels_in(tmp_path / "palette_labels.tif"), labels_in(tmp_path / "rgb_labels.tif"))
    assert (tmp_path / "palette.png").read_bytes() == (tmp_path / "rgb.png").read_bytes()


def test_what_was_completed_is_counted_as_that(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0))
    monkeypatch.setattr(Predictor, "load", lambda opened: predictor)
    origin, said = predictor.ensemble.members[0].origin, []
    assert origin is not None
    for options in ({}, {"overviews": True}, {"vector": "gpkg"}, {"vector": "gpkg"}):
        console = Console(file=StringIO(), width=200)
        out = OutputFolder(tmp_path / "out", **options)
        predict_run(choose_runs(origin.run), [str(tmp_path / "map.tif")], out, console)
        said.append(console.file.getvalue().splitlines()[-1].partition("; see")[0])
    there = "0 predicted, 1 already there (--overwrite predicts them anew), 0 failed"
    assert said == ["1 predicted, 0 failed", *["0 predicted, 1 completed, 0 failed"] * 2, there]


def test_styles_name_the_classes_and_leave_a_users_own(predictor: Predictor, tmp_path: Path) -> None:
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0))
    assert done(predictor, tmp_path, vector="gpkg") == (None, False)
    assert not list((tmp_path / "out").rglob("*.qml"))
    assert done(predictor, tmp_path, vector="gpkg", style=True) == (None, True)
    labels, vectors = tmp_path / "out" / "labels" / "map.qml", tmp_path / "out" / "vectors" / "map.qml"
    space = predictor.label_space
    entries = ElementTree.fromstring(labels.read_text()).iter("paletteEntry")
    assert [(entry.get("value"), entry.get("label"), entry.get("color")) for entry in entries] == [
        (str(known.label_ids[0]), known.name, "#{:02x}{:02x}{:02x}".format(*known.colour)) for known in space.classes
    ]
    categories = list(ElementTree.fromstring(vectors.read_text()).iter("category"))
    assert [(category.get("value"), category.get("label")) for category in categories] == [
        (str(known.label_ids[0]), known.name) for known in space.classes
    ]
    labels.write_text("<qgis>mine</qgis>")
    vectors.write_text(vectors.read_text().replace('alpha="1"', 'alpha="0.3"'))
    assert done(predictor, tmp_path, vector="gpkg", style=True) == (None, True)
    assert labels.read_text() == "<qgis>mine</qgis>" and 'alpha="0.3"' not in vectors.read_text()
    # As if the label map were another run's: the style names other classes.
    labels.with_suffix(".tif").unlink()
    assert done(predictor, tmp_path, vector="gpkg") == (None, False)
    assert labels.read_text() == "<qgis>mine</qgis>" and not vectors.exists()


def test_names_of_classes_are_no_markup(tmp_path: Path) -> None:
    names = {1: '<b> & "q"', 2: "]]>\x07"}
    space = LabelSpace.build(names, None, None, [1, 2])
    for style, kind in ((raster_style(space), "paletteEntry"), (polygon_style(space), "category")):
        found = [entry.get("label") for entry in ElementTree.fromstring(style).iter(kind)]
        assert found == [entry.name.replace("\x07", "\\x07") for entry in space.classes]


@pytest.mark.parametrize("options", [{"vector": "gpkg"}, {"overviews": True}, {"style": True}])
def test_maps_that_would_be_pictures_are_refused_before_the_model_is_loaded(
    options: dict[str, Any], predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0))
    monkeypatch.setattr(Predictor, "load", lambda opened: pytest.fail("loaded"))
    origin = predictor.ensemble.members[0].origin
    assert origin is not None
    inputs, out = [str(tmp_path / "map.tif"), "transforms.eval.img_size=64"], OutputFolder(tmp_path / "out", **options)
    with pytest.raises(ValueError, match=r"^--\w+.*: with transforms\.eval\.img_size=64 of .* whole pictures; add tr"):
        predict_run(choose_runs(origin.run), inputs, out, Console(quiet=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    # Predicted whole it lacks the sizes alone, which calibration finds.
    [([], "a map is predicted in blocks"), (["transforms.eval.img_size=64"], "has no least sizes of patches")],
)
def test_least_sizes_of_patches_are_refused_for_maps_in_blocks_alone(
    more: list[str], said: str, predictor: Predictor, tmp_path: Path
) -> None:
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0))
    origin = predictor.ensemble.members[0].origin
    assert origin is not None
    inputs = [str(tmp_path / "map.tif"), "eval.least_patches=true", *more]
    with pytest.raises(ValueError, match=said):
        predict_run(choose_runs(origin.run), inputs, OutputFolder(tmp_path / "out"), Console(quiet=True))


def test_a_colour_space_that_is_not_read_is_named(predictor: Predictor, tmp_path: Path) -> None:
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0), photometric="cielab")
    error, _ = done(predictor, tmp_path)
    assert error == f"{tmp_path / 'map.tif'}: a map in CIELAB, which is not read; save it as RGB or grey"


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("overviews", [False, True])
def test_a_disk_that_fills_up_leaves_no_label_map(
    share: float, overviews: bool, predictor: Predictor, tmp_path: Path
) -> None:
    """GDAL ends a file on a full disk without a word; what cannot be read back is no label map."""
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise((300, 600)), -1, 0))
    output = MapOutput(tmp_path / "labels.tif", tmp_path / "overlay.png", "f" * 64, overviews)
    predict_map(predictor, tmp_path / "map.tif", output)
    size = output.labels.stat().st_size
    output.labels.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), limits[1]))
    try:
        with pytest.raises(OSError, match=r"labels\.tif"):
            predict_map(predictor, tmp_path / "map.tif", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "overlay.png"]


def test_what_is_missing_is_made_again(predictor: Predictor, tmp_path: Path) -> None:
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0))
    assert done(predictor, tmp_path, vector="gpkg") == (None, False)
    assert done(predictor, tmp_path, vector="gpkg") == (None, True)
    overlay, vector = tmp_path / "out/overlays/map.png", tmp_path / "out/vectors/map.gpkg"
    overlay.unlink()
    assert done(predictor, tmp_path, vector="gpkg") == (None, False) and overlay.exists()
    vector.unlink()
    assert done(predictor, tmp_path, vector="gpkg") == (None, True) and vector.exists()


@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_polygons_of_another_label_map_are_made_anew(suffix: str, predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / f"out/vectors/map.{suffix}"
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0))
    done(predictor, tmp_path, vector=suffix)
    first = vector_fingerprint(path)
    assert first is not None and len(first) == 64
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise()[::-1], -1, 0))
    assert done(predictor, tmp_path, vector=suffix) == (None, False)
    assert vector_fingerprint(path) not in (None, first)


def _geopackage_of_others(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE gpkg_contents (table_name TEXT, description TEXT)")
        database.execute("INSERT INTO gpkg_contents VALUES ('labels', 'mine')")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("labels/map.tif", lambda path: write_raster(path, np.zeros((100, 150), np.uint8))),
        ("labels/map.tif", lambda path: path.write_text("mine")),
        ("overlays/map.png", lambda path: Image.new("L", (3, 3)).save(path)),
        ("vectors/map.gpkg", lambda path: path.write_text("mine")),
        ("vectors/map.gpkg", _geopackage_of_others),
        ("vectors/map.geojson", lambda path: path.write_text('{"type": "FeatureCollection", "features": []}\n')),
    ],
)
def test_files_of_others_stay(name: str, spoil: Any, predictor: Predictor, tmp_path: Path) -> None:
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise(), -1, 0))
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    spoil(path)
    before, vector = path.read_bytes(), path.suffix[1:] if "vectors" in name else None
    error, _ = done(predictor, tmp_path, vector=vector)
    assert error == (
        f"{tmp_path / 'map.tif'}: {path} is there and is no prediction of dinoseg's, and would be overwritten; give "
        "another --out folder"
    )
    assert path.read_bytes() == before
    assert done(predictor, tmp_path, vector=vector, overwrite=True) == (None, False)
    assert path.read_bytes() != before


def test_blocks_are_read_back_as_they_were_written(predictor: Predictor, tmp_path: Path) -> None:
    """The checksum is of blocks, of which the last ones are smaller."""
    write_raster(tmp_path / "map.tif", np.moveaxis(colours_of_noise((130, 150)), -1, 0))
    for block in (64, BLOCK):
        predict_map(predictor, tmp_path / "map.tif", MapOutput(tmp_path / "l.tif", tmp_path / "o.png"), block=block)
        assert labels_in(tmp_path / "l.tif").shape == (130, 150)
