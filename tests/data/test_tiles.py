"""Large TIFFs as tiles: they cover the file once, hold what the file holds, and are read by themselves."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.map_files import LAYOUTS, write_map_pair, write_raster
from PIL import Image

from dinoseg.config import DatasetsConfig
from dinoseg.data.dataset import EvaluationDataset, SegmentationDataset, read_encoded, read_picture, stored_size
from dinoseg.data.folders import find_pairs
from dinoseg.data.pairs import Pair, SplitListing
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.tiles import LARGEST_WHOLE, Tile, areas, in_tiles
from dinoseg.labels import LabelSpace

rasterio = pytest.importorskip("rasterio", reason="needs rasterio (pip install 'dinoseg[geo]')")

SPACE = LabelSpace.build({0: "a", 1: "b", 2: "c"}, None, None, [])


def misfits_of(root: Path, side: int | None = 64, **more: Any) -> list[str]:
    listing = find_pairs(DatasetsConfig(root=str(root), tile=side, **more), "train")
    return [f"{misfit.message}; {misfit.advice}" for misfit in listing.misfits]


def tiles_of(root: Path, side: int | None = 64, **more: Any) -> list[Tile]:
    pairs = find_pairs(DatasetsConfig(root=str(root), tile=side, **more), "train").pairs
    assert all(isinstance(pair, Tile) for pair in pairs)
    return [pair for pair in pairs if isinstance(pair, Tile)]


@pytest.mark.parametrize(("size", "side"), [((200, 270), 64), ((64, 65), 64), ((95, 96), 64), ((1, 1000), 64)])
def test_areas_cover_every_pixel_once_and_none_is_a_sliver(size: tuple[int, int], side: int) -> None:
    seen = np.zeros(size, int)
    for area in areas(*size, side):
        seen[slice(*area.rows), slice(*area.columns)] += 1
        assert all(length < 1.5 * side for length in area.size)
        assert all(length >= min(side / 2, whole) for length, whole in zip(area.size, size, strict=True))
    assert (seen == 1).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiles_hold_what_the_file_holds(layout: str, tmp_path: Path) -> None:
    image, mask = write_map_pair(tmp_path / "train", **LAYOUTS[layout])
    found = tiles_of(tmp_path)
    assert [tile.name for tile in found][:5] == ["map_r0_c0", "map_r0_c64", "map_r0_c128", "map_r0_c192", "map_r64_c0"]
    for tile in found:
        rows, columns = slice(*tile.area.rows), slice(*tile.area.columns)
        picture, class_map = read_encoded(tile, SPACE)
        np.testing.assert_array_equal(np.asarray(picture), image[rows, columns])
        np.testing.assert_array_equal(class_map, mask[rows, columns])
        assert read_picture(tile, SPACE) == picture
        assert stored_size(tile, SPACE) == class_map.shape


def test_only_the_tile_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_map_pair(tmp_path / "train")
    read, shapes = rasterio.DatasetReader.read, []

    def noted(self: Any, *given: Any, **named: Any) -> np.ndarray:
        values = read(self, *given, **named)
        shapes.append(values.shape)
        return values

    found = tiles_of(tmp_path)
    monkeypatch.setattr("rasterio.io.DatasetReader.read", noted)
    monkeypatch.setattr(Image, "open", lambda *given: pytest.fail("read whole"))
    transform = lambda image, class_map: (np.asarray(image), class_map)  # noqa: E731
    training = SegmentationDataset(found, SPACE, transform, 0)  # type: ignore[arg-type]
    evaluated = EvaluationDataset(found, SPACE, transform)  # type: ignore[arg-type]
    assert training[0, 5]["class_map"].shape == evaluated[5]["class_map"].shape == (64, 64)
    assert shapes and max(np.prod(shape) for shape in shapes) <= 3 * 64 * 64
    assert len(training) == len(found) == 12


def test_nodata_of_image_and_mask_and_what_is_outside_counts_nowhere(tmp_path: Path) -> None:
    image, mask = write_map_pair(tmp_path / "train")
    image[:10], mask[:, :7] = 0, 99
    write_raster(tmp_path / "train/images/map.tif", np.moveaxis(image, -1, 0), nodata=0)
    write_raster(tmp_path / "train/masks/map.tif", mask, nodata=99)
    region = np.full(mask.shape, 255, np.uint8)
    region[:, 60:] = 0
    write_raster(tmp_path / "regions/map.tif", region)
    tile = tiles_of(tmp_path, regions="regions")[0]
    class_map = read_encoded(tile, SPACE)[1]
    counts = class_map != SPACE.ignore_index
    expected = np.zeros((64, 64), bool)
    expected[10:, 7:60] = True
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(class_map[expected], mask[:64, :64][expected])


def test_opaque_pixels_may_be_nodata(tmp_path: Path) -> None:
    """A nodata value beside alpha: what either of them hides counts nowhere."""
    image = write_map_pair(tmp_path / "train")[0]
    values = np.concatenate([np.moveaxis(image, -1, 0), np.full((1, *image.shape[:2]), 255, np.uint8)])
    values[:3, :10], values[3, :, :7] = 0, 0
    path = write_raster(tmp_path / "train/images/map.tif", values, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [getattr(rasterio.enums.ColorInterp, name) for name in ("red", "green", "blue", "alpha")]
    expected = np.zeros((64, 64), bool)
    expected[10:, 7:] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_map = read_encoded(tiles_of(tmp_path)[0], SPACE)[1]
    np.testing.assert_array_equal(class_map != SPACE.ignore_index, expected)


def test_a_palette_is_its_colours(tmp_path: Path) -> None:
    write_map_pair(tmp_path / "train")
    table = np.random.default_rng(2).integers(0, 256, (256, 3), dtype=np.uint8)
    indices = np.random.default_rng(3).integers(0, 256, (200, 270), dtype=np.uint8)
    path = write_raster(tmp_path / "train/images/map.tif", indices, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {index: (*colour.tolist(), 255) for index, colour in enumerate(table)})
    picture = np.asarray(read_picture(tiles_of(tmp_path)[0], SPACE))
    np.testing.assert_array_equal(picture, table[indices[:64, :64]])


@pytest.mark.parametrize(("kind", "photometric"), [("images", "ycbcr"), ("images", "cielab"), ("masks", "miniswhite")])
def test_what_pillow_reads_otherwise_is_read_whole(kind: str, photometric: str, tmp_path: Path) -> None:
    image, mask = write_map_pair(tmp_path / "train")
    file = tmp_path / f"train/{kind}/map.tif"
    if photometric == "ycbcr":  # which GDAL writes as JPEG alone
        Image.fromarray(image).convert("YCbCr").save(file)
    else:
        write_raster(file, np.moveaxis(image, -1, 0) if kind == "images" else mask, photometric=photometric)
    pairs = find_pairs(DatasetsConfig(root=str(tmp_path), tile=64), "train").pairs
    assert [type(pair) for pair in pairs] == [Pair]


def test_a_label_outside_the_space_names_file_and_tile(tmp_path: Path) -> None:
    mask = write_map_pair(tmp_path / "train")[1]
    mask[100, 100] = 77
    write_raster(tmp_path / "train/masks/map.tif", mask)
    bad = next(tile for tile in tiles_of(tmp_path) if tile.name == "map_r64_c64")
    with pytest.raises(ValueError, match=r"map\.tif \(map_r64_c64\).*77"):
        read_encoded(bad, SPACE)


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"crs": "EPSG:32633"}, "EPSG:32633"),
        ({"transform": (0.5, 0, 500_010, 0, -0.5, 5_400_000)}, "at 500010, 5400000 in pixels of 0.5 x 0.5"),
        ({"transform": (0.6, 0, 500_000, 0, -0.5, 5_400_000)}, "pixels of 0.6 x 0.5"),
        ({"transform": (0, 0, 5, 0, 0, 6)}, "at 5, 6 in pixels of 0 x 0"),
    ],
)
@pytest.mark.parametrize("side", [64, None, 0])
def test_a_mask_that_lies_elsewhere_is_a_misfit(
    side: int | None, profile: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Whether it is read in tiles or whole."""
    mask = write_map_pair(tmp_path / "train")[1]
    if "transform" in profile:
        profile = {"transform": rasterio.Affine(*profile["transform"])}
    write_raster(tmp_path / "train/masks/map.tif", mask, **profile)
    (words,) = misfits_of(tmp_path, side)
    assert "images/map.tif lies at 500000, 5400000 in pixels of 0.5 x 0.5 (EPSG:32632) but its mask" in words
    assert said in words and str(tmp_path / "train/masks/map.tif") in words
    assert words.endswith("warp one onto the grid of the other, a mask by nearest neighbour only")


