"""labelme files to masks and back by an independent writer; what is dropped, and what is refused."""

import base64
import io
import json
from pathlib import Path
from typing import Any

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
from PIL import Image

SIZE = (23, 31)
MASKS = {"a": random_ids(1, SIZE), "below/b": random_ids(2, SIZE), "empty": np.zeros(SIZE, np.uint8)}


def png(region: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(region.astype(np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def polygons(region: np.ndarray) -> list[dict[str, Any]]:
    return [{"shape_type": "polygon", "points": corners(box)} for box in row_boxes(region)]


def rectangles(region: np.ndarray) -> list[dict[str, Any]]:
    # From any corner to the one across.
    return [
        {"shape_type": "rectangle", "points": [corners(box)[i], corners(box)[(i + 2) % 4]]}
        for i, box in ((index % 4, box) for index, box in enumerate(row_boxes(region)))
    ]


def bitmaps(region: np.ndarray) -> list[dict[str, Any]]:
    if not region.any():
        return []
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    frame = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    points = [[float(columns[0]), float(rows[0])], [float(columns[-1]), float(rows[-1])]]
    return [{"shape_type": "mask", "points": points, "mask": png(frame)}]


def write_json(path: Path, drawn: list[dict[str, Any]], size: tuple[int, int] = SIZE, **keys: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"version": "5.5.0", "flags": {}, "shapes": drawn, "imagePath": f"{path.stem}.png", "imageData": None}
    document |= {"imageHeight": size[0], "imageWidth": size[1]} | keys
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not KeyError}))
    return path


def one(folder: Path, *shapes: dict[str, Any], **keys: Any) -> Path:
    """A picture and its file with these shapes, of class x where they name none."""
    write_picture(folder / "a.png", (20, 30))
    return write_json(folder / "a.json", [{"label": "x"} | shape for shape in shapes], (20, 30), **keys)


@pytest.mark.parametrize("writer", [polygons, rectangles, bitmaps])
def test_shapes_give_the_masks_they_were_written_from(tmp_path: Path, writer: Any) -> None:
    for stem, ids in MASKS.items():
        write_picture(tmp_path / "in" / f"{stem}.png", SIZE)
        shapes = [{"label": name} | shape for label_id, name in NAMES.items() for shape in writer(ids == label_id)]
        write_json(tmp_path / "in" / f"{stem}.json", shapes)
    report = run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert_equal_masks(tmp_path / "out", MASKS)
    # By the alphabet: there are no numbers.
    assert classes_of(tmp_path / "out") == {"background": 0, "artery": 1, "crossing": 2, "vein": 3}
    assert report.splits.total() == 3 and not report.dropped


def test_a_circle_holds_the_centres_within_it(tmp_path: Path) -> None:
    one(tmp_path / "in", {"shape_type": "circle", "points": [[10, 8], [13, 12]]})
    run_import(tmp_path / "out", "labelme", tmp_path / "in")
    rows, columns = np.mgrid[:20, :30] + 0.5
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/a.png") == 1, np.hypot(columns - 10, rows - 8) <= 5)


