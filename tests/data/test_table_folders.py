"""Folders of parquet files: splits, names, rows, and what is said of tables that hold no images."""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers.image_tables import FILE, encoded, squares, write_table

from dinoseg.check.check import check_dataset
from dinoseg.check.scan import scan_pairs
from dinoseg.check.scan_cache import ScanCache
from dinoseg.config import DatasetsConfig
from dinoseg.data.dataset import read_encoded, stored_size
from dinoseg.data.folders import find_pairs, find_pool, layout_of
from dinoseg.data.missing_split import MissingSplitError, UnsplitError
from dinoseg.data.parquet import TableRow
from dinoseg.labels import LabelSpace

SPACE = LabelSpace.build(None, None, None, {0: 1, 1: 1, 2: 1})


def rows(root: Path, split: str = "train", **more: object) -> list[TableRow]:
    pairs = find_pairs(DatasetsConfig(root=str(root), **more), split).pairs  # type: ignore[arg-type]
    assert all(isinstance(pair, TableRow) for pair in pairs)
    return [pair for pair in pairs if isinstance(pair, TableRow)]


def refused(root: Path) -> str:
    with pytest.raises(ValueError) as error:
        for row in rows(root):
            read_encoded(row, SPACE)
    return str(error.value)


def test_rows_are_read_by_themselves_over_parts_and_row_groups(tmp_path: Path) -> None:
    pairs = squares(5, 1)
    write_table(tmp_path / "data" / "train-00000-of-00002.parquet", pairs[:3])
    write_table(tmp_path / "data" / "train-00001-of-00002.parquet", pairs[3:])
    found = rows(tmp_path)
    assert [row.name for row in found] == [f"train_{number:05d}" for number in range(5)]
    assert found[4].image_file == tmp_path / "data" / "train-00001-of-00002.parquet"
    for row, (image, mask) in reversed(list(zip(found, pairs, strict=True))):
        picture, class_map = read_encoded(row, SPACE)
        np.testing.assert_array_equal(np.asarray(picture), image)
        np.testing.assert_array_equal(class_map, mask)
        assert stored_size(row, SPACE) == mask.shape


def test_the_names_of_files_say_the_split(tmp_path: Path) -> None:
    write_table(tmp_path / "data" / "train-00000-of-00001.parquet", squares(2, 1), ["a.jpg", "b.jpg"])
    write_table(tmp_path / "data" / "validation-00000-of-00001.parquet", squares(1, 2))
    write_table(tmp_path / "data" / "full-00000-of-00001.parquet", squares(3, 3))
    assert [row.name for row in rows(tmp_path)] == ["a", "b"]
    assert [row.name for row in rows(tmp_path, "val")] == ["validation_00000"]
    assert len(rows(tmp_path, "test", test="full")) == 3
    with pytest.raises(MissingSplitError, match=r"split test: no parquet file of .* is of test; there are full"):
        rows(tmp_path, "test")
    assert len(find_pool(DatasetsConfig(root=str(tmp_path))).pairs) == 6


def test_a_folder_may_name_the_split_and_a_file_none(tmp_path: Path) -> None:
    write_table(tmp_path / "one" / "train" / "0000.parquet", squares(1, 1))
    write_table(tmp_path / "one" / "validation" / "0000.parquet", squares(1, 2))
    assert [len(rows(tmp_path / "one", split)) for split in ("train", "val")] == [1, 1]
    write_table(tmp_path / "two" / "vessels.parquet", squares(3, 1))
    with pytest.raises(UnsplitError, match="know no splits"):
        rows(tmp_path / "two")
    report = check_dataset(DatasetsConfig(root=str(tmp_path / "two")))
    assert report.ok, report.findings
    made = report.made_splits or {}
    assert sorted(map(len, made.values())) == [1, 1, 1]
    assert made["train"][0].startswith("vessels.parquet/vessels_")


