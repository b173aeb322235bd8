"""What is found in the files of a data set: one test for each finding."""

from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import only, run, save, text_of, write_data_set, write_pair
from helpers.tiny import write_tiny_dataset
from PIL import Image

from dinoseg.check.check import check_dataset
from dinoseg.config import DatasetsConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data")


def test_image_without_mask(root: Path) -> None:
    (root / "train/masks/a.png").unlink()
    report = run(root)
    finding = only(report, "image_without_mask")
    assert finding.severity == "error"
    assert finding.message == "1 image of train without a mask"
    assert finding.files == (str(root / "train/images/a.png"),)
    assert not report.ok


def test_mask_without_image(root: Path) -> None:
    (root / "val/images/a.png").unlink()
    finding = only(run(root), "mask_without_image")
    assert (finding.severity, finding.files) == ("warning", (str(root / "val/masks/a.png"),))


def test_names_that_do_not_match_are_shown_side_by_side(root: Path) -> None:
    (root / "train/masks/a.png").rename(root / "train/masks/x_mask.png")
    (root / "train/masks/b.png").rename(root / "train/masks/y_mask.png")
    finding = only(run(root), "empty_split")
    assert "split train has no pair of image and mask (2 images, 2 masks)" in finding.message
    assert "images are named like a.png, masks like x_mask.png" in finding.advice


def test_size_mismatch(root: Path) -> None:
    save(root / "train/masks/a.png", np.zeros((5, 4), np.uint8))
    finding = only(run(root), "size_mismatch")
    assert "a: image 4 x 2, mask 4 x 5, width x height" in finding.message
    assert "nearest neighbour" in finding.advice
    assert finding.files == (str(root / "train/masks/a.png"),)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_unreadable_file(folder: str, root: Path) -> None:
    (root / f"train/{folder}/a.png").write_bytes(b"hello")
    finding = only(run(root), "unreadable")
    assert "1 file of train cannot be read" in finding.message
    assert finding.files == (str(root / f"train/{folder}/a.png"),)


def test_truncated_mask(root: Path) -> None:
    path = root / "train/masks/a.png"
    noise = np.random.default_rng(0).integers(0, 4, (300, 300), dtype=np.uint8)
    write_pair(root, "train", "a", noise)
    path.write_bytes(path.read_bytes()[:5000])
    assert "truncated or damaged" in only(run(root), "unreadable").message


def test_jpeg_masks_are_an_error_and_their_ids_are_not_taken(root: Path) -> None:
    (root / "train/masks/a.png").unlink()
    save(root / "train/masks/a.jpg", np.full((2, 4), 77, np.uint8))
    report = run(root)
    finding = only(report, "jpeg_mask")
    assert "1 mask of train stored as JPEG" in finding.message
    assert "PNG" in finding.advice
    assert report.label_space is not None
    assert report.label_space.num_classes == 4


def test_the_same_image_in_train_and_val(root: Path) -> None:
    write_pair(root, "train", "a", seed=1)
    write_pair(root, "val", "b", seed=1)
    finding = only(run(root), "same_image_in_two_splits")
    assert (finding.severity, finding.message) == ("error", "1 image of train also in val (same bytes)")
    assert finding.files == (str(root / "train/images/a.png"), str(root / "val/images/b.png"))


def test_the_same_image_in_val_and_test_is_a_warning(root: Path) -> None:
    report = run(root, val="test")
    assert only(report, "same_image_in_two_splits").severity == "warning"
    assert report.ok


def test_the_same_image_twice_in_a_split(root: Path) -> None:
    write_pair(root, "train", "a", seed=1)
    write_pair(root, "train", "b", seed=1)
    assert only(run(root), "same_image_twice").message == "1 image of train there more than once (same bytes)"


@pytest.mark.parametrize(("orientation", "code"), [(6, "exif_rotation"), (3, "exif_unclear")])
def test_exif_rotated_image(orientation: int, code: str, root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(root / "train/images/a.png", np.zeros((2, 4, 3), np.uint8), exif=exif)
    report = run(root)
    finding = only(report, code)
    assert "1 image of train with an EXIF rotation" in finding.message
    assert finding.files == (str(root / "train/images/a.png"),)
    assert report.ok
    if orientation == 6:
        assert "1 mask of the size before rotation turned alike" in finding.advice


@pytest.mark.parametrize(("split", "severity"), [("train", "error"), ("val", "error"), ("test", "warning")])
def test_empty_split(split: str, severity: str, root: Path) -> None:
    for path in (root / split).glob("*/*.png"):
        path.unlink()
    finding = only(run(root), "empty_split")
    assert (finding.severity, f"split {split} has no pair" in finding.message) == (severity, True)


@pytest.mark.parametrize(("split", "severity"), [("train", "error"), ("test", "note")])
def test_missing_split(split: str, severity: str, root: Path) -> None:
    (root / split).rename(root / "elsewhere")
    finding = only(run(root), "missing_split")
    assert finding.severity == severity
    assert f"no folder {root / split}" in finding.message
    assert "elsewhere/" in finding.message


def test_a_missing_root_is_said_once(tmp_path: Path) -> None:
    report = run(tmp_path / "nothing")
    assert "no such folder" in only(report, "bad_layout").message
    assert (report.label_space, report.decision, report.splits) == (None, None, ())
    assert "1 error, 0 warnings: training would be wrong" in text_of(report)


def test_pairs_found_by_affixes_are_shown_with_their_rule(root: Path) -> None:
    for path in (root / "train/masks").iterdir():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    report = run(root)
    finding = only(report, "paired_by_affix")
    assert finding.severity == "note" and report.ok
    assert "2 images of train paired with masks by names without '_mask' of the masks" in finding.message
    assert "a.png with a_mask.png, b.png with b_mask.png" in finding.message


def test_pictures_that_training_refuses_are_found_by_the_check(root: Path) -> None:
    (root / "train/images/a.png").unlink()
    Image.new("RGB", (4, 2)).convert("LAB").save(root / "train/images/a.tif")
    assert "(mode LAB), which dinoseg does not read" in only(run(root), "unreadable").message


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_several_pages_are_found_by_the_check(folder: str, root: Path) -> None:
    (root / f"train/{folder}/a.png").unlink()
    pages = [Image.new("L", (4, 2), value) for value in (0, 1)]
    pages[0].save(root / f"train/{folder}/a.tif", save_all=True, append_images=pages[1:])
    assert "holds 2 pages" in only(run(root), "unreadable").message


def test_the_folder_that_an_archive_unpacked_to_is_named(tmp_path: Path) -> None:
    write_tiny_dataset(tmp_path / "archive", {"train": 2, "val": 1})
    found = {finding.code: finding for finding in check_dataset(DatasetsConfig(root=str(tmp_path))).findings}
    assert found["wrapped"].message == f"the data lies in {tmp_path / 'archive'}, the one folder below datasets.root"
    assert f"no folder {tmp_path / 'archive/test'}; {tmp_path / 'archive'} holds" in found["missing_split"].message
    inner = check_dataset(DatasetsConfig(root=str(tmp_path / "archive"))).findings
    assert not any(finding.code == "wrapped" for finding in inner)