def test_a_mask_of_another_size_is_a_misfit_and_has_no_tiles(tmp_path: Path) -> None:
    mask = write_map_pair(tmp_path / "train")[1]
    write_raster(tmp_path / "train/masks/map.tif", mask[:-1])
    (words,) = misfits_of(tmp_path)
    assert re.search(r"map\.tif is 270 x 200 but its mask .*map\.tif is 270 x 199 .*; resize one of them", words)
    assert tiles_of(tmp_path) == [] and misfits_of(tmp_path, 0) == []


def test_a_mask_without_a_georeference_is_taken_by_its_size(tmp_path: Path) -> None:
    mask = write_map_pair(tmp_path / "train")[1]
    Image.fromarray(mask).save(tmp_path / "train/masks/map.tif")
    np.testing.assert_array_equal(read_encoded(tiles_of(tmp_path)[0], SPACE)[1], mask[:64, :64])


def test_a_region_must_lie_there_too(tmp_path: Path) -> None:
    mask = write_map_pair(tmp_path / "train")[1]
    write_raster(tmp_path / "regions/map.tif", mask, crs="EPSG:32633")
    for side in (64, 0):
        assert "but its region" in misfits_of(tmp_path, side, regions="regions")[0]
    write_raster(tmp_path / "regions/map.tif", mask[:-1])
    assert "its region" in (words := misfits_of(tmp_path, regions="regions")[0]) and "is 270 x 199" in words
    (tmp_path / "regions/map.tif").unlink()
    Image.fromarray(mask).save(tmp_path / "regions/map.png")
    (words,) = misfits_of(tmp_path, regions="regions")
    assert re.search(r"map\.png: the region of .*map\.tif, which is read in tiles, is no TIFF", words)


