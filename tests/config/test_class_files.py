"""Class names from files and presets."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import only, run, save
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset

from dinoseg.config.class_files import preset_names, read_classes
from dinoseg.config.loading import load_config
from dinoseg.labels import LabelSpace

FILES = {
    "names.txt": "sky\n\n# a remark\nroad\ntree\n",
    "ids.txt": "0 sky\n1: road\n2\ttree\n",
    "plain.csv": "0,sky\n1,road\n2,tree\n",
    "classes.csv": "id,name\n0,sky\n1,road\n2,tree\n",
    "_classes.csv": "Pixel Value, Class\n0, sky\n1, road\n2, tree\n",
    "list.json": '["sky", "road", "tree"]',
    "map.json": '{"0": "sky", "1": "road", "2": "tree"}',
    "dataset.json": '{"channel_names": {}, "labels": {"sky": 0, "road": 1, "tree": 2}, "file_ending": ".png"}',
    "config.json": '{"id2label": {"0": "sky", "1": "road", "2": "tree"}}',
    "coco.json": '{"categories": [{"id": 0, "name": "sky"}, {"id": 1, "name": "road"}, {"id": 2, "name": "tree"}]}',
    "data.yaml": "nc: 3\nnames: [sky, road, tree]\n",
    "map.yaml": "0: sky\n1: road\n2: tree\n",
    "mark.txt": "\ufeffsky\r\nroad\r\ntree\r\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_says_the_same(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8", newline="")
    named = read_classes(str(tmp_path / name))
    assert (named.classes, named.ignore) == ({0: "sky", 1: "road", 2: "tree"}, None)


COLOURS = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:255,0,16::\n",
    "class_dict.csv": "name,r,g,b\nbackground,0,0,0\ncar,255,0,16\n",
    "colours.csv": "id,name\n#000000,background\n#FF0010,car\n",
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(COLOURS[name])
    assert read_classes(str(tmp_path / name)).classes == {"#000000": "background", "#ff0010": "car"}


def test_colours_to_draw_with_and_labels_that_count_nowhere(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,name,colour\n0,sky,#0000ff\n4,road,\n9,(ignored),\n")
    named = read_classes(str(tmp_path / "c.csv"))
    assert named.classes == {0: {"name": "sky", "colour": "#0000ff"}, 4: "road"}
    assert named.ignore == [9]


SPELLINGS = {
    "c.json": '{"0": {"name": "sky", "color": "#0000FF"}, "4": {"name": "road"}}',
    "c.yaml": "0: {name: sky, colour: '0,0,255'}\n4: {name: road, color: }\n",
    "coco.json": '{"categories": [{"id": 0, "name": "sky", "color": [0, 0, 255]}, {"id": 4, "name": "road"}]}',
    "c.csv": "id,name,color\n0,sky,#0000ff\n4,road,\n",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_colour_is_read_in_either_spelling(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(SPELLINGS[name])
    assert read_classes(str(tmp_path / name)).classes == {0: {"name": "sky", "colour": "#0000ff"}, 4: "road"}


def test_a_table_without_ids_counts_what_counts_nowhere(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("name\nbackground\n(ignored)\nvein\n")
    named = read_classes(str(tmp_path / "classes.csv"))
    assert (named.classes, named.ignore) == ({0: "background", 2: "vein"}, [1])


def test_the_ignore_label_of_nnunet_counts_nowhere(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "tumour": 1, "ignore": 2}}')
    named = read_classes(str(tmp_path / "dataset.json"))
    assert (named.classes, named.ignore) == ({0: "background", 1: "tumour"}, [2])


BAD = {
    "twice": ("c.csv", "id,name\n0,sky\n0,road\n", r"c\.csv, line 3: label 0 is named twice"),
    "no name": ("c.csv", "id,name\n0,\n", r"c\.csv, line 2: label 0 has no name"),
    "one column": ("c.csv", "id,name\n0\n", r"c\.csv, line 2: '0' has too few columns"),
    "no id": ("c.csv", "id,name\nx,sky\n", r"c\.csv, line 2: 'x' is neither a label id nor a colour"),
    "no colour": ("c.csv", "name,r,g,b\nsky,0,0,300\n", r"c\.csv, line 2: a colour is three numbers of 0 to 255"),
    "a word for a colour": (
        "d.json",
        '{"0": {"name": "sky", "color": "blue"}}',
        r"d\.json, '0': 'blue' is no colour; write '#rrggbb' or three numbers",
    ),
    "a region": ("d.json", '{"labels": {"whole": [1, 2]}}', r"d\.json, 'whole': is made of several labels \[1, 2\]"),
    "no JSON": ("d.json", "{", r"d\.json: cannot be read"),
    "a number": ("d.json", "3", r"d\.json: holds neither a list nor a mapping"),
    "nothing": ("c.txt", "# none\n", r"c\.txt: names no class; give a text file"),
    "a picture": ("c.png", "", r"c\.png: a file of type \.png; give a text file with a name a line"),
}


@pytest.mark.parametrize(("name", "text", "message"), BAD.values(), ids=BAD)
def test_wrong_files(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_classes(str(tmp_path / name))


def test_bytes_are_no_names(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"c\.txt: no text in UTF-8 \(byte 3\)"):
        read_classes(str(tmp_path / "c.txt"))


def test_a_word_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"datasets\.classes=cityscape: no such file, .*did you mean 'cityscapes'\?"):
        load_config(["datasets.classes=cityscape"])


SIZES = {
    "voc": (21, [255]),
    "voc_colours": (21, ["#e0e0c0"]),
    "cityscapes_train_ids": (19, [255]),
    "ade20k": (150, [0, 255]),
    "coco_stuff": (171, [255]),
    "coco_stuff_train_ids": (171, [255]),
    "coco_panoptic": (133, [0, 255]),
    "camvid": (11, [11]),
    "camvid_colours": (31, ["#000000"]),
    "loveda": (7, [0]),
    "potsdam": (6, None),
}


def test_presets() -> None:
    assert set(preset_names()) == {*SIZES, "cityscapes"}
    for name, (count, ignore) in SIZES.items():
        named = read_classes(name)
        assert (len(named.classes), named.ignore) == (count, ignore), name
        assert len(set(named.classes.values())) == count
        LabelSpace.build(named.classes, named.ignore, None, [])


def test_cityscapes_ids_and_train_ids_are_the_same_classes_in_the_same_order() -> None:
    ids, train_ids = read_classes("cityscapes"), read_classes("cityscapes_train_ids")
    assert list(ids.classes.values()) == list(train_ids.classes.values())
    assert {*ids.classes, *(ids.ignore or ())} == {*range(34), 255}


def test_coco_stuff_ids_leave_out_what_the_data_set_never_labels() -> None:
    """Category ids 12, 26, 29, 30, 45, 66, 68, 69, 71, 83 and 91 do not occur; a pixel holds the id less one."""
    ids = read_classes("coco_stuff").classes
    missing = {number - 1 for number in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)}
    assert set(ids) == set(range(182)) - missing
    assert (ids[0], ids[89], ids[91], ids[181]) == ("person", "toothbrush", "banner", "wood")
    assert list(ids.values()) == list(read_classes("coco_stuff_train_ids").classes.values())


def test_the_things_and_the_unmerged_stuff_of_coco_panoptic_are_those_of_coco_stuff() -> None:
    """COCO-Stuff's pixels hold the category id less one; what panoptic merges has ids of its own, from 183 on."""
    panoptic, stuff = read_classes("coco_panoptic").classes, read_classes("coco_stuff").classes
    own = {label_id: name for label_id, name in panoptic.items() if label_id >= 183}
    assert len(own) == 17 and all(name.endswith("-merged") for name in own.values())
    assert all(stuff[label_id - 1] == name for label_id, name in panoptic.items() if label_id not in own)
    assert sum(label_id <= 90 for label_id in panoptic) == 80


