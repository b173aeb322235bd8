"""Large TIFFs through check, splits, training, evaluation and report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.map_files import write_map_pair, write_raster
from helpers.tiny import run_cli, tiny_settings
from PIL import Image

from dinoseg.check.check import CheckReport, check_dataset
from dinoseg.check.scan import scan_pairs
from dinoseg.check.scan_cache import ScanCache
from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import find_pairs
from dinoseg.data.georeference import refuse_misfits

pytest.importorskip("rasterio", reason="needs rasterio (pip install 'dinoseg[geo]')")


CACHED = ("train.cache_features=true", "train.cached_views=1")


def checked(root: Path, use_cache: bool = False, **more: Any) -> CheckReport:
    return check_dataset(DatasetsConfig(root=str(root), **{"tile": 64, **more}), use_cache=use_cache)


def finding(report: CheckReport, code: str) -> Any:
    return next(found for found in report.findings if found.code == code)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, split in enumerate(("train", "val")):
        write_map_pair(tmp_path / "data" / split, seed=number)
    return tmp_path / "data"


def test_pixels_are_counted_over_tiles(root: Path) -> None:
    report = checked(root)
    masks = [np.asarray(Image.open(root / split / "masks/map.tif")) for split in ("train", "val")]
    for split, mask in zip(report.splits, masks, strict=True):
        assert split.label_pixels == dict(enumerate(np.bincount(mask.ravel()).tolist()))
        assert split.pairs == 12
    assert report.ok
    assert finding(report, "tiles").message.startswith("1 image of train read in 12 tiles, 0.0 % of the pixels")


def test_nodata_is_told_and_tiles_of_nothing_else_are_not_trained_on(root: Path) -> None:
    image, mask = write_map_pair(root / "train")
    image[:64] = 0
    mask[64:128, :64] = 255
    write_raster(root / "train/images/map.tif", np.moveaxis(image, -1, 0), nodata=0)
    write_raster(root / "train/masks/map.tif", mask)
    report = checked(root)
    assert finding(report, "tiles").message.startswith("1 image of train read in 12 tiles, 32.0 % of the pixels")
    assert not any(found.code in ("all_ignored_mask", "same_image_twice") for found in report.findings)
    names = [pair.name for pair in report.pairs["train"]]
    assert len(names) == 12 - 4 - 1 and not any("_r0_" in name for name in names) and "map_r64_c0" not in names
    assert len(find_pairs(DatasetsConfig(root=str(root), tile=64), "train").pairs) == 12


def test_nodata_everywhere_is_an_error_that_says_where_to_look(root: Path) -> None:
    mask = write_map_pair(root / "train")[1]
    write_raster(root / "train/masks/map.tif", np.zeros_like(mask), nodata=0)
    report = checked(root, classes={0: "ground", 1: "roof"})
    found = finding(report, "nothing_but_nodata")
    assert (found.severity, found.count) == ("error", 1)
    assert found.message == "1 image of train with no pixel that holds data in image and mask"
    assert "nodata value" in found.advice and found.files == (str(root / "train/images/map.tif"),)
    assert not report.ok


def test_facts_are_remembered_until_image_mask_or_region_change(root: Path, tmp_path: Path) -> None:
    mask = write_map_pair(root / "train")[1]
    region = write_raster(tmp_path / "data/regions/map.tif", np.ones_like(mask))
    pairs = find_pairs(DatasetsConfig(root=str(root), tile=64, regions="regions"), "train").pairs

    def hits() -> tuple[int, int]:
        cache = ScanCache(tmp_path / "scan.json")
        return cache.hits + len(scan_pairs(pairs, "ids", cache)), cache.hits

    assert hits() == (12, 0)
    assert hits()[1] == 24
    write_raster(region, np.ones((200, 270), np.uint16))
    assert hits()[1] == 12
    image, _ = write_map_pair(tmp_path / "other", seed=9)
    write_raster(root / "train/images/map.tif", np.moveaxis(image, -1, 0), compress="lzw")
    assert hits()[1] == 0


def test_white_is_that_of_the_brightest_tile(root: Path) -> None:
    mask = write_map_pair(root / "train")[1]
    values = np.full((4, *mask.shape), 200, np.uint16)
    values[:, 3, 3], values[:, 50] = 4000, 65535
    write_raster(root / "train/images/map.tif", values, nodata=65535)
    report = checked(root)
    assert report.white_level == 4095
    assert "1 image with 16 bits a channel, brightest value 4000" in finding(report, "white_level").message
    assert finding(report, "dropped_channel").message.startswith("1 image with a channel beyond")


def test_what_cannot_be_read_is_a_finding(root: Path) -> None:
    mask = write_map_pair(root / "train")[1]
    write_raster(root / "train/images/map.tif", np.zeros((3, *mask.shape), np.float32))
    write_raster(root / "train/masks/map.tif", mask + 0.5)
    report = checked(root)
    messages = [found.message for found in report.findings if found.code == "unreadable"]
    assert any("float32" in message for message in messages)
    assert any("holds" in message and "which is no label id" in message for message in messages)


@pytest.mark.parametrize("side", [64, 0])
def test_all_masks_that_lie_elsewhere_are_named(
    side: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In tiles or whole, beside all other findings; training and evaluation refuse them."""
    for split in ("train", "val"):
        for name in ("one", "two"):
            mask = write_map_pair(root / split, name)[1]
            write_raster(root / split / f"masks/{name}.tif", mask, crs="EPSG:32633")
    report = checked(root, tile=side)
    found = {found.message.split(" not on")[0]: found for found in report.findings if found.code == "other_place"}
    assert list(found) == ["2 files of train", "2 files of val"]
    first = found["2 files of train"]
    assert first.severity == "error" and not report.ok
    assert first.files == tuple(str(root / f"train/masks/{name}.tif") for name in ("one", "two"))
    assert "its mask" in first.message and first.advice.startswith("warp one onto the grid of the other")
    assert [split.pairs for split in report.splits] == ([36, 36] if side else [3, 3])
    settings = tiny_settings(root, tmp_path / "run", f"datasets.tile={side}")
    assert run_cli(["train", *settings], monkeypatch) == 1
    assert "2 files of train not on the pixels of the image" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"--split val: .*one.tif lies .*\(2 such files; `dinoseg check` lists them\)"):
        refuse_misfits(find_pairs(DatasetsConfig(root=str(root), tile=side), "val").misfits, "--split val")


