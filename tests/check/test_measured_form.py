"""What the check measures of bands and ranges, and what it says of them."""

from pathlib import Path

import numpy as np
import pytest
from helpers.band_files import write_band_set, write_tiff
from helpers.small_data_set import only, run, text_of
from PIL import Image

from dinoseg.check.band_measures import BandFacts, measure_bands, profile


def test_measures_of_parts_are_those_of_the_whole() -> None:
    generator = np.random.default_rng(0)
    parts = [generator.gamma(2, scale, (50, 60, 2)) for scale in (1, 3)]
    facts = [measure_bands(part, None) for part in parts]
    every = np.concatenate([part.reshape(-1, 2) for part in parts])
    for band in range(2):
        found = profile([fact[band] for fact in facts])
        assert found is not None
        values = every[:, band]
        assert (found.low, found.high) == (values.min(), values.max())
        assert found.mean == pytest.approx(values.mean()) and found.std == pytest.approx(values.std())
        for percent in (1.0, 5.0, 50.0, 99.0):
            assert found.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=0.05)
        low, high = np.percentile(values, (1, 99))
        cut = ((values - low) / (high - low)).clip(0, 1)
        assert found.moments_within(low, high) == pytest.approx((cut.mean(), cut.std()), abs=0.01)
    assert profile([BandFacts()]) is None


def test_only_pixels_inside_are_measured() -> None:
    values = np.array([[[1.0], [np.nan]], [[3.0], [100.0]]], np.float32)
    (found,) = measure_bands(values, np.array([[True, False], [True, False]]))
    assert (found.pixels, found.mean, found.variance, found.quantiles[-1]) == (2, 2.0, 1.0, 3.0)


def test_bands_are_measured_over_all_splits_and_shown(tmp_path: Path) -> None:
    root = write_band_set(tmp_path, "npy", bands=5, shown=4)
    np.save(root / "test/images/test_3.npy", np.full((40, 48, 5), 9000, np.float32))
    report = run(root, bands=[4, 1], range="p1-p99")
    assert report.ok and [row["band"] for row in report.measured.table()] == [4, 1]
    assert report.measured.table()[1]["max"] == 9000 and len(report.measured.settled["datasets.range"]) == 2
    assert "2 of 5 bands are read (datasets.bands=[4,1])" in only(report, "bands").message
    assert "changes brightness and contrast, and no saturation" in only(report, "bands").advice
    assert "datasets.range=p1-p99 become black to white: band 4: " in only(report, "range").message
    text = text_of(report)
    assert "bands, over all splits" in text and "9000" in text


def test_pictures_without_a_range_name_the_measured_one(tmp_path: Path) -> None:
    root = write_band_set(tmp_path, "grey")
    finding = only(run(root), "no_range")
    assert finding.severity == "error" and "4 images with values of type float32 (1.7" in finding.message
    assert finding.advice.startswith("set datasets.range=p1-p99 for percentiles of the data set, or datasets.range=1.7")
    assert run(root, range="0,4").measured.settled == {"datasets.range": [0.0, 4.0]}


@pytest.mark.parametrize(
    ("given", "seen"), [("100,200", "black"), ("-9,1", "white"), ("-60,60", "one grey"), ("0,4", "")]
)
def test_a_range_that_misses_the_values_is_a_warning(given: str, seen: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        values = np.linspace(1.5, 3.5, 80, dtype=np.float32).reshape(8, 10)
        for name, array in (("images", values), ("masks", (values > 2).astype(np.uint8))):
            (tmp_path / split / name).mkdir(parents=True)
            np.save(tmp_path / split / name / "a.npy", array)
    found = [finding for finding in run(tmp_path, range=given).findings if finding.code == "range_missed"]
    assert [finding.severity for finding in found] == (["warning"] if seen else [])
    if found:
        low, high = given.split(",")
        assert found[0].message == (
            f"band 1: 98 % of its values are 1.52 to 3.48, and black to white are {low} to {high}: nearly all of it is "
            f"{seen}"
        )
        assert found[0].advice == "give values in the units of the files, or datasets.range=p1-p99"


def test_bands_are_named_as_one_types_them(tmp_path: Path) -> None:
    root = write_band_set(tmp_path, "npy", bands=5, shown=4)
    advice = only(run(root), "no_range").advice
    assert advice.endswith("; and datasets.bands=[1,2,3,4,5] for more than grey")
    assert "datasets.bands" not in only(run(root, bands=[2, 1]), "no_range").advice


def test_three_bytes_of_rgb_keep_imagenets_mean(tmp_path: Path) -> None:
    root = write_band_set(tmp_path)
    for path in root.glob("*/images/*"):
        path.unlink()
        Image.effect_noise((48, 40), 50).convert("RGB").save(path.with_suffix(".png"))
    assert run(root, bands=[1, 2, 3]).measured.settled["transforms.mean"] == [0.485, 0.456, 0.406]
    assert run(root, bands=[3, 2, 1]).measured.settled["transforms.mean"][0] == pytest.approx(0.5, abs=0.05)


def test_what_is_wrong_with_the_bands_of_files(tmp_path: Path) -> None:
    root = write_band_set(tmp_path)
    beyond = [finding for finding in run(root, bands=[14]).findings if finding.code == "unreadable"]
    assert len(beyond) == 3 and not beyond[0].advice
    assert "holds 13 bands, and datasets.bands=[14] names band 14; give files with that many" in beyond[0].message
    without = [finding for finding in run(root).findings if finding.code == "unreadable"]
    assert all("or name its bands, datasets.bands=[1,2,3]" in finding.message for finding in without) and without
    odd = write_tiff(root / "val/images/val_2.tif", np.ones((12, 40, 48), np.uint16))
    finding = only(run(root, bands=[2, 1]), "band_counts")
    assert finding.severity == "error" and str(odd) in finding.message and "holds 12" in finding.message


def test_no_data_counts_nowhere(tmp_path: Path) -> None:
    root = write_band_set(tmp_path, "npy", bands=4, shown=4)
    values = np.load(root / "train/images/train_0.npy")
    values[:20] = np.nan
    np.save(root / "train/images/train_0.npy", values)
    mask = np.array(Image.open(root / "train/masks/train_0.png"))
    mask[:20] = 77
    Image.fromarray(mask).save(root / "train/masks/train_0.png")
    report = run(root, bands=[1, 4], range="0,4000", classes={0: "ground", 1: "seen"})
    assert report.ok, report.findings
    assert "1 image with pixels without data (NaN, infinite or nodata), 50.0 %" in only(report, "no_data").message
