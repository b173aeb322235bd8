"""COCO files to masks and back by an independent writer; and every file that would have to be guessed at."""

import json
import sys
from collections.abc import Callable
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

SIZE = (23, 31)
MASKS = {"a": random_ids(1, SIZE), "below/b": random_ids(2, SIZE), "empty": np.zeros(SIZE, np.uint8)}


@pytest.fixture
def api() -> Any:
    return pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


def uncompressed(region: np.ndarray) -> dict[str, Any]:
    flat, counts, value = region.T.ravel(), [0], False
    for pixel in flat:
        if bool(pixel) != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return {"size": list(region.shape), "counts": counts}


def write_coco(folder: Path, masks: dict[str, np.ndarray], segmentation: Callable[[np.ndarray], Any]) -> Path:
    """Pictures, and a file with one annotation a class and picture."""
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": label_id, "name": name} for label_id, name in NAMES.items()]
    for number, (stem, ids) in enumerate(masks.items(), 40):
        write_picture(folder / "images" / f"{stem}.png", ids.shape)
        image = {"id": number, "file_name": f"{stem}.png", "height": ids.shape[0], "width": ids.shape[1]}
        document["images"].append(image)
        for label_id in NAMES:
            if (ids == label_id).any():
                entry = {"image_id": number, "category_id": label_id, "iscrowd": 0}
                document["annotations"].append(entry | {"segmentation": segmentation(ids == label_id)})
    return rewrite(folder, document)


def rewrite(folder: Path, document: Any) -> Path:
    path = folder / "annotations.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def small(folder: Path, segmentations: list[Any], size: tuple[int, int] = (8, 10)) -> dict[str, Any]:
    """A document with one picture, one category an annotation, and an annotation a segmentation."""
    write_picture(folder / "images" / "a.png", size)
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": index, "name": f"c{index}"} for index in range(1, len(segmentations) + 1)],
        "annotations": [
            {"image_id": 1, "category_id": index, "segmentation": segmentation}
            for index, segmentation in enumerate(segmentations, 1)
        ],
    }


def box_region(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (8, 10)) -> dict[str, Any]:
    region = np.zeros(size, bool)
    region[top:bottom, left:right] = True
    return uncompressed(region)


def test_run_lengths_give_the_masks_they_were_written_from(tmp_path: Path) -> None:
    path = write_coco(tmp_path, MASKS, uncompressed)
    report = run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert_equal_masks(tmp_path / "out", MASKS)
    assert classes_of(tmp_path / "out") == {"background": 0, "artery": 1, "vein": 2, "crossing": 3}
    assert report.splits.total() == 3 and not report.dropped
    for label_id in range(4):
        assert report.pixels[label_id] == sum(int((ids == label_id).sum()) for ids in MASKS.values())
    assert report.to_dict()["label_ids"] == "label ids are the source's numbers; 0 is what nobody drew"


def test_packed_run_lengths_of_the_api_do_so_too(tmp_path: Path, api: Any) -> None:
    def packed(region: np.ndarray) -> dict[str, Any]:
        written = api.encode(np.asfortranarray(region.astype(np.uint8)))
        return {"size": list(written["size"]), "counts": written["counts"].decode()}

    path = write_coco(tmp_path, MASKS, packed)
    run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert_equal_masks(tmp_path / "out", MASKS)


def test_polygons_of_several_parts_do_so_too(tmp_path: Path, api: Any) -> None:
    def polygons(region: np.ndarray) -> list[list[int]]:
        return [[value for corner in corners(box) for value in corner] for box in row_boxes(region)]

    path = write_coco(tmp_path, MASKS, polygons)
    run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert_equal_masks(tmp_path / "out", MASKS)


def test_polygons_are_drawn_as_the_api_draws_them(tmp_path: Path, api: Any) -> None:
    generator = np.random.default_rng(5)
    for number in range(10):
        polygon = generator.uniform(-3, 34, 12).round(2).tolist()
        folder = tmp_path / str(number)
        folder.mkdir()
        rewrite(folder, small(folder, [[polygon]], SIZE))
        run_import(folder / "out", "coco", folder / "annotations.json", folder / "images")
        expected = api.decode(api.merge(api.frPyObjects([polygon], *SIZE)))
        np.testing.assert_array_equal(read_mask(folder / "out/masks/a.png"), expected)