def test_tiles_of_another_size_do_not_hide_each_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        mask = write_map_pair(tmp_path, name)[1]
        write_raster(tmp_path / f"masks/{name}.tif", mask[:-1])
    found = finding(checked(tmp_path), "size_mismatch")
    assert found.message.startswith("2 files of train not on the pixels of the image") and len(found.files) == 2


def test_tiles_of_a_file_stay_in_one_split(tmp_path: Path) -> None:
    for number in range(5):
        write_map_pair(tmp_path, f"map_{number}", (130, 130), seed=number)
    report = checked(tmp_path, split="60/40")
    images = {name: {pair.image for pair in pairs} for name, pairs in report.pairs.items()}
    assert images["train"] and images["val"] and not images["train"] & images["val"]
    assert report.made_splits is not None
    assert sorted(name for names in report.made_splits.values() for name in names) == [
        f"images/map_{number}.tif" for number in range(5)
    ]
    (tmp_path / "splits.json").write_text(json.dumps(report.made_splits))
    again = find_pairs(DatasetsConfig(root=str(tmp_path), tile=64, split="splits.json"), "val").pairs
    assert again == report.pairs["val"]


def test_one_file_cannot_be_split(tmp_path: Path) -> None:
    write_map_pair(tmp_path)
    found = finding(checked(tmp_path), "bad_layout")
    assert "1 different images with masks for 3 splits" in found.message
    assert "tiles of one file stay in one split: cut it into files of their own" in found.message


def test_training_evaluation_and_report(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    settings = tiny_settings(root, run, "datasets.tile=64", "eval.mode=whole", "num_workers=1", *CACHED)
    assert run_cli(["check", f"datasets.root={root}", "datasets.tile=64"], monkeypatch) == 0
    assert capsys.readouterr().out.count("12 tiles of 1 image") == 2
    assert run_cli(["train", *settings], monkeypatch) == 0
    assert "images       12 tiles of 1 image train, 12 tiles of 1 image val" in capsys.readouterr().out
    assert run_cli(["eval", run], monkeypatch) == 0
    assert "12 tiles, each counted once." in capsys.readouterr().out
    record = json.loads((run / "eval/val/metrics.json").read_text())
    assert (record["policy"]["images"], record["policy"]["tiles"]) == (12, 12)
    with np.load(run / "eval/val/per_image.npz") as found:
        assert found["names"].tolist()[:2] == ["map_r0_c0", "map_r0_c64"]
        mask = np.asarray(Image.open(root / "val/masks/map.tif"))
        np.testing.assert_array_equal(found["counts"][:, 2].sum(axis=0), np.bincount(mask.ravel()))
    assert run_cli(["report", run], monkeypatch) == 0
    page = (run / "report.html").read_text()
    assert "map_r64_c128" in page and "The images are tiles of large files" in page
