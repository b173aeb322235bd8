"""YOLO labels to masks and back by an independent writer: layouts, splits, and every line that is refused."""

from pathlib import Path

import numpy as np
import pytest
from helpers.annotations import (
    NAMES,
    assert_equal_masks,
    classes_of,
    corners,
    random_ids,
    read_mask,
    row_boxes,
    run_import,
    write_picture,
)

SIZE = (24, 32)
YAML = "path: /somewhere/else\nnames:\n  0: artery\n  1: vein\n  2: crossing\nnc: 3\n"


def label_lines(ids: np.ndarray) -> str:
    height, width = ids.shape
    lines = []
    for label_id in NAMES:
        for box in row_boxes(ids == label_id):
            shares = [f"{x / width!r} {y / height!r}" for x, y in corners(box)]
            lines.append(f"{label_id - 1} {' '.join(shares)}")
    return "\n".join(lines) + "\n"


def write_split(images: Path, labels: Path, masks: dict[str, np.ndarray]) -> None:
    for stem, ids in masks.items():
        write_picture(images / f"{stem}.png", ids.shape)
        (labels / f"{stem}.txt").parent.mkdir(parents=True, exist_ok=True)
        (labels / f"{stem}.txt").write_text(label_lines(ids))


def some_masks(seed: int) -> dict[str, np.ndarray]:
    return {f"a{seed}": random_ids(seed, SIZE), f"below/b{seed}": random_ids(seed + 1, SIZE)}


def one(folder: Path, text: str) -> Path:
    """A picture of 24 x 32, its labels, and three classes."""
    write_split(folder / "images", folder / "labels", {"a": np.zeros(SIZE, np.uint8)})
    (folder / "labels" / "a.txt").write_text(text)
    (folder / "classes.txt").write_text("artery\nvein\ncrossing\n")
    return folder


SQUARE = "0 0 0 0.5 0 0.5 0.5 0 0.5"


def test_polygons_give_the_masks_they_were_written_from(tmp_path: Path) -> None:
    masks = some_masks(1) | {"empty": np.zeros(SIZE, np.uint8)}
    write_split(tmp_path / "in/images", tmp_path / "in/labels", masks)
    (tmp_path / "in/classes.txt").write_text("artery\nvein\ncrossing\n")
    report = run_import(tmp_path / "out", "yolo", tmp_path / "in")
    assert_equal_masks(tmp_path / "out", masks)
    assert classes_of(tmp_path / "out") == {"background": 0, "artery": 1, "vein": 2, "crossing": 3}
    assert report.to_dict()["label_ids"].startswith("label ids are counted from 1")


@pytest.mark.parametrize(
    ("yaml", "images", "labels", "splits"),
    [
        (YAML, "{}/images", "{}/labels", {"train": "train", "valid": "val", "test": "test"}),
        (YAML, "images/{}", "labels/{}", {"train": "train", "val": "val"}),
        (
            YAML + "train: images/a2017\nval: ./images/b2017",
            "images/{}",
            "labels/{}",
            {"a2017": "train", "b2017": "val"},
        ),
        (YAML + "train: ../one/images\nval: ../two/images", "{}/images", "{}/labels", {"one": "train", "two": "val"}),
        (YAML + "train: one\nval: two", "{}/images", "{}/labels", {"one": "train", "two": "val"}),
        (YAML + "train: [x/images]\ntest: y/images", "{}/images", "{}/labels", {"x": "train", "y": "test"}),
    ],
)
def test_splits_are_kept(tmp_path: Path, yaml: str, images: str, labels: str, splits: dict[str, str]) -> None:
    masks = {split: some_masks(number) for number, split in enumerate(splits.values())}
    for folder, split in splits.items():
        write_split(tmp_path / "in" / images.format(folder), tmp_path / "in" / labels.format(folder), masks[split])
    (tmp_path / "in" / "data.yaml").write_text(yaml)
    report = run_import(tmp_path / "out", "yolo", tmp_path / "in")
    for split in splits.values():
        assert_equal_masks(tmp_path / "out", masks[split], split=split)
    there = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert there == {*splits.values(), "classes.csv", "import.json"}
    assert report.to_dict()["splits"] == {split: 2 for split in splits.values()}


def test_a_split_that_is_not_there_is_said(tmp_path: Path) -> None:
    write_split(tmp_path / "in/train/images", tmp_path / "in/train/labels", some_masks(1))
    (tmp_path / "in" / "data.yaml").write_text(YAML + "train: train/images\nval: valid/images\n")
    report = run_import(tmp_path / "out", "yolo", tmp_path / "in")
    assert any("names 'valid/images' for val, which is not there" in remark for remark in report.remarks)


def test_background_among_the_names_is_the_background(tmp_path: Path) -> None:
    folder = one(tmp_path / "in", "1 0 0 1 0 1 1 0 1\n0 0 0 0.5 0 0.5 0.5 0 0.5\n")
    (folder / "classes.txt").write_text("background\nroad\n")
    run_import(tmp_path / "out", "yolo", folder)
    assert classes_of(tmp_path / "out") == {"background": 0, "road": 1}
    assert (read_mask(tmp_path / "out/masks/a.png") == 0).sum() == 12 * 16


