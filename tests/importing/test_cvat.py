"""CVAT files to masks and back by an independent writer; layers, and every file that is refused."""

from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

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
LABELS = "".join(
    f"<label><name>{name}</name><color>#0000{label_id:02x}</color><attributes></attributes></label>"
    for label_id, name in NAMES.items()
)


def element(tag: str, **attributes: object) -> str:
    written = " ".join(f"{name}={quoteattr(str(value))}" for name, value in attributes.items())
    return f"    <{tag} {written}>\n    </{tag}>\n"


def polygons(region: np.ndarray, name: str) -> str:
    points = [";".join(f"{x:.2f},{y:.2f}" for x, y in corners(box)) for box in row_boxes(region)]
    return "".join(element("polygon", label=name, occluded=0, points=text, z_order=0) for text in points)


def boxes(region: np.ndarray, name: str) -> str:
    return "".join(
        element("box", label=name, xtl=left, ytl=top, xbr=right, ybr=bottom, z_order=0)
        for left, top, right, bottom in row_boxes(region)
    )


def masks(region: np.ndarray, name: str) -> str:
    if not region.any():
        return ""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    frame = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    counts, value = [0], False
    for pixel in frame.ravel():
        if pixel != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    place = {"left": columns[0], "top": rows[0], "width": frame.shape[1], "height": frame.shape[0]}
    return element("mask", label=name, source="manual", rle=", ".join(map(str, counts)), z_order=0, **place)


def write_xml(folder: Path, images: str, labels: str = LABELS, place: str = "task") -> Path:
    meta = f"<meta><{place}><name>x</name><labels>{labels}</labels></{place}></meta>"
    path = folder / "annotations.xml"
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>'
    path.write_text(f"{head}\n{meta}\n{images}</annotations>\n")
    return path


def image(name: str, shapes: str, size: tuple[int, int] = SIZE, number: int = 0) -> str:
    return f'<image id="{number}" name={quoteattr(name)} width="{size[1]}" height="{size[0]}">\n{shapes}</image>\n'


def one(folder: Path, shapes: str, size: tuple[int, int] = (20, 30)) -> Path:
    write_picture(folder / "images" / "a.png", size)
    return write_xml(folder, image("a.png", shapes, size))


@pytest.mark.parametrize("writer", [polygons, boxes, masks])
@pytest.mark.parametrize("place", ["task", "project", "job"])
def test_shapes_give_the_masks_they_were_written_from(
    tmp_path: Path, writer: Callable[[np.ndarray, str], str], place: str
) -> None:
    images = ""
    for stem, ids in MASKS.items():
        write_picture(tmp_path / "images" / f"{stem}.png", SIZE)
        images += image(f"{stem}.png", "".join(writer(ids == label_id, name) for label_id, name in NAMES.items()))
    path = write_xml(tmp_path, images, place=place)
    report = run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    assert_equal_masks(tmp_path / "out", MASKS)
    # In the order of the labels, with their colours.
    assert (tmp_path / "out" / "classes.csv").read_text().splitlines()[2:] == [
        "1,artery,#000001",
        "2,vein,#000002",
        "3,crossing,#000003",
    ]
    assert not report.dropped


def test_labels_that_are_not_declared_anywhere_are_those_in_use(tmp_path: Path) -> None:
    path = one(tmp_path, element("box", label="b", xtl=0, ytl=0, xbr=4, ybr=4) + element("tag", label="a"))
    path.write_text(path.read_text().replace("<meta>", "<other>").replace("</meta>", "</other>"))
    run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    assert classes_of(tmp_path / "out") == {"background": 0, "b": 1}


def test_a_turned_ellipse_holds_the_centres_within_it(tmp_path: Path) -> None:
    path = one(tmp_path, element("ellipse", label="vein", cx=14.25, cy=9.5, rx=9, ry=4.5, rotation=30.0))
    run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    rows, columns = np.mgrid[:20, :30] + 0.5
    turned = (columns - 14.25 + 1j * (rows - 9.5)) * np.exp(-1j * np.pi / 6)
    expected = (turned.real / 9) ** 2 + (turned.imag / 4.5) ** 2 <= 1
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/a.png") == 2, expected)


def test_a_box_is_turned_about_its_centre(tmp_path: Path) -> None:
    path = one(tmp_path, element("box", label="vein", xtl=5, ytl=8, xbr=15, ybr=12, rotation=90.0))
    run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    expected = np.zeros((20, 30), bool)
    expected[5:15, 8:12] = True
    np.testing.assert_array_equal(read_mask(tmp_path / "out/masks/a.png") == 2, expected)


@pytest.mark.parametrize("overlap", ["area", "order"])
def test_a_higher_layer_lies_on_top_of_smaller_and_later_shapes(tmp_path: Path, overlap: str) -> None:
    shapes = element("box", label="artery", xtl=0, ytl=0, xbr=20, ybr=20, z_order=3)
    shapes += element("box", label="vein", xtl=2, ytl=2, xbr=6, ybr=6, z_order=-1)
    shapes += element("box", label="crossing", xtl=4, ytl=4, xbr=9, ybr=9, z_order=3)
    report = run_import(tmp_path / "out", "cvat", one(tmp_path, shapes), tmp_path / "images", overlap)
    mask = read_mask(tmp_path / "out/masks/a.png")
    assert (mask[4:9, 4:9] == 3).all() and (mask == 1).sum() == 400 - 25 and not (mask == 2).any()
    assert "a shape of higher z_order lies on top of all of lower ones" in report.remarks