def test_an_embedded_picture_is_written_where_there_is_no_file(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", SIZE)
    data = (tmp_path / "a.png").read_bytes()
    shapes = [{"label": name} | shape for label_id, name in NAMES.items() for shape in bitmaps(MASKS["a"] == label_id)]
    write_json(tmp_path / "in" / "a.json", shapes, imagePath="a.jpg", imageData=base64.b64encode(data).decode())
    report = run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert_equal_masks(tmp_path / "out", {"a": MASKS["a"]})
    # With the suffix of what it is.
    assert (tmp_path / "out" / "images" / "a.png").read_bytes() == data
    assert report.links == {"written from the annotations": 1}


def test_a_file_goes_before_an_embedded_picture(tmp_path: Path) -> None:
    one(tmp_path / "in", {"points": [[0, 0], [9, 0], [9, 9]]}, imageData="AAAA")
    report = run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert report.links == {"hard link": 1}


@pytest.mark.parametrize("kind", ["line", "linestrip", "point", "points"])
def test_lines_and_points_are_dropped_with_the_reason(tmp_path: Path, kind: str) -> None:
    path = one(
        tmp_path / "in",
        {"points": [[0, 0], [9, 0], [9, 9]]},
        {"shape_type": kind, "points": [[0, 0], [9, 0]], "label": "y"},
    )
    report = run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert [(entry.where, entry.reason) for entry in report.dropped] == [
        (f"{path}: shapes[1]", f"a {kind} covers no area")
    ]
    assert "y" not in classes_of(tmp_path / "out")


def test_ignore_and_background_mean_what_they_mean_to_labelme(tmp_path: Path) -> None:
    one(
        tmp_path / "in",
        {"points": corners((0, 0, 20, 20))},
        {"points": corners((2, 2, 6, 6)), "label": "_background_"},
        {"points": corners((8, 8, 12, 12)), "label": "__ignore__"},
    )
    report = run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert classes_of(tmp_path / "out") == {"_background_": 0, "x": 1}
    mask = read_mask(tmp_path / "out" / "masks" / "a.png")
    assert (mask[2:6, 2:6] == 0).all() and (mask[8:12, 8:12] == 255).all() and (mask == 1).sum() == 400 - 32
    assert "__ignore__ is drawn as label id 255, which counts nowhere" in report.remarks


def test_pictures_in_another_folder_below_are_found(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "photos" / "a.png", SIZE)
    write_json(
        tmp_path / "in" / "json" / "a.json",
        [{"label": "x", "points": corners((0, 0, 4, 4))}],
        imagePath="..\\photos\\a.png",
    )
    run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert (read_mask(tmp_path / "out" / "masks" / "photos" / "a.png") == 1).sum() == 16


def test_pictures_without_a_file_are_left_out_and_named(tmp_path: Path) -> None:
    one(tmp_path / "in", {"points": corners((0, 0, 4, 4))})
    write_picture(tmp_path / "in" / "b.jpg", (4, 4))
    report = run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert [(entry.where, entry.reason) for entry in report.dropped] == [("b.jpg", "left out: it has no JSON file")]


def test_a_picture_that_is_not_there_is_refused_or_skipped(tmp_path: Path) -> None:
    one(tmp_path / "in", {"points": corners((0, 0, 4, 4))})
    write_json(tmp_path / "in" / "b.json", [])
    with pytest.raises(ValueError, match=r"1 annotated picture is not there: b\.png \(.*b\.json\)"):
        run_import(tmp_path / "out", "labelme", tmp_path / "in")
    report = run_import(tmp_path / "out", "labelme", tmp_path / "in", skip_missing=True)
    assert [entry.reason for entry in report.dropped] == ["no picture b.png"]


SQUARE = {"points": corners((0, 0, 4, 4))}


@pytest.mark.parametrize(
    ("shape", "keys", "words"),
    [
        ({"points": [[0, 0], [4, 4]]}, {}, "shapes[1]: a polygon of 2 points, which covers nothing"),
        ({"points": [[0, 0], [4, 4], ["x", 2]]}, {}, "shapes[1]: point 2 is ['x', 2]"),
        ({"shape_type": "rectangle", "points": [[0, 0]]}, {}, "shapes[1]: a rectangle has two points [x, y]"),
        ({"shape_type": "circle", "points": [[3, 3], [3, 3]]}, {}, "shapes[1]: a circle without a radius"),
        ({"shape_type": "blob"} | SQUARE, {}, "shapes[1]: shape_type 'blob' is not known"),
        ({"label": " "} | SQUARE, {}, "shapes[1] has no label"),
        ({"label": 3} | SQUARE, {}, "shapes[1].label: 3 found, a text expected"),
        ({"shape_type": "mask", "points": [[0, 0], [4, 4]]}, {}, "shapes[1]: a mask without its picture"),
        ({"shape_type": "mask", "points": [[0, 0], [4, 4]], "mask": "%%%"}, {}, "shapes[1].mask: damaged"),
        (
            {"shape_type": "mask", "points": [[0, 0], [4, 4]], "mask": png(np.ones((4, 5)))},
            {},
            "shapes[1]: the mask is 5 x 4, but its points frame 5 x 5",
        ),
        (SQUARE, {"imageWidth": 31}, "annotated at 31 x 20, but"),
        (SQUARE, {"imagePath": "/etc/passwd"}, "imagePath: '/etc/passwd' is an absolute path"),
        (SQUARE, {"imagePath": "../../etc/passwd"}, "leads outside the folder of the pictures"),
        (SQUARE, {"imagePath": "..\\a.png"}, "leads outside the folder of the pictures"),
        (SQUARE, {"imagePath": "gone.png", "imageData": "AAAA"}, "imageData: damaged, no picture"),
        (SQUARE, {"shapes": KeyError}, "shapes: missing"),
        (
            SQUARE,
            {"shapes": KeyError, "images": [], "annotations": []},
            "this looks like coco; run dinoseg import coco",
        ),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(
    tmp_path: Path, shape: dict[str, Any], keys: dict[str, Any], words: str
) -> None:
    path = one(tmp_path / "in", SQUARE, shape, **keys)
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "labelme", tmp_path / "in")
    assert str(path) in str(refused.value) and words in str(refused.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_two_files_of_one_picture_are_refused(tmp_path: Path) -> None:
    one(tmp_path / "in", SQUARE)
    write_json(tmp_path / "in" / "b.json", [], (20, 30), imagePath="a.png")
    with pytest.raises(ValueError, match=r"b\.json: picture a\.png has the name of a\.png \(.*a\.json\)"):
        run_import(tmp_path / "out", "labelme", tmp_path / "in")


def test_a_folder_without_files_of_labelme_is_said(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png", (4, 4))
    with pytest.raises(ValueError, match=r"in: no JSON file in it; give the folder in which labelme saved"):
        run_import(tmp_path / "out", "labelme", tmp_path / "in")
    write_json(tmp_path / "in" / "a.json", [], (4, 4))
    with pytest.raises(ValueError, match=r"labels of the shapes: names no class"):
        run_import(tmp_path / "out", "labelme", tmp_path / "in")
