"""Data without splits of its own, or without validation: what is made of it, and what is said."""

from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import only, run, save, text_of

from dinoseg.check.check import CheckReport

IDS = np.array([[0, 1], [1, 0]], dtype=np.uint8)


def write_pairs(root: Path, names: list[str], ids: np.ndarray = IDS, seed: int | None = None) -> Path:
    for number, name in enumerate(names):
        noise = np.random.default_rng(number if seed is None else seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
        save(root / "images" / f"{name}.png", noise)
        save(root / "masks" / f"{name}.png", ids)
    return root


def names_in(report: CheckReport) -> dict[str, list[str]]:
    return {split: [pair.name for pair in pairs] for split, pairs in report.pairs.items()}


def test_one_folder_of_pairs_is_split(tmp_path: Path) -> None:
    report = run(write_pairs(tmp_path, [f"image_{number}" for number in range(30)]))
    assert report.ok
    names = names_in(report)
    assert list(names) == ["train", "val", "test"]
    assert sorted(name for found in names.values() for name in found) == sorted(
        f"image_{number}" for number in range(30)
    )
    finding = only(report, "made_splits")
    counts = ", ".join(f"{split} {len(found)}" for split, found in names.items())
    assert finding.message == f"there are no splits: they are made by hash of the names: {counts} pairs"
    assert "datasets.group='(patient\\d+)' keeps them together" in finding.advice
    assert report.made_splits is not None
    assert report.made_splits["val"] == tuple(f"images/{name}.png" for name in names["val"])
    assert "fit for training" in text_of(report)


def test_shares_and_seed(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, [f"image_{number}" for number in range(40)])
    two = names_in(run(root, split="50/50"))
    assert list(two) == ["train", "val"]
    assert 10 < len(two["val"]) < 30
    assert names_in(run(root, split="50/50", split_seed=1)) != two


def test_a_group_stands_in_one_split(tmp_path: Path) -> None:
    names = [f"patient{patient}_{side}" for patient in range(12) for side in ("left", "right")]
    report = run(write_pairs(tmp_path, names), group=r"(patient\d+)_")
    of_split = {split: {name.split("_")[0] for name in found} for split, found in names_in(report).items()}
    assert sum(map(len, of_split.values())) == 12
    assert "by hash of the 12 groups" in only(report, "made_splits").message


def test_the_same_picture_twice_stays_together(tmp_path: Path) -> None:
    names = [f"image_{number}" for number in range(20)]
    write_pairs(tmp_path, [*names, *(f"copy_of_{name}" for name in names)])
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 256, (2, 2, 3), dtype=np.uint8)
        save(tmp_path / "images" / f"copy_of_{name}.png", noise)
    report = run(tmp_path)
    assert not [finding for finding in report.findings if finding.code == "same_image_in_two_splits"]
    assert report.ok


def test_a_rare_class_reaches_train_first(tmp_path: Path) -> None:
    write_pairs(tmp_path, [f"image_{number}" for number in range(20)])
    write_pairs(tmp_path, ["rare"], np.array([[0, 7], [1, 0]], dtype=np.uint8), seed=99)
    assert "rare" in names_in(run(tmp_path))["train"]


def test_values_that_are_no_classes_move_no_image(tmp_path: Path) -> None:
    """Blurred colours and ignored labels, of which each mask has its own."""
    names = [f"image_{number}" for number in range(40)]
    declared = {"#000000": "background", "#ff0000": "object"}
    hard = np.array([[[0, 0, 0], [255, 0, 0]], [[255, 0, 0], [0, 0, 0]]], dtype=np.uint8)
    write_pairs(tmp_path, names, hard)
    plain = names_in(run(tmp_path, classes=declared, colour_tolerance=100))
    for number, name in enumerate(names):
        blurred = hard.copy()
        blurred[0, 0, 0] = number + 1
        save(tmp_path / "masks" / f"{name}.png", blurred)
    report = run(tmp_path, classes=declared, colour_tolerance=100)
    assert report.ok and names_in(report) == plain
    for number, name in enumerate(names):
        save(tmp_path / "masks" / f"{name}.png", np.array([[0, 1], [1, number + 2]], dtype=np.uint8))
    report = run(tmp_path, classes={0: "background", 1: "object"}, ignore=list(range(2, 42)))
    assert report.ok and names_in(report) == plain


