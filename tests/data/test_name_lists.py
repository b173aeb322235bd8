"""Lists of images in text, CSV, JSON and YAML, and the pairs that they choose."""

import json
from pathlib import Path

import pytest
from helpers.small_data_set import touch

from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import MissingSplitError, find_pairs, find_recorded
from dinoseg.data.name_lists import read_name_list

FORMS = {
    "train.txt": "a\n\n# a comment\nimages/b.jpg\n",
    "train.csv": "image,split\na,train\nb,train\nc,val\n",
    "train.tsv": "filename\tsubset\na.jpg\ttraining\nb.jpg\ttrain\nc.jpg\tvalid\n",
    "plain.csv": "a\nb\n",
    "train.json": json.dumps({"train": ["a", {"image": "b"}], "val": ["c"]}),
    "list.json": json.dumps(["a", "b"]),
    "train.yaml": "train: [a, b]\nval: [c]\n",
    "dos.txt": "a\r\nb\r\n",
    "mark.txt": "\ufeffa\nb\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(tmp_path, *(f"images/{name}.jpg" for name in "abc"), *(f"masks/{name}.png" for name in "abc"))
    return tmp_path


@pytest.mark.parametrize("name", FORMS)
def test_every_form_names_the_same_images(name: str, root: Path) -> None:
    (root / name).write_text(FORMS[name], encoding="utf-8", newline="")
    listing = find_pairs(DatasetsConfig(root=str(root), train=name), "train")
    assert [pair.name for pair in listing.pairs] == ["a", "b"]
    assert [pair.mask and pair.mask.name for pair in listing.pairs] == ["a.png", "b.png"]


def test_names_of_digits_stay_what_is_written(root: Path) -> None:
    touch(root, "images/0001.jpg", "masks/0001.png", "images/1e3.jpg", "masks/1e3.png")
    (root / "train.yaml").write_text("[0001, 1e3]")
    assert [pair.name for pair in find_pairs(DatasetsConfig(root=str(root), train="train.yaml"), "train").pairs] == [
        "0001",
        "1e3",
    ]


def test_a_list_may_name_images_and_masks(tmp_path: Path) -> None:
    touch(tmp_path, "pictures/x 1.jpg", "truth/1.png", "pictures/y.jpg", "truth/2.png")
    (tmp_path / "train.txt").write_text("pictures/x 1.jpg\ttruth/1.png\npictures/y.jpg truth/2.png\n")
    pairs = find_pairs(DatasetsConfig(root=str(tmp_path), train="train.txt"), "train").pairs
    assert [(pair.image.name, pair.mask and pair.mask.name) for pair in pairs] == [
        ("x 1.jpg", "1.png"),
        ("y.jpg", "2.png"),
    ]


def test_one_file_may_hold_all_lists(root: Path) -> None:
    (root / "splits.json").write_text(json.dumps({"train": ["a"], "val": ["b"], "test": ["images/c.jpg"]}))
    datasets = DatasetsConfig(root=str(root), split="splits.json")
    assert [find_pairs(datasets, split).pairs[0].name for split in ("train", "val", "test")] == ["a", "b", "c"]


def test_a_glob_chooses_from_all_pairs(root: Path) -> None:
    touch(root, "images/d1.jpg", "masks/d1.png")
    datasets = DatasetsConfig(root=str(root), train="[ab]", val="images/d*.jpg")
    assert [pair.name for pair in find_pairs(datasets, "train").pairs] == ["a", "b"]
    assert [pair.name for pair in find_pairs(datasets, "val").pairs] == ["d1"]
    with pytest.raises(ValueError, match=r"'x\*' matches no image below .*; there are images/a\.jpg, images/b\.jpg"):
        find_pairs(DatasetsConfig(root=str(root), train="x*"), "train")


def test_a_stem_that_is_there_twice_needs_more_of_its_path(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        touch(tmp_path, f"images/{patient}/1.jpg", f"masks/{patient}/1.png")
    (tmp_path / "train.txt").write_text("1\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 1: '1' could be .*p1/1\.jpg, .*p2/1\.jpg; write more"):
        find_pairs(DatasetsConfig(root=str(tmp_path), train="train.txt"), "train")
    (tmp_path / "train.txt").write_text("p2/1\n")
    assert [pair.name for pair in find_pairs(DatasetsConfig(root=str(tmp_path), train="train.txt"), "train").pairs] == [
        "p2/1"
    ]


BAD = {
    "no image": (
        "train.txt",
        "a\nz\n",
        r"train\.txt, line 2: no image 'z' below .*; an image there is 'images/a\.jpg'",
    ),
    "twice": ("train.txt", "a\nb\na\n", r"train\.txt, line 3: 'a' is named twice \(before: line 1\)"),
    "no word for a split": (
        "t.csv",
        "image,split\na,trian\n",
        r"t\.csv, line 2: 'trian' is no split; write train, val",
    ),
    "too few columns": ("t.csv", "image,split\na\n", r"t\.csv, line 2: 'a' has no image, or too few columns"),
    "a header without a column of images": (
        "t.csv",
        "picture,split\na,train\n",
        r"t\.csv, line 1: a column 'split' and none of images; call it one of image, images, img, file, filename",
    ),
    "columns without names": ("t.csv", "a,b,c\n", r"t\.csv: 3 columns and no header"),
    "no list": ("t.json", '{"images": []}', r"t\.json: neither a list nor \{train: \[\.\.\.\], .*keys: \['images'\]"),
    "a number for a list": ("t.json", '{"train": 3}', r"t\.json: train holds a int; give a list of images"),
    "an entry that is none": ("t.json", '["a", 7.5]', r"t\.json, \[1\]: 7\.5 names no image"),
    "no JSON": ("t.json", '["a"', r"t\.json: cannot be read as a list"),
    "no CSV": ("t.csv", "image\n" + "a" * 200_000 + "\n", r"t\.csv, line 2: no CSV \(field larger"),
    "no YAML": ("t.yaml", "[a", r"t\.yaml: cannot be read as a list"),
    "an object of Python": ("t.yaml", "!!python/object/apply:os.getcwd []", r"t\.yaml"),
    "nothing": ("train.txt", "# none\n", r"split train: .*train\.txt names no image"),
    "a mask that is not there": ("train.txt", "images/a.jpg no/a.png\n", r"train\.txt, line 1: no file 'no/a\.png'"),
    "an image without suffix beside its mask": (
        "train.csv",
        "image,mask\na,masks/a.png\n",
        r"train\.csv, line 2: no file 'a' below \S+; where an entry names image and mask, both are whole paths with",
    ),
}


@pytest.mark.parametrize(("name", "text", "message"), BAD.values(), ids=BAD)
def test_wrong_lists(name: str, text: str, message: str, root: Path) -> None:
    (root / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        find_pairs(DatasetsConfig(root=str(root), train=name), "train")


def test_a_list_that_is_not_there(root: Path) -> None:
    with pytest.raises(
        MissingSplitError, match=r"no list lists/train\.txt, neither below .* nor in the current folder"
    ):
        find_pairs(DatasetsConfig(root=str(root), train="lists/train.txt"), "train")


def test_a_picture_is_no_list(root: Path) -> None:
    (root / "train.txt").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match=r"train\.txt: no text in UTF-8 \(byte 0\)"):
        read_name_list(root / "train.txt", "train")


def test_a_name_below_the_root_is_found_from_within_the_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "train.txt").write_text("images/a.jpg\nimages/b\n")
    globs = DatasetsConfig(images="images/*.jpg", masks="masks/*.png", train="train.txt")
    for datasets in (globs, DatasetsConfig(root=".", train="train.txt")):
        assert [str(pair.image) for pair in find_pairs(datasets, "train").pairs] == ["images/a.jpg", "images/b.jpg"]
    names = ["images/a.jpg", "images/c.jpg"]
    found = find_recorded(DatasetsConfig(root="."), {"train": names}, "train")
    assert [pair.name for pair in found.pairs] == ["a", "c"]


def test_a_name_below_the_root_may_be_of_any_depth(tmp_path: Path) -> None:
    deep = "1/2/3/4/5/6/7/8"
    touch(tmp_path, f"images/{deep}/a.jpg", f"masks/{deep}/a.png")
    found = find_recorded(DatasetsConfig(root=str(tmp_path)), {"train": [f"images/{deep}/a.jpg"]}, "train")
    assert [pair.image for pair in found.pairs] == [tmp_path / "images" / deep / "a.jpg"]


@pytest.mark.parametrize("value", ["subset.txt", "train/images/*"])
def test_a_split_that_is_chosen_by_a_list_or_a_glob_is_chosen_from_its_folder_too(value: str, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        touch(tmp_path, f"{split}/images/{split}_a.jpg", f"{split}/masks/{split}_a.png")
    (tmp_path / "subset.txt").write_text("train_a\n")
    datasets = DatasetsConfig(root=str(tmp_path), train=value)
    assert [[pair.name for pair in find_pairs(datasets, split).pairs] for split in ("train", "val")] == [
        ["train_a"],
        ["val_a"],
    ]