def test_pictures_without_labels_are_left_out_and_labels_without_a_picture_refused(tmp_path: Path) -> None:
    folder = one(tmp_path / "in", SQUARE)
    write_picture(folder / "images" / "b.png", SIZE)
    report = run_import(tmp_path / "out", "yolo", folder)
    assert [entry.reason for entry in report.dropped] == [
        "left out: no file of labels; an empty one says that there is nothing on it"
    ]
    assert "b.png" in report.dropped[0].where
    (folder / "labels" / "c.txt").write_text(SQUARE)
    with pytest.raises(ValueError, match=r"1 annotated picture is not there: .*images/c\.\* \(.*labels/c\.txt\)"):
        run_import(tmp_path / "new", "yolo", folder)
    report = run_import(tmp_path / "new", "yolo", folder, skip_missing=True)
    assert len(report.dropped) == 2


def test_the_grid_is_the_upright_one(tmp_path: Path) -> None:
    folder = one(tmp_path / "in", SQUARE)
    write_picture(folder / "images" / "a.png", SIZE, orientation=6)
    run_import(tmp_path / "out", "yolo", folder)
    mask = read_mask(tmp_path / "out/masks/a.png")
    assert mask.shape == (32, 24) and (mask[:16, :12] == 1).all() and mask.sum() == 16 * 12


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2 0.2", "a box (class and four numbers), which says nothing of pixels"),
        ("0 0.5 0.5 0.2", "class and 3 numbers; x y of three points are the fewest"),
        ("0", "class and 0 numbers"),
        ("0 0 0 0.5 0 0.5 0.5 0", "class and 7 numbers; x y of three points are the fewest, and they come in pairs"),
        ("3 0 0 0.5 0 0.5 0.5", "class '3' is none of the 3 of"),
        ("-1 0 0 0.5 0 0.5 0.5", "class '-1' is none of the 3 of"),
        ("0.0 0 0 0.5 0 0.5 0.5", "class '0.0' is none of the 3 of"),
        ("vein 0 0 0.5 0 0.5 0.5", "class 'vein' is none of the 3 of"),
        ("0 0 0 12 0 0.5 0.5", "12 is no share of the picture's side (0 to 1); divide x by the width"),
        ("0 0 0 -0.5 0 0.5 0.5", "-0.5 is no share"),
        ("0 0 0 inf 0 0.5 0.5", "inf is no share"),
        ("0 0 0 nan 0 0.5 0.5", "'nan' is no number"),
        ("0 0 0 x 0 0.5 0.5", "'x' is no number"),
    ],
)
def test_a_wrong_line_is_refused_by_file_and_number(tmp_path: Path, line: str, words: str) -> None:
    folder = one(tmp_path / "in", f"{SQUARE}\n\n{line}\n")
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "yolo", folder)
    assert f"{folder}/labels/a.txt: line 3: " in str(refused.value) and words in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_labels_that_are_no_text_are_refused(tmp_path: Path) -> None:
    folder = one(tmp_path / "in", SQUARE)
    (folder / "labels/a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a\.txt: not UTF-8 text"):
        run_import(tmp_path / "out", "yolo", folder)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("names: [a, b", "damaged at line 1, column"),
        ("- a\n", "holds a list of 1; names: [..] and the folders of the splits expected"),
        ("nc: 2\n", "names is null; a list, or {0: name, 1: name} expected"),
        ("names: {a: 0}\n", "names is an object"),
        ("names: [a, b]\nnc: 3\n", "nc is 3, but there are 2 names"),
        ("names: [a, a]\n", "two classes have the name 'a'"),
        ("names: [a, no]\n", "the name of class 1 is false; write it in quotes"),
        ("names: &n [a, b]\nother: *n\n", "has YAML aliases (*name), which are not read"),
        ("names: [a]\ntrain: ../../images\n", "leads outside the folder of the pictures"),
        ("names: [a]\ntrain: /images\n", "'/images' is an absolute path"),
        ("names: [a]\ntrain: {x: y}\n", "train is an object; the path of a folder expected"),
        ("names: [a]\ntrain: classes.txt\n", "a list of files, which is not read"),
        ("names: [a]\ntrain: photos\n", "train is 'photos', but there is no folder of labels for it"),
        ("names: !!python/object:os.system [a]\n", "damaged at line 1, column"),
        ("names: " + "[" * 3000, "damaged at its text, no YAML"),
    ],
)
def test_a_wrong_data_yaml_is_refused(tmp_path: Path, yaml: str, words: str) -> None:
    folder = one(tmp_path / "in", SQUARE)
    (folder / "photos").mkdir()
    (folder / "data.yaml").write_text(yaml)
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "yolo", folder)
    assert f"{folder}/data.yaml" in str(refused.value) and words in str(refused.value)


def test_folders_of_another_layout_are_said(tmp_path: Path) -> None:
    folder = one(tmp_path / "in", SQUARE)
    (folder / "labels").rename(folder / "annotations")
    with pytest.raises(ValueError, match="no folder images/ with labels/ beside it"):
        run_import(tmp_path / "out", "yolo", folder)
    (folder / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"neither data\.yaml nor classes\.txt"):
        run_import(tmp_path / "out", "yolo", folder)
    (folder / "classes.txt").write_text("a\n\nb\n")
    with pytest.raises(ValueError, match=r"classes\.txt: line 2 is empty, so that class 1 has no name"):
        run_import(tmp_path / "out", "yolo", folder)


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("val", "valid"):
        write_split(tmp_path / "in" / name / "images", tmp_path / "in" / name / "labels", some_masks(1))
    (tmp_path / "in" / "data.yaml").write_text(YAML)
    with pytest.raises(ValueError, match=r"two folders are of one split \(val/images, valid/images\)"):
        run_import(tmp_path / "out", "yolo", tmp_path / "in")
