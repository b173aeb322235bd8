"""Regions: outside of them nothing counts, in scan, training, figures and scores; prediction leaves it ignored."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import run, save, text_of
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image

from dinoseg.check.scan import scan_pairs
from dinoseg.check.scan_cache import ScanCache
from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import find_pairs
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm
from dinoseg.data.regions import encode_inside, read_region
from dinoseg.inference.files import list_inputs, with_regions
from dinoseg.labels import LabelSpace

SPACE = LabelSpace.build({0: "background", 1: "vessel"}, None, None, [])
INSIDE = np.array([[0, 255, 255], [0, 255, 0]], dtype=np.uint8)
IDS = np.array([[9, 0, 1], [1, 1, 0]], dtype=np.uint8)


def write_regions(root: Path, split: str, folder: str = "fov") -> None:
    """The left half of each image is outside."""
    for path in sorted((root / split / "masks").iterdir()):
        inside = np.full(np.asarray(Image.open(path)).shape, 255, np.uint8)
        inside[:, : inside.shape[1] // 2] = 0
        save(root / split / folder / path.name, inside)


def test_outside_is_ignored_whatever_stands_there(tmp_path: Path) -> None:
    save(tmp_path / "region.png", INSIDE)
    save(tmp_path / "image.png", np.zeros((2, 3, 3), np.uint8))
    pair = Pair("a", tmp_path / "image.png", tmp_path / "mask.png", region=tmp_path / "region.png")
    assert encode_inside(pair, IDS, SPACE).tolist() == [[255, 0, 1], [255, 1, 255]]
    with pytest.raises(ValueError, match=r"mask\.png.*9"):
        encode_inside(Pair("a", pair.image, pair.mask), IDS, SPACE)


@pytest.mark.parametrize("kind", ["1", "RGB", "P", "npy", "jpg"])
def test_a_region_may_be_stored_in_many_ways(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("r.npy" if kind == "npy" else "r.jpg" if kind == "jpg" else "r.png")
    inside = np.kron(INSIDE, np.ones((8, 8), np.uint8))
    if kind == "npy":
        np.save(path, inside > 0)
    else:
        image = Image.fromarray(inside)
        image.convert("L" if kind == "jpg" else kind).save(path, **({"quality": 95} if kind == "jpg" else {}))
    found = read_region(path, tmp_path / "image.png", (24, 16))
    assert (found == (inside > 0)).mean() > (0.97 if kind == "jpg" else 0.9999)


def test_a_region_of_another_size_names_both_files(tmp_path: Path) -> None:
    save(tmp_path / "r.png", INSIDE)
    save(tmp_path / "image.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"r\.png: a region of 3 x 2 for .*image\.png, which is 4 x 4"):
        read_region(tmp_path / "r.png", tmp_path / "image.png", (4, 4))


def test_a_region_of_the_stored_size_is_turned_with_its_image(tmp_path: Path) -> None:
    save(tmp_path / "r.png", INSIDE)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "image.jpg", exif=exif)
    found = read_region(tmp_path / "r.png", tmp_path / "image.jpg", (2, 3))
    assert found.tolist() == np.rot90(INSIDE > 0, -1).tolist()


def test_a_split_without_regions_has_none(tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path, {"train": 2, "test": 2})
    write_regions(root, "test")
    datasets = DatasetsConfig(root=str(root), regions={"test": "test/fov/*.png"})
    assert [pair.region is None for pair in find_pairs(datasets, "train").pairs] == [True, True]
    regions = [pair.region for pair in find_pairs(datasets, "test").pairs]
    assert [region and region.name for region in regions] == ["test_0.png", "test_1.png"]
    (root / "test" / "fov" / "test_1.png").unlink()
    with pytest.raises(ValueError, match=r"datasets\.regions=test/fov/\*\.png: no region for .*test_1\.png; each"):
        find_pairs(datasets, "test")
    with pytest.raises(ValueError, match=r"datasets\.regions=nowhere: no mask there, below"):
        find_pairs(DatasetsConfig(root=str(root), regions="nowhere"), "train")


def test_the_scan_counts_inside(tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path, {"train": 2, "val": 1})
    for split in ("train", "val"):
        write_regions(root, split)
    # A label that stands outside only is none of the data set.
    mask = np.asarray(Image.open(root / "train/masks/train_0.png")).copy()
    mask[0, 0] = 77
    save(root / "train/masks/train_0.png", mask)
    report = run(root, regions="{split}/fov")
    assert report.ok, text_of(report)
    assert sum(report.class_pixels("train")) == 2 * 40 * 28
    finding = next(finding for finding in report.findings if finding.code == "regions")
    assert finding.message == (
        "2 images of train with a region, 50.0 % of the pixels outside: train_0.png with train_0.png"
    )


@pytest.mark.parametrize("form", [PLAIN_FORM, PictureForm(bands=(1, 2, 3))])
def test_the_scan_turns_a_mask_with_its_image_before_it_looks_inside(form: PictureForm, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "image.jpg", exif=exif)
    save(tmp_path / "mask.png", np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    # Upright, the mask is 4 1, 5 2, 6 3.
    save(tmp_path / "r.png", np.array([[255, 0], [0, 255], [0, 0]], np.uint8))
    pair = Pair("a", tmp_path / "image.jpg", tmp_path / "mask.png", region=tmp_path / "r.png")
    (fact,) = scan_pairs([pair], form=form)
    assert (fact.image.error, fact.mask.error, fact.mask.counts, fact.mask.outside) == (None, None, ((2, 1), (4, 1)), 4)


def test_what_is_inside_a_region_is_remembered_of_that_region(tmp_path: Path) -> None:
    save(tmp_path / "image.png", np.zeros((1, 2, 3), np.uint8))
    save(tmp_path / "mask.png", np.array([[1, 2]], np.uint8))
    found = []
    for name, inside in (("r", [[255, 0]]), ("r", [[255, 0]]), ("s", [[0, 255]])):
        save(tmp_path / f"{name}.png", np.array(inside, np.uint8))
        os.utime(tmp_path / f"{name}.png", ns=(1, 1))
        pair = Pair("a", tmp_path / "image.png", tmp_path / "mask.png", region=tmp_path / f"{name}.png")
        cache = ScanCache(tmp_path / "scan.json")
        found.append((scan_pairs([pair], cache=cache)[0].mask.counts, cache.hits))
    assert (tmp_path / "r.png").stat().st_size == (tmp_path / "s.png").stat().st_size
    assert found == [(((1, 1),), 0), (((1, 1),), 2), (((2, 1),), 1)]


def test_a_damaged_region_is_named_not_its_mask(tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path, {"train": 1, "val": 1})
    for split in ("train", "val"):
        write_regions(root, split)
    (root / "train/fov/train_0.png").write_bytes(b"no image")
    report = run(root, regions="{split}/fov")
    finding = next(finding for finding in report.findings if finding.code == "unreadable")
    assert finding.files == (str(root / "train/fov/train_0.png"),)
    assert finding.message.startswith("1 file of train cannot be read: not an image that can be read")


def test_a_mask_of_another_size_is_named_not_its_region(tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path, {"train": 1, "val": 1})
    for split in ("train", "val"):
        write_regions(root, split)
    save(root / "train/masks/train_0.png", np.zeros((3, 5), np.uint8))
    errors = [finding.code for finding in run(root, regions="{split}/fov").findings if finding.severity == "error"]
    assert errors == ["size_mismatch"]


def test_training_evaluation_scores_and_predictions_mind_regions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 3, "val": 2})
    for split in ("train", "val"):
        write_regions(data, split)
    trained = tmp_path / "run"
    assert run_cli(["train", *tiny_settings(data, trained, "datasets.regions={split}/fov")], monkeypatch) == 0
    assert run_cli(["eval", trained], monkeypatch) == 0
    figures = json.loads((trained / "eval/val/metrics.json").read_text())
    assert figures["policy"]["regions"] == 2
    assert sum(row["truth"] for row in figures["per_class"]) == 2 * 40 * 28
    out = tmp_path / "out"
    images, regions = data / "val/images", data / "val/fov"
    assert run_cli(["predict", trained, images, "--out", out, "--regions", regions], monkeypatch) == 0
    label_map = np.asarray(Image.open(out / "labels/val_0.png"))
    assert (label_map[:, :28] == 255).all() and (label_map[:, 28:] < 3).all()
    score = ["eval", "--predictions", out, "--masks", data / "val/masks", f"datasets.regions={regions}"]
    assert run_cli(score, monkeypatch) == 0
    scored = json.loads((out / "eval/metrics.json").read_text())
    assert scored["mIoU"] == pytest.approx(figures["mIoU"])
    assert scored["unpredicted"] == [0, 0, 0]
    assert run_cli(["report", trained, "--max-images", "1"], monkeypatch) == 0


def test_an_image_without_a_region_cannot_be_cut(tmp_path: Path) -> None:
    save(tmp_path / "a.png", INSIDE)
    (tmp_path / "regions").mkdir()
    with pytest.raises(ValueError, match=r"--regions .*none for .*a\.png; add them"):
        with_regions(list_inputs([str(tmp_path / "a.png")]), tmp_path / "regions")
