"""What the check says of volumes, and which changes of a file it notices."""

from pathlib import Path

import numpy as np
import pytest
from helpers.volume_files import affine_of, ball, write_volume, write_volume_pair

from dinoseg.check.check import CheckReport, check_dataset
from dinoseg.check.file_findings import Finding
from dinoseg.check.scan import scan_pairs
from dinoseg.check.scan_cache import ScanCache
from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import find_pool
from dinoseg.data.parts import in_parts


def checked(root: Path, **more: object) -> CheckReport:
    return check_dataset(DatasetsConfig(root=str(root), **more), use_cache=False)  # type: ignore[arg-type]


def finding(report: CheckReport, code: str) -> Finding:
    (found,) = [found for found in report.findings if found.code == code]
    return found


def test_volumes_and_slices_are_counted(tmp_path: Path) -> None:
    truth = [write_volume_pair(tmp_path / "train", name, (12, 10, depth))[1] for name, depth in (("a", 4), ("b", 6))]
    truth_of_val = write_volume_pair(tmp_path / "val", "c", (10, 12, 5))[1]
    report = checked(tmp_path)
    assert report.ok, report.findings
    train, val = report.splits
    expected = np.bincount(np.concatenate([labels.ravel() for labels in truth]), minlength=3)
    assert train.label_pixels == dict(enumerate(expected.tolist())) and train.pairs == 10
    assert val.label_pixels == dict(enumerate(np.bincount(truth_of_val.ravel(), minlength=3).tolist()))
    assert train.image_modes == {"volume int16": 10} and train.image_sizes == {"12 x 10": 10}
    said = [found.message for found in report.findings if found.code == "volumes"]
    assert said == [
        "2 volumes of train read in 10 slices across axis 2 (2 volumes, 4 apart)",
        "1 volume of val read in 5 slices across axis 2 (1 volume, 4 apart)",
    ]


def test_volumes_are_split_whole(tmp_path: Path) -> None:
    for name in "abcd":
        write_volume_pair(tmp_path, name, (10, 12, 4))
    made = checked(tmp_path, split="50/50").made_splits or {}
    assert sorted(name for names in made.values() for name in names) == [f"images/{name}.nii.gz" for name in "abcd"]


def test_one_volume_cannot_be_split(tmp_path: Path) -> None:
    write_volume_pair(tmp_path, "a", (10, 12, 4))
    found = finding(checked(tmp_path), "bad_layout").message
    assert "1 different images with masks for 3 splits" in found
    assert "slices of one file stay in one split" in found


def test_different_axes_are_said(tmp_path: Path) -> None:
    write_volume_pair(tmp_path / "train", "a", (12, 10, 4))
    write_volume_pair(tmp_path / "train", "b", (4, 10, 12), spacing=(4.0, 0.8, 0.8))
    write_volume_pair(tmp_path / "val", "c", (12, 10, 4))
    found = finding(checked(tmp_path), "several_slice_axes")
    assert found.message.endswith("across axis 0 (1 volume, 4 apart); across axis 2 (1 volume, 4 apart)")


def test_packed_volumes_that_no_memory_keeps_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, name in (("train", "a"), ("val", "b")):
        write_volume_pair(tmp_path / split, name, (12, 10, 4))
    monkeypatch.setattr("dinoseg.data.slices.MOST_BYTES", 100)
    report = checked(tmp_path)
    assert "unpack them once (gunzip *.nii.gz)" in finding(report, "packed_volumes").advice


def test_damaged_volumes_are_found(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        write_volume_pair(tmp_path / split, name, (30, 30, 4))
    path = tmp_path / "train" / "images" / "b.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    found = finding(checked(tmp_path), "unreadable")
    assert found.files == (str(path),) and "truncated or damaged" in found.message
    path.write_bytes(b"no volume")
    assert finding(checked(tmp_path), "bad_layout").message.startswith(f"{path}: truncated or damaged (")


def test_the_same_volume_in_two_splits_is_found(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_volume_pair(tmp_path / split, "a", (12, 10, 4))
    assert finding(checked(tmp_path), "same_image_in_two_splits").severity == "error"


def test_a_changed_mask_is_noticed(tmp_path: Path) -> None:
    _, labels = write_volume_pair(tmp_path, "a", (12, 10, 4))
    datasets, path = DatasetsConfig(root=str(tmp_path)), tmp_path / "scan.json"

    def scanned() -> tuple[int, int]:
        pairs = in_parts(find_pool(datasets), datasets).pairs
        cache = ScanCache(path)
        facts = scan_pairs(pairs, "ids", cache)
        return sum(dict(fact.mask.counts).get(2, 0) for fact in facts), cache.hits

    stones = int((labels == 2).sum())
    assert [scanned(), scanned()] == [(stones, 0), (stones, 8)]
    write_volume(tmp_path / "masks" / "a.nii.gz", np.where(labels == 2, 1, labels).astype(np.uint8), affine_of())
    assert scanned()[0] == 0


def test_the_range_is_measured_over_all_volumes(tmp_path: Path) -> None:
    values = [
        write_volume_pair(tmp_path / split, name, (12, 10, 4))[0] for split, name in (("train", "a"), ("val", "b"))
    ]
    (profile,) = checked(tmp_path, range="p1-p99").measured.profiles
    assert profile is not None
    assert (profile.low, profile.high) == (min(part.min() for part in values), max(part.max() for part in values))
    assert profile.mean == pytest.approx(np.concatenate([part.ravel() for part in values]).mean())


def test_slices_without_a_number_are_no_copies(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("val", "c")):
        values, labels = ball((12, 10, 5), seed=len(name) + (split == "val"))
        stored = values.astype(np.float32)
        stored[..., 4] = np.nan
        write_volume(tmp_path / split / "images" / f"{name}.nii", stored)
        write_volume(tmp_path / split / "masks" / f"{name}.nii", labels)
    assert checked(tmp_path).ok
    report = checked(tmp_path, range="p1-p99")
    assert report.ok and list(finding(report, "no_data").files) == [
        str(tmp_path / split / "images" / f"{name}.nii") for split, name in (("train", "a"), ("val", "c"))
    ]
    said = [found.message for found in report.findings if found.code == "volumes"]
    assert said[0].endswith("across axis 2 (1 volume, 4 apart), 20.0 % of the pixels without data")


def test_volumes_that_pair_by_a_suffix_are_named_once(tmp_path: Path) -> None:
    for name in "ab":
        write_volume_pair(tmp_path / "train", name, (12, 10, 4))
        mask = tmp_path / "train/masks" / f"{name}.nii.gz"
        mask.rename(mask.with_name(f"{name}_mask.nii.gz"))
    write_volume_pair(tmp_path / "val", "c", (12, 10, 4))
    assert finding(checked(tmp_path), "paired_by_affix").message == (
        "2 images of train paired with masks by names without '_mask' of the masks: "
        "a.nii.gz with a_mask.nii.gz, b.nii.gz with b_mask.nii.gz"
    )