def test_polygons_name_the_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    path = rewrite(tmp_path, small(tmp_path, [[[0, 0, 5, 0, 5, 5]]]))
    with pytest.raises(ValueError, match=r"want pycocotools, which is not installed: pip install 'dinoseg\[coco\]'"):
        run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("overlap", "inner"), [("area", 1), ("order", 2)])
def test_the_smaller_shape_lies_on_top_or_the_later_one(tmp_path: Path, overlap: str, inner: int) -> None:
    path = rewrite(tmp_path, small(tmp_path, [box_region(3, 3, 5, 6), box_region(1, 1, 7, 9)]))
    report = run_import(tmp_path / "out", "coco", path, tmp_path / "images", overlap)
    mask = read_mask(tmp_path / "out" / "masks" / "a.png")
    assert (mask[3:5, 3:6] == inner).all()
    assert (mask[1, 1:9] == 2).all() and (mask[0] == 0).all()
    on_top = {"area": "the one with fewer pixels lies on top", "order": "the later one in the source lies on top"}
    assert any(on_top[overlap] in remark for remark in report.remarks)


def test_of_two_alike_the_later_one_lies_on_top(tmp_path: Path) -> None:
    path = rewrite(tmp_path, small(tmp_path, [box_region(1, 1, 3, 3), box_region(2, 2, 4, 4)]))
    run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert read_mask(tmp_path / "out" / "masks" / "a.png")[2, 2] == 2


def test_a_shape_that_others_hide_is_dropped_and_named(tmp_path: Path) -> None:
    path = rewrite(tmp_path, small(tmp_path, [box_region(3, 3, 5, 6), box_region(1, 1, 7, 9)]))
    report = run_import(tmp_path / "out", "coco", path, tmp_path / "images", "order")
    assert [(entry.where, entry.reason) for entry in report.dropped] == [
        (f"{path}: images[0] annotations[0]", "hidden: other shapes lie on all of its pixels")
    ]
    assert report.shapes == {2: 1}


def test_crowds_are_ignored_and_that_is_said(tmp_path: Path) -> None:
    document = small(tmp_path, [box_region(0, 0, 8, 5), box_region(2, 2, 4, 4)])
    document["annotations"][0]["iscrowd"] = 1
    report = run_import(tmp_path / "out", "coco", rewrite(tmp_path, document), tmp_path / "images")
    mask = read_mask(tmp_path / "out" / "masks" / "a.png")
    assert (mask == 255).sum() == 40 - 4 == report.ignored_pixels
    assert "1 crowd region (iscrowd) drawn as label id 255, which counts nowhere" in report.remarks


@pytest.mark.parametrize(
    ("numbers", "names", "expected"),
    [
        ([7, 90], ["cat", "dog"], {"background": 0, "cat": 7, "dog": 90}),
        ([0, 1], ["cat", "dog"], {"background": 0, "cat": 1, "dog": 2}),
        ([255, 3], ["cat", "dog"], {"background": 0, "cat": 1, "dog": 2}),
        ([5, 3], ["Background", "dog"], {"Background": 0, "dog": 3}),
        ([0, 1], ["background", "dog"], {"background": 0, "dog": 1}),
    ],
)
def test_ids_are_the_sources_where_they_can_be(
    tmp_path: Path, numbers: list[int], names: list[str], expected: dict[str, int]
) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2), box_region(4, 4, 8, 8)])
    document["categories"] = [{"id": number, "name": name} for number, name in zip(numbers, names, strict=True)]
    for entry, number in zip(document["annotations"], numbers, strict=True):
        entry["category_id"] = number
    run_import(tmp_path / "out", "coco", rewrite(tmp_path, document), tmp_path / "images")
    assert classes_of(tmp_path / "out") == expected
    mask = read_mask(tmp_path / "out" / "masks" / "a.png")
    assert [mask[0, 0], mask[5, 5]] == [expected[name] for name in names]


def test_colours_of_categories_are_kept(tmp_path: Path) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2)])
    document["categories"][0]["color"] = [1, 254, 16]
    run_import(tmp_path / "out", "coco", rewrite(tmp_path, document), tmp_path / "images")
    assert "1,c1,#01fe10" in (tmp_path / "out" / "classes.csv").read_text()


