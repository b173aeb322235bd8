"""Mask files of single objects to masks: names, folders, classes, and what is not certain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotations import (
    NAMES,
    assert_equal_masks,
    classes_of,
    random_ids,
    read_mask,
    run_import,
    write_picture,
)
from PIL import Image

SIZE = (23, 31)
MASKS = {"a_1": random_ids(1, SIZE), "below/b": random_ids(2, SIZE)}


def save(path: Path, region: np.ndarray, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((region * value).astype(np.uint8)).save(path)


@pytest.mark.parametrize(
    ("place", "class_of"),
    [
        ("{stem}_{name}_{number}.png", "{class}_{number}"),
        ("{stem}-{number}.{name}.png", "{number}.{class}"),
        ("{stem}/{name}_{number}.png", "{class}_{number}"),
        ("{stem}/{name}.tif", "{class}"),
    ],
)
def test_objects_of_classes_give_the_masks_they_were_written_from(tmp_path: Path, place: str, class_of: str) -> None:
    for stem, ids in MASKS.items():
        write_picture(tmp_path / "images" / f"{stem}.jpg", SIZE)
        for label_id, name in NAMES.items():
            halves = [ids == label_id] if "{number}" not in place else [(ids == label_id) & cut for cut in halved()]
            for number, region in enumerate(halves):
                if region.any():
                    save(tmp_path / "masks" / place.format(stem=stem, name=name, number=number), region)
    report = run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images", class_of=class_of)
    assert_equal_masks(tmp_path / "out", MASKS)
    assert classes_of(tmp_path / "out") == {"background": 0, "artery": 1, "crossing": 2, "vein": 3}
    assert not report.dropped


def halved() -> list[np.ndarray]:
    left = np.zeros(SIZE, bool)
    left[:, :15] = True
    return [left, ~left]


@pytest.mark.parametrize("place", ["{stem}_{number}.png", "{stem}/{number}.png", "{stem}/any name.png"])
@pytest.mark.parametrize("value", [1, 255])
def test_without_a_pattern_all_are_of_one_class(tmp_path: Path, place: str, value: int) -> None:
    for stem, ids in MASKS.items():
        write_picture(tmp_path / "images" / f"{stem}.jpg", SIZE)
        save(tmp_path / "masks" / place.format(stem=stem, number=0), ids > 0, value)
    run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    assert_equal_masks(tmp_path / "out", {stem: (ids > 0) * 1 for stem, ids in MASKS.items()}, {1: "object"})


def test_a_small_object_lies_on_a_large_one(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png", SIZE)
    region = np.zeros(SIZE, bool)
    region[5:8, 5:9] = True
    save(tmp_path / "masks" / "a_dot.png", region)
    save(tmp_path / "masks" / "a_field.png", np.ones(SIZE))
    options: dict[str, Any] = {"class_of": "{class}"}
    run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images", **options)
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/a.png") == 1, region)
    run_import(tmp_path / "later", "instances", tmp_path / "masks", tmp_path / "images", "order", **options)
    assert (read_mask(tmp_path / "later/masks/a.png") == 2).all()


def test_masks_in_the_stored_grid_are_turned(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.jpg", SIZE, orientation=6)
    region = random_ids(4, SIZE) > 0
    save(tmp_path / "masks" / "a_0.png", region)
    run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    upright = np.asarray(Image.fromarray(region.astype(np.uint8)).transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/a.png"), upright)


def test_a_mask_that_may_be_of_two_pictures_is_refused(tmp_path: Path) -> None:
    for name in ("a", "a_1"):
        write_picture(tmp_path / "images" / f"{name}.jpg", SIZE)
    save(tmp_path / "masks" / "a_1_2.png", np.ones(SIZE))
    # A number stands after the name of one picture alone.
    run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    assert (tmp_path / "out/masks/a_1.png").is_file()
    with pytest.raises(ValueError, match=r"a_1_2\.png: may be of .*a\.jpg or of .*a_1\.jpg; rename it"):
        run_import(tmp_path / "new", "instances", tmp_path / "masks", tmp_path / "images", class_of="{class}")


def test_masks_of_no_picture_are_refused_or_skipped_and_pictures_without_masks_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_picture(tmp_path / "images" / f"{name}.jpg", SIZE)
    for name in ("a_0", "c_0", "a_x"):
        save(tmp_path / "masks" / f"{name}.png", np.ones(SIZE))
    with pytest.raises(ValueError, match=r"2 annotated pictures are not there: for a_x\.png .*, for c_0\.png"):
        run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    report = run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images", skip_missing=True)
    assert [entry.reason for entry in report.dropped] == [
        "no picture for a_x.png",
        "no picture for c_0.png",
        "left out: no mask file is of it",
    ]


def test_pictures_of_one_name_and_masks_with_the_name_of_a_picture_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.jpg", SIZE)
    save(tmp_path / "masks" / "a.png", np.ones(SIZE))
    with pytest.raises(
        ValueError, match=r"masks/a\.png: has the name of its picture, as a mask of all its objects has"
    ):
        run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    write_picture(tmp_path / "images" / "a.png", SIZE)
    with pytest.raises(ValueError, match=r"two pictures share the name 'a': .*a\.jpg and .*a\.png"):
        run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")


@pytest.mark.parametrize("pattern", ["class", "{number}", "{class}{class}", "{class}_{stem}", ""])
def test_a_pattern_without_a_class_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(
        ValueError, match=r"--class-of .*: write what stands after the picture's name, with \{class\} once"
    ):
        run_import(tmp_path / "out", "instances", tmp_path, tmp_path, class_of=pattern)


def test_files_that_are_no_single_object_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.jpg", SIZE)
    with pytest.raises(ValueError, match="masks: no such folder"):
        run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    with pytest.raises(ValueError, match=r"no mask file in it .* that is not among the pictures"):
        run_import(tmp_path / "out", "instances", tmp_path / "images", tmp_path / "images")
    path = tmp_path / "masks" / "a_0.png"
    save(path, random_ids(1, SIZE), 1)
    with pytest.raises(ValueError, match=r"a_0\.png: holds the values 1, 2, 3 beside 0, where one object is expected"):
        run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    save(path, np.ones((23, 30)))
    with pytest.raises(ValueError, match=r"a_0\.png is 30 x 23, but .*a\.jpg is 31 x 23 \(width x height\)"):
        run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    for colours in (np.ones((*SIZE, 3)), np.ones((*SIZE, 3)) * np.array([0, 1, 0])):
        save(path, colours)
        with pytest.raises(
            ValueError, match=r"a_0\.png: holds colours, where one object is expected; save one channel"
        ):
            run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    save(path, np.ones((23, 30)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a_0\.png: truncated or damaged"):
        run_import(tmp_path / "out", "instances", tmp_path / "masks", tmp_path / "images")
    assert not (tmp_path / "out").exists()