def test_what_has_no_area_is_dropped_with_its_line(tmp_path: Path) -> None:
    shapes = element("polyline", label="vein", points="0,0;4,4") + element("points", label="vein", points="0,0")
    shapes += element("tag", label="vein") + element("cuboid", label="vein") + "<skeleton></skeleton>"
    shapes += element("box", label="vein", xtl=0, ytl=0, xbr=4, ybr=4)
    path = one(tmp_path, shapes)
    report = run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    reasons = ["a polyline covers no area", "points cover no area", "a tag is of the whole picture"]
    reasons += ["a cuboid has no region in the picture", "a skeleton covers no area"]
    assert [entry.reason for entry in report.dropped] == reasons
    lines = path.read_text().splitlines()
    for entry, tag in zip(report.dropped, ("<polyline", "<points", "<tag", "<cuboid", "<skeleton"), strict=True):
        assert tag in lines[int(entry.where.rpartition(" ")[2]) - 1]


def test_pictures_that_are_not_there_and_not_named_are_listed(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png", (20, 30))
    write_picture(tmp_path / "images" / "more.png", (20, 30))
    path = write_xml(tmp_path, image("a.png", "", (20, 30)) + image("gone.png", "", (20, 30)))
    with pytest.raises(ValueError, match=r"1 annotated picture is not there: gone\.png \(.*annotations\.xml: line 7\)"):
        run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    report = run_import(tmp_path / "out", "cvat", path, tmp_path / "images", skip_missing=True)
    assert [entry.where for entry in report.dropped] == [f"{path}: line 7", "more.png"]


BOX = {"label": "vein", "xtl": 0, "ytl": 0, "xbr": 4, "ybr": 4}
MASK = {"label": "vein", "left": 1, "top": 1, "width": 2, "height": 2}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (element("polygon", label="vein", points="0,0;4,4"), "line 6: a polygon of 2 points"),
        (element("polygon", label="vein", points="0,0;4,4;5"), "line 6: point '5'; x,y expected"),
        (element("polygon", label="vein", points="0,0;4,4;5,x"), "line 6: points holds 'x', no number"),
        (element("polygon", label="vein", points="0,0;4,4;5,inf"), "line 6: points holds 'inf', no number"),
        (element("polygon", label="vein"), "line 6: <polygon> has no points"),
        (element("box", **BOX | {"label": "bone"}), "line 6: label 'bone' is none of the labels of the file"),
        (element("box", xtl=0, ytl=0, xbr=4, ybr=4), "line 6: <box> has no label"),
        (element("box", **BOX | {"xtl": "1e12"}), "line 6: coordinate 1e+12 is far from any picture"),
        (element("box", **BOX, z_order="1.5"), "line 6: z_order is '1.5', no whole number"),
        (element("ellipse", label="vein", cx=1, cy=1, rx=0, ry=2), "line 6: an ellipse with radii 0 and 2"),
        (element("mask", **MASK, rle="1, 2"), "line 6: rle does not cover a frame of 2 x 2"),
        (element("mask", **MASK, rle="1, -1, 4"), "line 6: rle holds something other than run lengths"),
        (element("mask", **MASK | {"width": 999999999, "height": 999999999}, rle="4"), "line 6: rle does not cover"),
        (element("mask", **MASK, rle="999999999999, 4"), "line 6: rle does not cover"),
        (element("blob", label="vein"), "line 6: <blob> is no shape that is known"),
        ("<polygon label='vein' points='0,0'", "damaged: line 6"),
    ],
)
def test_a_damaged_shape_is_refused_with_its_line(tmp_path: Path, shapes: str, words: str) -> None:
    path = one(tmp_path, shapes)
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    assert str(path) in str(refused.value) and words in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "line 5: '/etc/passwd' is an absolute path"),
        ("../../etc/passwd", "line 5: '../../etc/passwd' leads outside the folder of the pictures"),
        ("", "line 5: '' is no name of a picture"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "cvat", write_xml(tmp_path, image(name, "")), tmp_path / "images")
    assert words in str(refused.value)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><annotations>&c;</annotations>'
FETCH = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations></annotations>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "line 1: a DOCTYPE, which no export has and which can hide a hostile file, is not read"),
        (FETCH, "line 1: a DOCTYPE"),
        ("<annotations>&c;</annotations>", "damaged: line 1, column 13: undefined entity"),
        ("<a>" * 70 + "</a>" * 70, "line 1: nested more than 64 deep"),
        ("<annotations>", "damaged: line 1"),
        ("", "damaged: line 1, column 0: no element found"),
        ('<?xml version="1.0" encoding="utf-9"?><annotations/>', "its text cannot be read (unknown encoding: utf-9)"),
        ('<?xml version="1.0" encoding="shift_jis"?><annotations/>', "its text cannot be read (multi-byte encodings"),
        ("<html></html>", "line 1: <html> is no export of CVAT"),
        ("<annotations></annotations>", "holds no <image>"),
        ("<annotations>\n<track id='0'></track></annotations>", "line 2: <track> is of CVAT for video; export it as"),
        ('{"images": [], "annotations": []}', "this looks like coco; run dinoseg import coco"),
        ("[]", "JSON; give the XML of a cvat export"),
    ],
)
def test_hostile_and_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
    assert str(path) in str(refused.value) and words in str(refused.value)


def test_labels_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    label = "<label><name>vein</name></label>"
    path = write_xml(tmp_path, image("a.png", ""), label * 2)
    with pytest.raises(ValueError, match="line 4: labels: two classes have the name 'vein'"):
        run_import(tmp_path / "out", "cvat", path, tmp_path / "images")