def test_more_classes_than_a_byte_holds_make_16_bit_masks_that_spare_255(tmp_path: Path) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2)])
    document["categories"] = [{"id": number, "name": f"c{number}"} for number in range(300)]
    document["annotations"][0]["category_id"] = 299
    run_import(tmp_path / "out", "coco", rewrite(tmp_path, document), tmp_path / "images")
    ids = classes_of(tmp_path / "out")
    assert 255 not in ids.values() and len(set(ids.values())) == 301
    assert read_mask(tmp_path / "out" / "masks" / "a.png")[0, 0] == ids["c299"] == 301


def test_pictures_that_nobody_annotated_are_left_out_and_named(tmp_path: Path) -> None:
    path = rewrite(tmp_path, small(tmp_path, [box_region(0, 0, 2, 2)]))
    write_picture(tmp_path / "images" / "more" / "x.jpg", (4, 4))
    report = run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert [(entry.where, entry.reason) for entry in report.dropped] == [
        ("more/x.jpg", "left out: the annotations do not name it")
    ]
    assert not (tmp_path / "out" / "images" / "more").exists()


def test_a_shape_that_covers_no_pixel_is_dropped_and_named(tmp_path: Path) -> None:
    path = rewrite(tmp_path, small(tmp_path, [box_region(0, 0, 0, 0), box_region(0, 0, 1, 1)]))
    report = run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert [entry.where for entry in report.dropped] == [f"{path}: images[0] annotations[0]"]
    assert report.shapes == {2: 1}


def test_a_picture_that_is_not_there_is_refused_or_skipped(tmp_path: Path) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2)])
    document["images"].append(document["images"][0] | {"id": 2, "file_name": "b.png"})
    path = rewrite(tmp_path, document)
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    said = str(refused.value)
    assert f"1 annotated picture is not there: b.png ({path}: images[1])" in said and "--skip-missing" in said
    report = run_import(tmp_path / "out", "coco", path, tmp_path / "images", skip_missing=True)
    assert [(entry.where, entry.reason) for entry in report.dropped] == [(f"{path}: images[1]", "no picture b.png")]


