"""GeoJSON on a raster: back to the mask it was written from, and as GDAL burns it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotations import NAMES, assert_equal_masks, classes_of, outlines, random_ids, read_mask, run_import

from dinoseg.inference.map_polygons import write_polygons
from dinoseg.labels import LabelSpace

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
features = pytest.importorskip("rasterio.features")
warp = pytest.importorskip("rasterio.warp")

SIZE = (23, 31)
IDS = random_ids(3, SIZE)
UTM = "EPSG:32633"
# Half a metre a pixel, north up; and one that is turned and sheared.
NORTH_UP = rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5500000)
TURNED = rasterio.Affine(0.45, 0.2, 400000, 0.15, -0.4, 5500000)


def on_the_map(transform: Any, corner: Any) -> list[float]:
    """A column and a row as coordinates."""
    x, y = (float(value) for value in corner)
    return [transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f]


def write_raster(
    path: Path, transform: Any = NORTH_UP, crs: str | None = UTM, count: int = 3, dtype: type = np.uint8
) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (count, *SIZE)).astype(dtype)
    profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": count, "dtype": noise.dtype.name}
    photometric = {"photometric": "RGB"} if count == 3 else {}
    with rasterio.open(path, "w", crs=crs, transform=transform, **photometric, **profile) as file:
        file.write(noise)
    return path


def geometries(ids: np.ndarray, transform: Any) -> list[dict[str, Any]]:
    """A feature a class: by the even-odd rule, its rings with its holes are one polygon."""
    found = []
    for label_id, name in NAMES.items():
        rings = [[on_the_map(transform, corner) for corner in [*ring, ring[0]]] for ring in outlines(ids == label_id)]
        found.append(feature({"type": "Polygon", "coordinates": rings}, kind=name, number=label_id, other=None))
    return found


def feature(geometry: dict[str, Any] | None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def write(folder: Path, listed: list[dict[str, Any]], crs: str | None = UTM) -> Path:
    document: dict[str, Any] = {"type": "FeatureCollection", "features": listed}
    if crs is not None:
        document["crs"] = {"type": "name", "properties": {"name": crs}}
    (folder / "a.geojson").write_text(json.dumps(document))
    return folder / "a.geojson"


def square(x: float, y: float, side: float) -> list[list[list[float]]]:
    """A polygon in columns and rows, as coordinates of the map."""
    ring = [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]
    return [[on_the_map(NORTH_UP, corner) for corner in ring]]


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_polygons_with_holes_give_the_mask_they_were_written_from(tmp_path: Path, transform: Any) -> None:
    raster = write_raster(tmp_path / "map.tif", transform)
    path = write(tmp_path, geometries(IDS, transform))
    report = run_import(tmp_path / "out", "geojson", path, raster, class_property="kind")
    assert_equal_masks(tmp_path / "out", {"map": IDS})
    assert report.links == {"hard link": 1} and (tmp_path / "out/images/map.tif").is_file()
    assert not any("transformed" in remark for remark in report.remarks)


def test_a_raster_of_many_bands_needs_no_names_of_bands(tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "sentinel.tif", count=5, dtype=np.uint16)
    run_import(tmp_path / "out", "geojson", write(tmp_path, geometries(IDS, NORTH_UP)), raster, class_property="kind")
    assert_equal_masks(tmp_path / "out", {"sentinel": IDS})


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "urn:ogc:def:crs:OGC:1.3:CRS84"])
def test_longitude_and_latitude_are_transformed(tmp_path: Path, crs: str | None) -> None:
    listed = geometries(IDS, NORTH_UP)
    for entry in listed:
        entry["geometry"] = json.loads(
            json.dumps(warp.transform_geom(UTM, "EPSG:4326", entry["geometry"], precision=12))
        )
    raster = write_raster(tmp_path / "map.tif")
    report = run_import(tmp_path / "out", "geojson", write(tmp_path, listed, crs), raster, class_property="kind")
    assert_equal_masks(tmp_path / "out", {"map": IDS})
    assert any("to EPSG:32633, corner by corner" in remark for remark in report.remarks)


def test_numbers_of_a_property_are_label_ids(tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "map.tif")
    path = write(tmp_path, geometries(IDS, NORTH_UP))
    run_import(tmp_path / "out", "geojson", path, raster, class_property="number")
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/map.png"), IDS)
    assert classes_of(tmp_path / "out") == {"background": 0, "1": 1, "2": 2, "3": 3}


@pytest.mark.parametrize("class_property", [None, "name", "label_id"])
def test_polygons_of_a_prediction_keep_their_label_ids(class_property: str | None, tmp_path: Path) -> None:
    """As ``predict --vector geojson`` writes them: 0 is a class, and 7 comes before 3 in the alphabet."""
    raster = write_raster(tmp_path / "map.tif")
    ids = np.array([0, 3, 7])[IDS % 3].astype(np.uint8)
    space = LabelSpace.build({0: "ground", 3: "water", 7: "roof"}, None, None, [])
    with rasterio.open(tmp_path / "labels.tif", "w", **rasterio.open(raster).profile | {"count": 1}) as file:
        file.write(ids, 1)
    write_polygons(tmp_path / "labels.tif", tmp_path / "map.geojson", space)
    run_import(tmp_path / "out", "geojson", tmp_path / "map.geojson", raster, class_property=class_property)
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "masks" / "map.png"), ids)
    lines = (tmp_path / "out" / "classes.csv").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in lines[1:]] == ["0,ground", "3,water", "7,roof"]
    assert "label ids are those of the polygons (label_id)" in (tmp_path / "out" / "import.json").read_text()


def test_it_burns_as_gdal_does(tmp_path: Path) -> None:
    generator = np.random.default_rng(11)
    raster = write_raster(tmp_path / "map.tif")
    for number in range(10):
        corners = generator.uniform(-4, 36, (6, 2))
        ring = [on_the_map(NORTH_UP, corner) for corner in [*corners, corners[0]]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        out = tmp_path / str(number)
        run_import(out, "geojson", write(tmp_path, [feature(geometry)]), raster)
        expected = features.rasterize([geometry], SIZE, transform=NORTH_UP)
        np.testing.assert_array_equal(read_mask(out / "masks/map.png"), expected)


def test_parts_that_overlap_are_one_and_one_class_is_the_default(tmp_path: Path) -> None:
    geometry = {
        "type": "MultiPolygon",
        "coordinates": [square(2, 2, 6), square(4, 4, 6), square(20, 4, 3), square(2, 2, 1)],
    }
    path = write(tmp_path, [feature(geometry, kind="x")])
    report = run_import(tmp_path / "out", "geojson", path, write_raster(tmp_path / "map.tif"))
    expected = np.zeros(SIZE, np.uint8)
    expected[2:8, 2:8] = expected[4:10, 4:10] = expected[4:7, 20:23] = 1
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/map.png"), expected)
    assert report.pixels[1] == expected.sum()
    assert "all polygons are of one class; --property says otherwise (there are kind)" in report.remarks


def test_what_has_no_area_or_lies_elsewhere_is_dropped_and_named(tmp_path: Path) -> None:
    inside = feature({"type": "Polygon", "coordinates": square(2, 2, 6)})
    listed = [feature({"type": "Point", "coordinates": [0, 0]}), feature(None), inside]
    listed.append(feature({"type": "Polygon", "coordinates": square(1e6, 2, 6)}))
    path = write(tmp_path, listed)
    report = run_import(tmp_path / "out", "geojson", path, write_raster(tmp_path / "map.tif"))
    assert [(entry.where, entry.reason) for entry in report.dropped] == [
        (f"{path}: features[0]", "a Point covers no area"),
        (f"{path}: features[1]", "no geometry"),
        (f"{path} features[3]", "covers the centre of no pixel of the picture"),
    ]


def polygon(coordinates: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["features"][0]["geometry"].update(coordinates=coordinates)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.pop("crs"), "is no longitude and latitude, which GeoJSON without a crs is in"),
        (lambda document: document.update(crs="UTM"), 'crs is "UTM", no reference system that is known'),
        (lambda document: document["crs"]["properties"].update(name="EPSG:1"), "no reference system that is known"),
        (lambda document: document.update(features={}), "features is an object; a list expected"),
        (lambda document: document.update(features=[]), "no polygon in it"),
        (lambda document: document.update(type="Topology"), "no FeatureCollection of GeoJSON"),
        (
            lambda document: document["features"][0]["properties"].pop("kind"),
            "features[0] has no property 'kind'; choose",
        ),
        (lambda document: document["features"][0].update(properties=None), "has no property 'kind'"),
        (
            lambda document: document["features"][0]["properties"].update(kind=None),
            "features[0].properties.kind is null",
        ),
        (lambda document: document["features"][0]["properties"].update(kind=2), "holds both numbers (2) and texts"),
        (polygon([]), "features[0]: a polygon is a list of 0; a list of rings expected"),
        (polygon([[[0, 0], [1, 1], [0, 0]]]), "features[0]: a polygon of 2 points"),
        (polygon([[0, 1, 2], [1, 1, 3]]), "features[0]: point 0 is 0"),
        (polygon([[[0, 0], [1, "x"], [2, 2]]]), "features[0]: point 1 is [1, 'x']"),
        (polygon("x"), "features[0]: a polygon is"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = write(tmp_path, geometries(IDS, NORTH_UP))
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "geojson", path, write_raster(tmp_path / "map.tif"), class_property="kind")
    assert str(path) in str(refused.value) and words in str(refused.value)


def test_polygons_of_another_place_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [feature({"type": "Polygon", "coordinates": square(500, 2, 6)})])
    with pytest.raises(
        ValueError, match=r"no polygon lies on .*map\.tif: they are at columns 500 to 506 and rows 2 to 8"
    ):
        run_import(tmp_path / "out", "geojson", path, write_raster(tmp_path / "map.tif"))


@pytest.mark.filterwarnings("ignore")
def test_a_raster_without_a_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, geometries(IDS, NORTH_UP))
    for name, keys, words in (
        ("a.tif", {"crs": None}, "has no reference system"),
        ("b.tif", {"transform": rasterio.Affine.identity()}, "has no place on the map"),
    ):
        with pytest.raises(ValueError, match=words):
            run_import(tmp_path / "out", "geojson", path, write_raster(tmp_path / name, **keys))
    with pytest.raises(ValueError, match="no raster that can be read"):
        run_import(tmp_path / "out", "geojson", path, path)
    with pytest.raises(ValueError, match=r"gone\.tif: no such file"):
        run_import(tmp_path / "out", "geojson", path, tmp_path / "gone.tif")


def test_the_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    path = write(tmp_path, geometries(IDS, NORTH_UP))
    with pytest.raises(
        ValueError, match=r"GeoJSON wants rasterio, which is not installed: pip install 'dinoseg\[geo\]'"
    ):
        run_import(tmp_path / "out", "geojson", path, tmp_path / "map.tif")
