"""Folds of a data set: which images are dealt, what stays together, what is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.map_files import write_map_pair
from helpers.small_data_set import only, run, save, text_of, write_pair
from helpers.volume_files import write_volume_pair

from dinoseg.check.check import CheckReport

IDS = np.array([[0, 1], [1, 0]], dtype=np.uint8)
RARE = np.array([[0, 7], [1, 0]], dtype=np.uint8)


def write_splits(root: Path, **counts: int) -> Path:
    for split, count in counts.items():
        for number in range(count):
            write_pair(root, split, f"{split}_{number}", IDS)
    return root


def names_in(report: CheckReport, split: str) -> list[str]:
    return [pair.name for found, pairs in report.pairs.items() if found == split for pair in pairs]


def folds_of(root: Path, folds: int, **settings: object) -> list[CheckReport]:
    reports = [run(root, folds=folds, fold=str(number), **settings) for number in range(folds)]
    assert all(report.ok for report in reports), reports[0].findings
    return reports


def test_train_and_val_are_pooled_and_test_stays(tmp_path: Path) -> None:
    reports = folds_of(write_splits(tmp_path, train=7, val=3, test=2), 5)
    every = sorted([f"train_{number}" for number in range(7)] + [f"val_{number}" for number in range(3)])
    held_out = [names_in(report, "val") for report in reports]
    assert [len(names) for names in held_out] == [2] * 5
    assert sorted(name for names in held_out for name in names) == every
    for report, names in zip(reports, held_out, strict=True):
        assert sorted([*names_in(report, "train"), *names]) == every
        assert names_in(report, "test") == ["test_0", "test_1"]
        assert report.made_splits is not None
        assert [Path(name).stem for name in report.made_splits["val"]] == names
    assert only(reports[3], "made_splits").message == (
        "train (7 pairs) and val (3) are pooled and dealt into 5 folds by hash of the names: 2, 2, 2, 2, 2 pairs; fold "
        "3 is held out as val"
    )


def test_without_splits_the_test_split_is_that_of_a_run_without_folds(tmp_path: Path) -> None:
    for number in range(30):
        write_pair(tmp_path, ".", f"image_{number}", IDS)
    plain = run(tmp_path)
    reports = folds_of(tmp_path, 3)
    for report in reports:
        assert names_in(report, "test") == names_in(plain, "test")
        assert sorted(names_in(report, "train") + names_in(report, "val")) == sorted(
            names_in(plain, "train") + names_in(plain, "val")
        )
    counted = len(names_in(plain, "test"))
    assert only(reports[0], "made_splits").message.startswith(
        f"test ({counted} pairs) is cut off by hash of the names, the other {30 - counted} are dealt into 3 folds"
    )


def test_shares_without_test_leave_all_to_the_folds(tmp_path: Path) -> None:
    for number in range(12):
        write_pair(tmp_path, ".", f"image_{number}", IDS)
    reports = folds_of(tmp_path, 3, split="80/20")
    assert [len(names_in(report, "val")) for report in reports] == [4, 4, 4]
    assert only(reports[0], "made_splits").message.startswith("train (12 pairs) is dealt into 3 folds")


def test_train_alone_is_dealt_out(tmp_path: Path) -> None:
    reports = folds_of(write_splits(tmp_path, train=8, test=2), 4)
    assert [len(names_in(report, "val")) for report in reports] == [2] * 4


def test_what_lists_name_is_pooled_and_dealt(tmp_path: Path) -> None:
    for number in range(12):
        write_pair(tmp_path, ".", f"image_{number}", IDS)
    (tmp_path / "mine.txt").write_text("\n".join(f"image_{number}" for number in range(6)))
    # An image that both lists name is dealt once.
    (tmp_path / "other.txt").write_text("image_5\nimage_6\nimage_7\n")
    reports = folds_of(tmp_path, 2, train="mine.txt", val="other.txt")
    held_out = [name for report in reports for name in names_in(report, "val")]
    assert sorted(held_out) == [f"image_{number}" for number in range(8)]


def test_a_file_of_splits_is_pooled_and_its_test_stays(tmp_path: Path) -> None:
    for number in range(9):
        write_pair(tmp_path, ".", f"image_{number}", IDS)
    rows = [f"image_{number},{'train' if number < 5 else 'val' if number < 7 else 'test'}" for number in range(9)]
    (tmp_path / "splits.csv").write_text("\n".join(["image,split", *rows]))
    reports = folds_of(tmp_path, 2, split="splits.csv")
    assert sorted(name for report in reports for name in names_in(report, "val")) == [f"image_{n}" for n in range(7)]
    assert names_in(reports[0], "test") == ["image_7", "image_8"]


def test_lists_that_name_masks_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        write_pair(tmp_path, ".", f"image_{number}", IDS)
        save(tmp_path / "second" / f"image_{number}.png", IDS)
    (tmp_path / "mine.csv").write_text(
        "\n".join(f"images/image_{number}.png,second/image_{number}.png" for number in range(4))
    )
    finding = only(run(tmp_path, folds=2, fold="0", train="mine.csv"), "bad_layout")
    assert "has another mask below" in finding.message
    assert "with folds let lists name images alone" in finding.message


def test_groups_are_kept_across_train_and_val(tmp_path: Path) -> None:
    for patient in range(6):
        write_pair(tmp_path, "train", f"patient{patient}_left", IDS)
        write_pair(tmp_path, "val", f"patient{patient}_right", IDS)
    reports = folds_of(tmp_path, 3, group=r"(patient\d+)_")
    for report in reports:
        held_out = {name.split("_")[0] for name in names_in(report, "val")}
        assert len(names_in(report, "val")) == 4 and len(held_out) == 2
        assert not held_out & {name.split("_")[0] for name in names_in(report, "train")}
    assert "dealt into 3 folds by hash of the 6 groups: 4, 4, 4 pairs" in only(reports[0], "made_splits").message


def test_the_same_picture_twice_is_in_one_fold(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, "train", f"a_{number}", IDS, seed=number)
        write_pair(tmp_path, "val", f"b_{number}", IDS, seed=number)
    for report in folds_of(tmp_path, 3):
        assert {name[2:] for name in names_in(report, "val")}.isdisjoint(name[2:] for name in names_in(report, "train"))


def test_slices_of_a_volume_and_tiles_of_a_map_stay_together(tmp_path: Path) -> None:
    for number in range(3):
        write_volume_pair(tmp_path / "scans" / "train", f"case_{number}")
        write_map_pair(tmp_path / "maps" / "train", f"map_{number}", seed=number)
    # A name that train and val share.
    write_volume_pair(tmp_path / "scans" / "val", "case_0", shape=(18, 16, 5))
    write_map_pair(tmp_path / "maps" / "val", "map_0", seed=9)
    for root, parts in (("scans", 5), ("maps", 6)):
        reports = folds_of(tmp_path / root, 2, tile=100)
        held_out = [{pair.image for pair in report.pairs["val"]} for report in reports]
        assert len(held_out[0]) == len(held_out[1]) == 2 and not held_out[0] & held_out[1]
        for report in reports:
            assert [len(report.pairs[split]) for split in ("train", "val")] == [2 * parts, 2 * parts]
            assert len(set(names_in(report, "train"))) == 2 * parts


def test_names_that_train_and_val_share_are_told_apart(tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path, "train", f"image_{number}", IDS)
        write_pair(tmp_path, "val", f"image_{number}", IDS)
    reports = folds_of(tmp_path, 3)
    held_out = [pair.image for report in reports for pair in report.pairs["val"]]
    assert len(set(held_out)) == 6
    for report in reports:
        names = names_in(report, "train")
        assert len(set(names)) == len(names) == 4


@pytest.mark.parametrize("folds", [2, 3])
def test_an_image_has_one_name_whichever_fold_holds_it_out(folds: int, tmp_path: Path) -> None:
    """Figures of two cross-validations are compared by it."""
    for number in range(3):
        write_pair(tmp_path, "train", f"image_{number}", IDS)
    write_pair(tmp_path, "val", "image_1", IDS)
    write_pair(tmp_path, "val", "other", IDS)
    every = ["train/images/image_0", "train/images/image_1", "train/images/image_2", "val/images/image_1"]
    for number, report in enumerate(folds_of(tmp_path, folds)):
        assert sorted([*names_in(report, "train"), *names_in(report, "val")]) == [*every, "val/images/other"]
        # So does a run that goes on by its splits.json.
        file = tmp_path / f"splits_{number}.json"
        file.write_text(json.dumps(report.made_splits))
        again = run(tmp_path, split=str(file))
        assert [names_in(again, split) for split in ("train", "val")] == [
            names_in(report, split) for split in ("train", "val")
        ]


def test_regions_by_split_are_those_of_the_folder_an_image_lies_in(tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path, "train", f"image_{number}", IDS)
        write_pair(tmp_path, "val", f"image_{number}", IDS)
        for split in ("train", "val"):
            save(tmp_path / split / "fov" / f"image_{number}.png", np.array([[255, 255], [255, 0]], dtype=np.uint8))
    for regions in ("{split}/fov", {"train": "train/fov", "val": "val/fov"}):
        for report in folds_of(tmp_path, 3, regions=regions):
            for pairs in report.pairs.values():
                for pair in pairs:
                    assert pair.region == pair.image.parents[1] / "fov" / pair.image.name


def test_all_folds_are_shown_with_their_classes(tmp_path: Path) -> None:
    write_splits(tmp_path, train=8, val=2)
    for number in range(2):
        write_pair(tmp_path, "train", f"rare_{number}", RARE)
    report = run(tmp_path, folds=4, classes={0: "back", 1: "thing", 7: "seldom"}, fold="all")
    assert report.ok
    assert [fold.pairs for fold in report.folds] == [3, 3, 3, 3]
    assert sorted(fold.label_masks.get(7, 0) for fold in report.folds) == [0, 0, 1, 1]
    lines = text_of(report).splitlines()
    assert [line.split() for line in lines if line.startswith(("fold ", "pairs", "masks with seldom"))] == [
        ["fold", "0", "1", "2", "3"],
        ["pairs", "3", "3", "3", "3"],
        ["masks", "with", "seldom", *(str(fold.label_masks.get(7, 0)) for fold in report.folds)],
    ]
    assert [fold["name"] for fold in report.to_dict()["folds"]] == ["fold 0", "fold 1", "fold 2", "fold 3"]
    assert "each is held out in turn; train and val here are those of fold 0" in only(report, "made_splits").message
    assert not [finding for finding in report.findings if finding.severity == "warning"]


def test_a_class_that_a_training_does_not_see_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path, train=6, val=2)
    write_pair(tmp_path, "train", "rare", RARE)
    report = run(tmp_path, folds=3, classes={0: "back", 1: "thing", 7: "seldom"}, fold="all")
    alone = next(number for number, fold in enumerate(report.folds) if 7 in fold.label_masks)
    finding = only(report, "class_absent_from_training")
    assert finding.message == (
        f"fold {alone} alone has masks with 'seldom' (1): the training that holds it out learns nothing of it"
    )
    assert report.ok
    # Of one fold it is what is said of any training.
    assert only(run(tmp_path, folds=3, fold=str(alone)), "class_absent_from_train").severity == "warning"


def test_neither_the_order_of_files_nor_their_split_matters(tmp_path: Path) -> None:
    write_splits(tmp_path / "one", train=6, val=3)
    before = [names_in(report, "val") for report in folds_of(tmp_path / "one", 3)]
    again = [names_in(report, "val") for report in folds_of(tmp_path / "one", 3)]
    other = [names_in(report, "val") for report in folds_of(tmp_path / "one", 3, split_seed=5)]
    assert before == again != other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "4 different images with masks for 5 folds; give more, or fewer datasets.folds"),
        ({"group": r"([ab])\d"}, "2 groups (datasets.group) for 5 folds; give more, or fewer datasets.folds"),
    ],
)
def test_more_folds_than_there_is_to_deal(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    for seed, name in enumerate(("a1", "a2", "b1")):
        write_pair(tmp_path, "train", name, IDS, seed=seed)
    write_pair(tmp_path, "val", "b2", IDS, seed=9)
    report = run(tmp_path, folds=5, fold="0", **settings)
    assert only(report, "bad_layout").message == message
