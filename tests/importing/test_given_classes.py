"""Label ids of an earlier import are kept, class by class of one name; what does not fit is refused."""

import json
from pathlib import Path

import pytest
from helpers.annotations import classes_of, corners, read_mask, run_import, write_picture


def write_labelme(folder: Path, *labels: str) -> Path:
    """A picture with a square of 4 x 4 pixels for each label, from left to right."""
    write_picture(folder / "a.png", (8, 40))
    shapes = [{"label": label, "points": corners((5 * i, 0, 5 * i + 4, 4))} for i, label in enumerate(labels)]
    document = {"shapes": shapes, "imagePath": "a.png", "imageHeight": 8, "imageWidth": 40}
    (folder / "a.json").write_text(json.dumps(document))
    return folder


def squares(out: Path, count: int) -> list[int]:
    return [int(read_mask(out / "masks" / "a.png")[0, 5 * i]) for i in range(count)]


def test_a_split_that_lacks_a_class_keeps_the_ids_of_the_other(tmp_path: Path) -> None:
    run_import(tmp_path / "train", "labelme", write_labelme(tmp_path / "a", "bus", "car", "dog", "__ignore__"))
    val = write_labelme(tmp_path / "b", "dog", "bus", "__ignore__", "_background_")
    table = tmp_path / "train" / "classes.csv"
    report = run_import(tmp_path / "val", "labelme", val, classes=str(table))
    assert squares(tmp_path / "train", 4) == [1, 2, 3, 255]
    assert squares(tmp_path / "val", 4) == [3, 1, 255, 0]
    assert (tmp_path / "val" / "classes.csv").read_bytes() == table.read_bytes()
    assert report.to_dict()["label_ids"] == f"label ids are those of {table}"
    assert [entry["in_source"] for entry in report.to_dict()["classes"]] == [None, "bus", None, "dog"]
    # Without the table they would be others.
    run_import(tmp_path / "other", "labelme", val)
    assert squares(tmp_path / "other", 2) == [2, 1]


def test_a_table_by_hand_may_have_large_ids_and_no_colours(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("\ufeffid,name\n1000,bus\n0,Background\n")
    run_import(tmp_path / "out", "labelme", write_labelme(tmp_path / "a", "bus"), classes=str(tmp_path / "c.csv"))
    assert squares(tmp_path / "out", 2) == [1000, 0]
    assert classes_of(tmp_path / "out") == {"Background": 0, "bus": 1000}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,name,colour\n0,background,\n2,car,\n", "lacks bus of"),
        (
            "id,name,colour\n1,bus,\n",
            "no class has the label id 0, which is what nobody drew in masks of an import; give a",
        ),
        ("id,name,colour\n0,sky,\n1,bus,\n", "the label id 0 is 'sky', which is what nobody drew"),
        ("id,name,colour\n0,background,\n1,bus,\n2,bus,\n", "'bus' has the label ids 1 and 2; give one"),
        (
            "id,name,colour\n0,background,\n255,bus,\n",
            "'bus' has the label id 255; use ids of 0 to 65534, and not 255",
        ),
        ("id,name,colour\n0,background,\n-1,bus,\n", "'bus' has the label id -1"),
        ("id,name,colour\n0,background,\n70000,bus,\n", "'bus' has the label id 70000"),
        ("id,name\n#ff0000,bus\n", "names colours; give label ids"),
        ("id,name,colour\n0,background,\n1,,\n", "label 1 has no name"),
        ("id,name,colour\n", "names no class"),
        (b"id,name\n0,\xff\n", "no text in UTF-8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    table = tmp_path / "c.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as refused:
        run_import(tmp_path / "out", "labelme", write_labelme(tmp_path / "a", "bus"), classes=str(table))
    assert str(table) in str(refused.value) and words in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_known_data_set_gives_its_ids(tmp_path: Path) -> None:
    folder = write_labelme(tmp_path / "a", "cat", "sofa")
    run_import(tmp_path / "out", "labelme", folder, classes="voc")
    assert squares(tmp_path / "out", 2) == [8, 18]
    with pytest.raises(ValueError, match=r"c\.csv: no such file"):
        run_import(tmp_path / "new", "labelme", folder, classes=str(tmp_path / "c.csv"))
