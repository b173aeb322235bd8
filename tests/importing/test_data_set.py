"""What is written: upright masks, linked pictures, a whole folder or nothing."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotations import random_ids, read_mask, run_import, write_picture
from PIL import Image

from dinoseg.data.image_files import load_file, read_geometry
from dinoseg.importing.classes import DeclaredClass, class_table
from dinoseg.importing.mask import overlap_rule

STORED = (12, 20)
# What Pillow must do to a picture that is stored with this orientation, to see it upright.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def write_coco(folder: Path, ids: np.ndarray, orientation: int | None = None, suffix: str = ".jpg") -> Path:
    """One picture, stored as STORED, and annotations of the size of ``ids``."""
    write_picture(folder / "images" / f"a{suffix}", STORED, orientation)
    annotations = []
    for label_id in range(1, 4):
        flat, counts, value = (ids == label_id).T.ravel(), [0], False
        for pixel in flat:
            if bool(pixel) != value:
                counts.append(0)
                value = bool(pixel)
            counts[-1] += 1
        segmentation = {"size": list(ids.shape), "counts": counts}
        annotations.append({"image_id": 1, "category_id": label_id, "segmentation": segmentation})
    document = {
        "images": [{"id": 1, "file_name": f"a{suffix}", "height": ids.shape[0], "width": ids.shape[1]}],
        "categories": [{"id": label_id, "name": f"c{label_id}"} for label_id in range(1, 4)],
        "annotations": annotations,
    }
    (folder / "a.json").write_text(json.dumps(document))
    return folder / "a.json"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", list(TURNS))
def test_masks_are_upright_whichever_grid_was_annotated(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = random_ids(orientation, STORED)
    turn = TURNS[orientation]
    upright = np.asarray(Image.fromarray(stored) if turn is None else Image.fromarray(stored).transpose(turn))
    path = write_coco(tmp_path / "upright", upright, orientation, suffix)
    report = run_import(tmp_path / "out", "coco", path, path.parent / "images")
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/a.png"), upright)
    assert load_file(tmp_path / f"out/images/a{suffix}").size == upright.shape[::-1]
    assert (report.turned, report.turned_unseen) == (0, int(orientation in (2, 3, 4)))
    if orientation in (5, 6, 7, 8):
        path = write_coco(tmp_path / "stored", stored, orientation, suffix)
        report = run_import(tmp_path / "turned", "coco", path, path.parent / "images")
        np.testing.assert_array_equal(read_mask(tmp_path / "turned/masks/a.png"), upright)
        assert report.turned == 1
        assert "1 drawn in the grid that is stored, and turned with their picture" in " ".join(report.remarks)


def test_a_turned_picture_of_one_size_either_way_is_said(tmp_path: Path) -> None:
    path = write_coco(tmp_path, random_ids(1, STORED), 3)
    remarks = " ".join(run_import(tmp_path / "out", "coco", path, tmp_path / "images").remarks)
    assert (
        "pictures turned by their EXIF tag that have one size either way: 1; their annotations are taken as" in remarks
    )


@pytest.mark.parametrize("size", [(12, 21), (20, 12)])
def test_another_size_than_the_pictures_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_coco(tmp_path, random_ids(1, size))
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    said = str(refused.value)
    assert f"annotated at {size[1]} x {size[0]}, but {tmp_path}/images/a.jpg is 20 x 12 (width x height)" in said


def test_geometry_is_read_without_the_pixels(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", STORED, 6)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: whole.index(b"\xff\xda") + 40])
    assert read_geometry(tmp_path / "cut.jpg") == (6, (20, 12)) == read_geometry(tmp_path / "a.jpg")
    assert read_geometry(Path("embedded"), whole) == (6, (20, 12))
    (tmp_path / "no.jpg").write_text("text")
    for name, words in (("no.jpg", "not an image"), ("gone.jpg", "no such file"), (".", "a folder")):
        with pytest.raises(ValueError, match=words):
            read_geometry(tmp_path / name)


def fail(*arguments: Any, **options: Any) -> None:
    raise OSError(1, "Operation not permitted")


@pytest.mark.parametrize(
    ("refused", "way"),
    [((), "hard link"), (("link",), "symbolic link"), (("link", "symlink"), "copy")],
)
def test_pictures_are_linked_where_the_file_system_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], way: str
) -> None:
    path = write_coco(tmp_path, random_ids(1, STORED))
    for name in refused:
        monkeypatch.setattr(os, name, fail)
    # By a relative path, too: a link must lead there from wherever it lies.
    monkeypatch.chdir(tmp_path)
    report = run_import(Path("below/out"), "coco", path.relative_to(tmp_path), Path("images"))
    target, origin = tmp_path / "below/out/images/a.jpg", tmp_path / "images/a.jpg"
    assert report.links == {way: 1}
    assert target.read_bytes() == origin.read_bytes()
    assert target.is_symlink() == (way == "symbolic link")
    assert (target.stat().st_ino == origin.stat().st_ino) == (way != "copy")


def test_a_picture_that_is_a_link_itself_is_followed(tmp_path: Path) -> None:
    path = write_coco(tmp_path, random_ids(1, STORED))
    (tmp_path / "images/a.jpg").rename(tmp_path / "real.jpg")
    (tmp_path / "images/a.jpg").symlink_to("../real.jpg")
    run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    shutil.rmtree(tmp_path / "images")
    assert load_file(tmp_path / "out/images/a.jpg").size == (20, 12)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_an_output_folder_in_use_is_refused_before_anything_is_read(tmp_path: Path, kind: str) -> None:
    path = write_coco(tmp_path, random_ids(1, STORED))
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        out.symlink_to("nowhere")
    else:
        out.mkdir()
        (out / "mine").write_text("")
    with pytest.raises(ValueError, match=r"--out .*out: exists and is not an empty folder; give a new one"):
        run_import(out, "coco", path, tmp_path / "images")
    assert kind != "folder" or [entry.name for entry in out.iterdir()] == ["mine"]


def test_an_empty_output_folder_is_filled(tmp_path: Path) -> None:
    path = write_coco(tmp_path, random_ids(1, STORED))
    (tmp_path / "out").mkdir()
    run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    names = ["classes.csv", "images", "import.json", "masks"]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == names


def test_nothing_is_left_of_an_import_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_coco(tmp_path, random_ids(1, STORED))
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fail)
        with pytest.raises(ValueError, match="the data set cannot be written, and nothing is left of it: "):
            run_import(tmp_path / "new" / "out", "coco", path, tmp_path / "images")
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "images/a.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.jpg: not an image that can be read"):
        run_import(tmp_path / "new" / "out", "coco", path, tmp_path / "images")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_report_says_what_was_done(tmp_path: Path) -> None:
    ids = random_ids(1, STORED)
    path = write_coco(tmp_path, ids)
    run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    report = json.loads((tmp_path / "out" / "import.json").read_text())
    assert report["format"] == "coco" and report["pictures"] == 1 and report["splits"] == {}
    assert report["pictures_by"] == {"hard link": 1} and report["overlap"] == "area"
    assert [entry["pixels"] for entry in report["classes"]] == [int((ids == label_id).sum()) for label_id in range(4)]
    assert [entry["in_source"] for entry in report["classes"]] == [None, 1, 2, 3]
    assert report["ignored"] == {"id": 255, "shapes": 0, "pixels": 0} and report["dropped"] == []


def test_an_unknown_rule_and_an_unknown_format_are_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--overlap size: choose one of area, order"):
        overlap_rule("size")
    with pytest.raises(ValueError, match="'voc' is no format that is read; choose one of coco, labelme, cvat, yolo"):
        run_import(tmp_path / "out", "voc", tmp_path)


@pytest.mark.parametrize(
    ("format_name", "pictures", "options", "words"),
    [
        (
            "coco",
            None,
            {},
            "coco: the pictures are missing; give dinoseg import coco annotations.json images/ --out FOLDER",
        ),
        (
            "labelme",
            "images",
            {},
            "labelme: images is one path too many; give dinoseg import labelme FOLDER --out FOLDER",
        ),
        ("coco", "images", {"class_property": "x"}, "--property is of geojson, not of coco; remove it"),
        ("yolo", None, {"class_of": "{class}"}, "--class-of is of instances, not of yolo; remove it"),
        ("geojson", "a.tif", {"skip_missing": True}, "--skip-missing says nothing of geojson"),
    ],
)
def test_what_a_format_does_not_take_is_refused(
    tmp_path: Path, format_name: str, pictures: str | None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", format_name, tmp_path, Path(pictures) if pictures else None, **options)
    assert words in str(refused.value)


def test_two_backgrounds_and_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="'background' and '_background_' both mean the background"):
        class_table([DeclaredClass(1, "background"), DeclaredClass(2, "_background_")], "x")
    with pytest.raises(ValueError, match="x: names no class"):
        class_table([], "x")
    for name in ("two\nlines", "\ud800"):
        with pytest.raises(ValueError, match=r"x: the name of class '.*' holds characters that no table shows"):
            class_table([DeclaredClass(1, name)], "x")


def test_names_that_need_quotes_are_quoted_in_the_table() -> None:
    names = ['a, "b"', "=1+1", "größe", "1"]
    text = class_table([DeclaredClass(name, name) for name in names], "x").to_csv()
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [row["name"] for row in rows] == ["background", *names]
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert len({row["colour"] for row in rows}) == 5 and all(len(row["colour"]) == 7 for row in rows)