def test_names_that_begin_elsewhere_are_hinted_at(tmp_path: Path) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2)])
    document["images"][0]["file_name"] = "images/a.png"
    with pytest.raises(ValueError, match=r"a\.png is there: the annotations' names begin elsewhere"):
        run_import(tmp_path / "out", "coco", rewrite(tmp_path, document), tmp_path / "images")


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets what stands at a path of keys and indices, or removes it."""

    def change(document: Any) -> None:
        *before, last = (int(part) if part.isdigit() else part for part in path.split("."))
        for part in before:
            document = document[part]
        if value is KeyError:
            del document[last]
        else:
            document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            changed("images.0.file_name", "/etc/passwd.png"),
            "images[0].file_name: '/etc/passwd.png' is an absolute path",
        ),
        (changed("images.0.file_name", "C:\\x\\a.png"), "is an absolute path"),
        (changed("images.0.file_name", "../../etc/a.png"), "leads outside the folder of the pictures"),
        (changed("images.0.file_name", "x/../../a.png"), "leads outside the folder of the pictures"),
        (changed("images.0.file_name", "..\\a.png"), "leads outside the folder of the pictures"),
        (changed("images.0.file_name", "a\0.png"), "is no name of a picture"),
        (changed("images.0.file_name", "\ud800.png"), "is no name of a picture"),
        (changed("images.0.file_name", ""), "is no name of a picture"),
        (changed("images.0.file_name", 3), "images[0].file_name: 3 found, a text expected"),
        (changed("images.0.width", 11), "size is [8, 10], but the file says that its picture has [8, 11]"),
        (changed("images.0.width", 0), "images[0].width: 0 found, 1 or more expected"),
        (changed("images.0.height", KeyError), "images[0].height: missing"),
        (changed("images.1", None), "images[1]: null found, an object expected"),
        (changed("categories", KeyError), "categories: missing"),
        (changed("categories", []), "categories: names no class"),
        (changed("categories.1.name", "c1"), "two classes have the name 'c1'"),
        (changed("categories.1.id", 1), "two classes have the number 1"),
        (changed("categories.1.name", " "), "a class has no name"),
        (
            changed("annotations.1.category_id", 9),
            "annotations[1].category_id is 9, the id of none of the 2 categories",
        ),
        (changed("annotations.1.image_id", 9), "annotations[1].image_id is 9, the id of none of the images"),
        (changed("annotations.0.segmentation", []), "annotations[0].segmentation is empty: a box alone"),
        (changed("annotations.0.segmentation", KeyError), "annotations[0].segmentation is missing: a box alone"),
        (changed("annotations.0.segmentation", [[1, 2, 3, 4]]), "segmentation[0] is a polygon of 2 points"),
        (changed("annotations.0.segmentation", [[1, 2, 3, 4, 5]]), "segmentation[0] is an odd number of values"),
        (
            changed("annotations.0.segmentation", [[1, 2, 3, 4, 5, "x"]]),
            "segmentation[0] holds something other than num",
        ),
        (
            changed("annotations.0.segmentation", [[1, 2, 3, 4, 5, 1e300]]),
            "segmentation[0] holds a coordinate that is far",
        ),
        (changed("annotations.0.segmentation", [[1, 2, 3, 4, 5, None]]), "annotations[0].segmentation[0] holds"),
        (changed("annotations.0.segmentation", [1, 2, 3, 4, 5, 6]), "a list of polygons [[x, y, x, y, ...], ...]"),
        (changed("annotations.0.segmentation", "x"), 'annotations[0].segmentation is "x"'),
        (changed("annotations.0.segmentation.size", [10, 8]), "segmentation.size is [10, 8]"),
        (changed("annotations.0.segmentation.counts", [5]), "segmentation.counts does not cover the 8 x 10 pixels"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2), box_region(4, 4, 8, 8)])
    document["images"].append(document["images"][0] | {"id": 2, "file_name": "c.png"})
    write_picture(tmp_path / "images" / "c.png", (8, 10))
    change(document)
    path = rewrite(tmp_path, document)
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert str(path) in str(refused.value) and words in str(refused.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["annotations.json", "images"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "a.png"], "picture a.png has the name of a.png"),
        (["a.png", "a.jpg"], "picture a.jpg has the name of a.png"),
        (["a.png", "x/../a.png"], "picture a.png has the name of a.png"),
        (["a.png", "a.txt"], "a.txt has no suffix of a picture that is read"),
    ],
)
def test_two_pictures_of_one_name_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2)])
    document["images"] = [document["images"][0] | {"id": i, "file_name": name} for i, name in enumerate(names, 1)]
    for name in ("a.jpg", "a.txt"):
        (tmp_path / "images" / name).write_bytes((tmp_path / "images" / "a.png").read_bytes())
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "coco", rewrite(tmp_path, document), tmp_path / "images")
    assert words in str(refused.value) and "images[1]" in str(refused.value)


def test_two_pictures_of_one_id_are_refused(tmp_path: Path) -> None:
    document = small(tmp_path, [box_region(0, 0, 2, 2)])
    document["images"].append(document["images"][0] | {"file_name": "b.png"})
    with pytest.raises(ValueError, match=r"images\[1\]\.id is 1, as is that of images\[0\]"):
        run_import(tmp_path / "out", "coco", rewrite(tmp_path, document), tmp_path / "images")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [', "damaged (cut short or not JSON: line 1, column"),
        ("", "damaged (it is empty)"),
        ("[" * 5000, "nested more than 64 deep"),
        ('{"shapes": [], "imagePath": "a.png"}', "this looks like labelme; run dinoseg import labelme"),
        ('{"type": "FeatureCollection", "features": []}', "this looks like geojson; run dinoseg import geojson"),
        ('{"_via_img_metadata": {}}', "this looks like VGG Image Annotator; it is not read: export it as COCO"),
        ('[{"data": {}, "annotations": []}]', "this looks like Label Studio; it is not read"),
        ('<?xml version="1.0"?><annotations/>', "looks like cvat; run dinoseg import cvat"),
        ("[1, 2]", "a list of 2 found, an object expected"),
    ],
)
def test_another_file_is_named_for_what_it_is(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "images").mkdir()
    path = rewrite(tmp_path, text)
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "coco", path, tmp_path / "images")
    assert str(path) in str(refused.value) and words in str(refused.value)


def test_folders_and_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images: no such folder; give the folder that holds the pictures"):
        run_import(tmp_path / "out", "coco", tmp_path / "x.json", tmp_path / "images")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"x\.json: missing"):
        run_import(tmp_path / "out", "coco", tmp_path / "x.json", tmp_path / "images")
    with pytest.raises(ValueError, match=r"a folder, not a file"):
        run_import(tmp_path / "out", "coco", tmp_path / "images", tmp_path / "images")
