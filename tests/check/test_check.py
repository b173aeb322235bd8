"""The check as a whole: tables, decision, text and JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_data_set import run, text_of, write_data_set, write_pair

from dinoseg.check.check import check_dataset
from dinoseg.config import DatasetsConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data")


def test_a_good_data_set_has_no_findings_and_the_right_tables(root: Path) -> None:
    report = run(root, 4, classes={0: "background", 1: "artery", 2: "vein", 3: "crossing"})
    assert report.findings == ()
    assert report.ok
    assert report.class_pixels("train") == [6, 4, 4, 2]
    train = report.to_dict()["splits"][0]
    assert (train["pairs"], train["image_sizes"], train["mask_modes"]) == (2, {"4 x 2": 2}, {"L": 2})
    assert train["labels"][0] == {
        "label_id": 0,
        "class_index": 0,
        "name": "background",
        "pixels": 6,
        "pixel_share": 0.375,
        "masks": 2,
    }


def test_the_report_is_json(root: Path) -> None:
    assert json.loads(json.dumps(run(root).to_dict()))["label_space"]["num_classes"] == 4


def test_the_text_has_table_tree_and_verdict(root: Path) -> None:
    text = text_of(run(root, 3, reduce_zero_label=True))
    assert "class_1" in text
    assert "Is label id 0 a real class you want to segment?" in text
    assert "label id 0 covers 37.5 % of the pixels, in 6 of 6 masks" in text
    assert "YES ──→ reduce_zero_label=false, num_classes=4\n" in text
    assert "NO  ──→ reduce_zero_label=true,  num_classes=3  <- this config" in text
    assert "fit for training, 0 warnings" in text


@pytest.mark.parametrize(
    ("settings", "with_zero", "without_zero", "zero_is_class"),
    [
        ({}, 4, 3, True),
        ({"reduce_zero_label": True}, 4, 3, False),
        ({"ignore": [0, 255]}, 4, 3, False),
        ({"classes": {0: "a", 1: "a", 2: "b", 3: "c"}}, 3, 3, True),
        ({"num_classes": 9}, 4, 3, None),
    ],
)
def test_the_decision(
    settings: dict[str, Any], with_zero: int, without_zero: int, zero_is_class: bool | None, root: Path
) -> None:
    decision = run(root, **settings).decision
    assert decision is not None
    assert (decision.with_zero, decision.without_zero, decision.zero_is_class) == (
        with_zero,
        without_zero,
        zero_is_class,
    )


def test_the_check_uses_the_users_cache(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(root) == run(root)
    assert len(list((tmp_path / "cache" / "dinoseg").iterdir())) == 1


def test_real_data_matches_its_own_counts(real_data: Path) -> None:
    report = check_dataset(DatasetsConfig(root=str(real_data / "drive_av")), splits=("train", "test"))
    assert report.ok
    assert report.class_pixels("train") == [6045311, 230490, 282726, 40673]
    assert report.class_pixels("test") == [6043553, 236594, 287809, 31244]


def test_thousands_of_label_ids_are_folded(root: Path) -> None:
    write_pair(root, "train", "a", np.arange(3000, dtype=np.uint16).reshape(50, 60))
    lines = text_of(run(root)).splitlines()
    assert len(lines) < 100
    assert sum("2940 more" in line for line in lines) == 1