@pytest.mark.parametrize("side", [None, 0, 270])
def test_small_images_are_read_whole(side: int | None, tmp_path: Path) -> None:
    write_map_pair(tmp_path / "train")
    (pair,) = find_pairs(DatasetsConfig(root=str(tmp_path), tile=side), "train").pairs
    assert type(pair) is Pair


def test_left_out_the_number_of_pixels_decides(tmp_path: Path) -> None:
    side = int(LARGEST_WHOLE**0.5)
    for name, size in (("small", (side, side)), ("large", (side, side + 1))):
        sparse = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": size[0], "width": size[1]}
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            with rasterio.open(tmp_path / folder / f"{name}.tif", "w", SPARSE_OK=True, compress="deflate", **sparse):
                pass
    pairs = [
        Pair(name, *(tmp_path / kind / f"{name}.tif" for kind in ("images", "masks"))) for name in ("small", "large")
    ]
    found = in_tiles(SplitListing(tuple(pairs)), DatasetsConfig()).pairs
    assert found[0] == pairs[0] and len(found) == 1 + 25
    assert {pair.name.rpartition("_r")[0] for pair in found[1:]} == {"large"}


def test_what_is_no_pair_of_plain_tiffs_stays_whole(tmp_path: Path) -> None:
    image, mask = write_map_pair(tmp_path)
    Image.fromarray(mask).save(tmp_path / "masks/map.png")
    Image.fromarray(image).save(tmp_path / "images/turned.tif", tiffinfo={274: 6})
    pages = [Image.fromarray(mask), Image.fromarray(mask)]
    pages[0].save(tmp_path / "images/pages.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "images/broken.tif").write_bytes(b"II*\0 not a TIFF")
    pairs = [Pair("png", tmp_path / "images/map.tif", tmp_path / "masks/map.png")]
    pairs += [Pair(n, tmp_path / f"images/{n}.tif", tmp_path / "masks/map.tif") for n in ("turned", "pages", "broken")]
    assert list(in_tiles(SplitListing(tuple(pairs)), DatasetsConfig(tile=64)).pairs) == pairs


def test_a_side_that_is_none_and_a_missing_package_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"datasets\.tile=5: give 64 or more, or 0"):
        in_tiles(SplitListing(()), DatasetsConfig(tile=5))
    monkeypatch.setattr("dinoseg.data.tiles.has_rasterio", lambda: False)
    with pytest.raises(ValueError, match=r"datasets\.tile=64: .* pip install 'dinoseg\[geo\]'"):
        in_tiles(SplitListing(()), DatasetsConfig(tile=64))
    assert in_tiles(SplitListing(()), DatasetsConfig()).pairs == ()


def test_colours_and_palettes(tmp_path: Path) -> None:
    mask = write_map_pair(tmp_path / "train")[1]
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    space = LabelSpace.build({"#000000": "a", "#ff0000": "b", "#0000ff": "c"}, None, None, [])
    write_raster(tmp_path / "train/masks/map.tif", np.moveaxis(table[mask], -1, 0))
    np.testing.assert_array_equal(read_encoded(tiles_of(tmp_path)[0], space)[1], mask[:64, :64])
    with pytest.raises(ValueError, match="RGB mask with 3 colours where label ids are expected"):
        read_encoded(tiles_of(tmp_path)[0], SPACE)
    write_raster(tmp_path / "train/masks/map.tif", mask)
    with pytest.raises(ValueError, match=r"map\.tif: one channel where datasets\.classes declares colours"):
        read_encoded(tiles_of(tmp_path)[0], space)
    with rasterio.open(tmp_path / "train/masks/map.tif", "r+") as file:
        file.write_colormap(1, {value: (*colour.tolist(), 255) for value, colour in enumerate(table)})
    for each in (space, SPACE):
        np.testing.assert_array_equal(read_encoded(tiles_of(tmp_path)[0], each)[1], mask[:64, :64])


def test_sixteen_bits_by_the_white_level(tmp_path: Path) -> None:
    mask = write_map_pair(tmp_path / "train")[1]
    values = np.full((4, *mask.shape), 4095, np.uint16)
    values[:, :5] = 65535
    write_raster(tmp_path / "train/images/map.tif", values, nodata=65535)
    picture = np.asarray(read_picture(tiles_of(tmp_path)[0], SPACE, PictureForm(4095)))
    assert (picture[:5] == 0).all() and (picture[5:] == 255).all()


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    write_map_pair(tmp_path / "train")
    found = tiles_of(tmp_path)
    file = tmp_path / "train/images/map.tif"
    file.write_bytes(file.read_bytes()[:60_000])
    with pytest.raises(ValueError, match=r"images/map\.tif: missing, truncated or damaged"):
        for tile in found:
            read_encoded(tile, SPACE)