def test_validation_is_held_out_of_train(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", [f"image_{number}" for number in range(20)])
    report = run(tmp_path)
    names = names_in(report)
    assert list(names) == ["train", "val"]
    assert 1 <= len(names["val"]) <= 8
    assert only(report, "made_splits").message.startswith("there is no val: train is split by hash of the names: ")
    assert only(report, "missing_split").severity == "note"


def test_a_test_split_stays_what_it_is(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", [f"image_{number}" for number in range(20)])
    write_pairs(tmp_path / "test", ["x"], seed=77)
    names = names_in(run(tmp_path, split="75/25"))
    assert names["test"] == ["x"]
    assert 2 <= len(names["val"]) <= 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "80/30"}, r"datasets\.split=80/30: shares are two or three numbers that sum to 100"),
        (
            {"split": "80/10/10"},
            r"datasets\.split=80/10/10: the data has splits of its own \(train, test\); leave it out",
        ),
    ],
)
def test_shares_that_do_not_fit(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", ["a", "b", "c"])
    write_pairs(tmp_path / "test", ["x"], seed=77)
    report = run(tmp_path, **settings)
    assert not report.ok
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(only(report, "bad_layout").message)


def test_too_few_images_for_three_splits(tmp_path: Path) -> None:
    report = run(write_pairs(tmp_path, ["a", "b"]))
    assert (
        only(report, "bad_layout").message
        == "2 different images with masks for 3 splits; give more, or lists of your own"
    )


def test_a_folder_of_the_users_own_name_is_missing_not_held_out(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", ["a", "b", "c"])
    report = run(tmp_path, val="holdout")
    assert not report.ok
    assert "no folder" in next(f for f in report.findings if f.severity == "error").message


def test_validation_is_held_out_of_a_list_of_training_images(tmp_path: Path) -> None:
    write_pairs(tmp_path, [f"image_{number}" for number in range(30)])
    (tmp_path / "mine.txt").write_text("\n".join(f"image_{number}" for number in range(20)))
    names = names_in(run(tmp_path, train="mine.txt"))
    assert sorted(names["train"] + names["val"]) == sorted(f"image_{number}" for number in range(20))


def test_validation_alone_says_nothing_of_what_to_train_on(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b", "c"])
    (tmp_path / "val.lst").write_text("a")
    message = only(run(tmp_path, val="val.lst"), "bad_layout").message
    assert message == "datasets.val=val.lst is given, but nothing says what to train on; give datasets.train, too"


def test_one_missing_mask_of_many_with_a_suffix_is_named(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(6)]
    write_pairs(tmp_path, names)
    for name in names:
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}_mask.png")
    (tmp_path / "masks" / "p0_mask.png").unlink()
    finding = only(run(tmp_path), "image_without_mask")
    assert finding.message == "1 image of train without a mask" and [Path(file).name for file in finding.files] == [
        "p0.png"
    ]
    assert "_mask.png is after p" in finding.advice and finding.advice.endswith("), or take the images out")


def test_masks_that_are_named_after_no_image_are_said(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b", "c"])
    for name, other in zip("abc", ("x7", "y1", "z4"), strict=True):
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{other}.png")
    assert only(run(tmp_path), "bad_layout").message == (
        "3 images and 3 masks, and no mask is named after an image, images like a.png, masks like x7.png: give each "
        "mask the stem of its image, with the same prefix or suffix in all of them; or list the pairs "
        "(datasets.split=list.csv)"
    )