def test_the_colours_of_pascal_voc_are_those_of_its_formula() -> None:
    """Bits of the label id, three at a time, are the highest bits of red, green and blue."""
    for label_id, colour in enumerate(read_classes("voc_colours").classes):
        channels = [sum((label_id >> 3 * k + channel & 1) << 7 - k for k in range(8)) for channel in range(3)]
        assert colour == "#{:02x}{:02x}{:02x}".format(*channels)


def test_a_run_holds_the_names_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1})
    (data / "names.txt").write_text("ground\nleaf\nstone\n")
    trained = tmp_path / "run"
    settings = tiny_settings(data, trained, "datasets.classes=names.txt")
    assert run_cli(["train", *settings], monkeypatch) == 0
    (data / "names.txt").unlink()
    assert run_cli(["train", trained, "--resume", "previous"], monkeypatch) == 0
    assert run_cli(["eval", trained], monkeypatch) == 0
    rows = json.loads((trained / "eval/val/metrics.json").read_text())["per_class"]
    assert [row["name"] for row in rows] == ["ground", "leaf", "stone"]


def test_names_beside_the_masks_are_taken_and_said(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        for name in "ab":
            noise = np.random.default_rng(ord(name) + len(split)).integers(0, 256, (2, 2, 3), dtype=np.uint8)
            save(tmp_path / split / f"{name}.jpg", noise)
            save(tmp_path / split / f"{name}_mask.png", np.array([[0, 1], [1, 0]], np.uint8))
    (tmp_path / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, crack\n")
    report = run(tmp_path)
    assert report.label_space is not None
    assert report.label_space.class_names == ("background", "crack")
    assert only(report, "class_file").message == f"2 class names taken from {tmp_path / 'train' / '_classes.csv'}"
    report = run(tmp_path, classes={0: "rest", 1: "break"})
    assert report.label_space is not None and report.label_space.class_names == ("rest", "break")