def test_what_was_split_is_found_again(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", squares(2, 1), ["x.png", "y.png"])
    write_table(tmp_path / "b.parquet", squares(2, 2), ["x.png", "z.png"])
    pool = find_pool(DatasetsConfig(root=str(tmp_path))).pairs
    assert [pair.name for pair in pool] == ["a/x", "a/y", "b/x", "b/z"]
    (tmp_path / "splits.json").write_text('{"train": ["b.parquet/x", "a.parquet/y"], "val": ["a.parquet/x"]}')
    found = find_pairs(DatasetsConfig(root=str(tmp_path), split="splits.json"), "train").pairs
    assert [pair.name for pair in found] == ["a/y", "b/x"]


def test_several_data_sets_in_one_folder_are_named(tmp_path: Path) -> None:
    for name in ("instance", "semantic"):
        write_table(tmp_path / name / "train-00000-of-00001.parquet", squares(1, 1))
    assert "parquet files of several data sets, in instance, semantic; give one of these" in refused(tmp_path)


def test_counts_are_those_of_the_masks_and_are_remembered(tmp_path: Path) -> None:
    pairs = squares(3, 1)
    path = write_table(tmp_path / "train.parquet", pairs)
    found = rows(tmp_path)
    cache = tmp_path / "scan.json"
    for fact, (_, mask) in zip(scan_pairs(found, "ids", ScanCache(cache)), pairs, strict=True):
        assert dict(fact.mask.counts) == dict(enumerate(np.bincount(mask.ravel()).tolist()))
        assert fact.image.size == mask.shape[::-1] and fact.image.mode == "RGB"
    again = ScanCache(cache)
    scan_pairs(found, "ids", again)
    assert again.hits == 6
    write_table(path, squares(3, 2))
    changed = ScanCache(cache)
    scan_pairs(rows(tmp_path), "ids", changed)
    assert changed.hits == 0


@pytest.mark.parametrize(
    "card",
    [
        "id2label:\n  0: ground\n  1: box\n  2: lid\n",
        "dataset_info:\n  features:\n  - name: scene\n    dtype:\n      class_label:\n        names: {'0': day}\n"
        "  - name: classes\n    sequence:\n      class_label:\n        names: {'0': ground, '1': box, '2': lid}\n",
    ],
)
def test_names_come_from_the_card(tmp_path: Path, card: str) -> None:
    write_table(tmp_path / "train.parquet", squares(3, 1))
    write_table(tmp_path / "val.parquet", squares(3, 2))
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\n{card}---\n# A set\n")
    space = check_dataset(DatasetsConfig(root=str(tmp_path))).label_space
    assert space is not None and space.class_names == ("ground", "box", "lid")
    (tmp_path / "id2label.json").write_text('{"0": "a", "1": "b", "2": "c"}')
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes == str(tmp_path / "id2label.json")


def test_a_card_that_names_scenes_names_no_classes(tmp_path: Path) -> None:
    write_table(tmp_path / "train.parquet", squares(1, 1))
    card = "dataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names: {'0': benign}\n"
    (tmp_path / "README.md").write_text(f"---\n{card}---\n")
    assert layout_of(DatasetsConfig(root=str(tmp_path))).classes == ""


def test_columns_that_hold_no_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), path)
    assert refused(tmp_path).startswith(
        f"{path}: no column of images; it has text (string), label (int64); expected image, with bytes or a struct"
    )
    image = pyarrow.array([{"bytes": encoded(squares(1, 1)[0][0]), "path": None}], FILE)
    pyarrow.parquet.write_table(pyarrow.table({"image": image, "label": [1]}), path)
    assert "images in column 'image', but no column of masks" in refused(tmp_path)
    assert "it has image (struct<bytes: binary, path: string>), label (int64)" in refused(tmp_path)


def test_cells_that_hold_no_files_are_named(tmp_path: Path) -> None:
    (image, mask), path = squares(1, 1)[0], tmp_path / "train.parquet"
    good = {"bytes": encoded(image), "path": None}

    def write(image: object, mask: object) -> None:
        arrays = [pyarrow.array([cell], FILE) for cell in (image, mask)]
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=["image", "mask"]), path)

    write({"bytes": None, "path": "far/a.png"}, good)
    assert f"{path}/a: column 'image' of this row holds a path (far/a.png) and no bytes" in refused(tmp_path)
    write(good, None)
    assert f"{path}/train_00000: column 'mask' of this row holds nothing" in refused(tmp_path)
    write(good, {"bytes": encoded(mask, "JPEG"), "path": None})
    assert "a mask stored as JPEG, whose compression alters label ids at edges; store PNG" in refused(tmp_path)
    write(good, {"bytes": encoded(mask[:8]), "path": None})
    assert "is 32 x 40 but its mask" in refused(tmp_path)


def test_damage_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path / "train.parquet", squares(3, 1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert refused(tmp_path).startswith(f"{path}: truncated or damaged (")
    path.write_bytes(whole[:200] + b"\xff" * 3000 + whole[3200:])
    assert f"{path}" in refused(tmp_path) and "truncated or damaged (" in refused(tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    assert refused(tmp_path) == f"{path}: a pointer of Git LFS, and not the file itself: fetch it (git lfs pull)"
    monkeypatch.setattr("dinoseg.data.parquet.find_spec", lambda name: importlib.util.find_spec("no_such_package"))
    assert refused(tmp_path) == f"{path}: read with pyarrow, which is not installed: pip install 'dinoseg[parquet]'"


def test_rows_are_measured_as_files_are(tmp_path: Path) -> None:
    generator, images, masks = np.random.default_rng(0), [], []
    for _ in range(2):
        values, mask = generator.random((20, 24)).astype(np.float32), np.ones((20, 24), np.uint8)
        values[:5], mask[:4], mask[10:] = np.nan, 7, 0  # 7 stands where there is no data
        images.append({"bytes": encoded(values, "TIFF"), "path": None})
        masks.append({"bytes": encoded(mask), "path": None})
    table = pyarrow.Table.from_arrays([pyarrow.array(images, FILE), pyarrow.array(masks, FILE)], ["image", "mask"])
    pyarrow.parquet.write_table(table, tmp_path / "train-0.parquet")
    datasets = DatasetsConfig(root=str(tmp_path), bands=[1], range="p0-p100")
    report = check_dataset(datasets, splits=("train",))
    assert report.label_space is not None and report.label_space.num_classes == 2
    (measured,) = report.measured.table()
    assert report.measured.settled["datasets.range"] == [measured["min"], measured["max"]]
    assert report.measured.settled["transforms.mean"] == pytest.approx([0.5], abs=0.05)
    assert "2 images with pixels without data (NaN, infinite or nodata), 25.0 % of them" in [
        finding.message for finding in report.findings
    ]
    assert check_dataset(datasets, splits=("train",)) == report  # as remembered


@pytest.mark.parametrize("name", ["..png", ".a.png", "a\0.png", "a\n.png"])
def test_rows_with_names_that_no_output_can_have_are_numbered(name: str, tmp_path: Path) -> None:
    write_table(tmp_path / "train-0.parquet", squares(2, 1), ["b.png", name])
    assert [row.name for row in rows(tmp_path)] == ["train_00000", "train_00001"]
