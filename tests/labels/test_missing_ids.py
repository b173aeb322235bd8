"""reduce_zero_label on masks in which label ids are missing: a subset of a data set of many classes."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import SPLITS, write_pair
from helpers.tiny import run_cli

from dinoseg.labels import LabelSpace

SUBSET = {0, 3, 17, 150}


def build(classes: object = None, found: set[int] = SUBSET, **options: int) -> LabelSpace:
    return LabelSpace.build(classes, None, True, found, **options)


def test_the_number_of_classes_says_which_ids_there_are() -> None:
    space = build(num_classes=150)
    assert space.num_classes == 150
    assert space.encode(np.array([[0, 1, 3, 17, 150, 255]])).tolist() == [[255, 0, 2, 16, 149, 255]]
    assert space.decode(np.array([[2, 16, 149]])).tolist() == [[3, 17, 150]]


@pytest.mark.parametrize(("found", "count"), [({0, 2}, 2), ({0, 1, 3}, 5), ({2, 4, 255}, 4)])
def test_neighbours_with_other_gaps(found: set[int], count: int) -> None:
    assert [entry.label_ids for entry in build(None, found, num_classes=count).classes] == [
        (label_id,) for label_id in range(1, count + 1)
    ]


@pytest.mark.parametrize("count", [4, 150])
def test_a_number_that_counts_the_background_too_is_still_found(count: int) -> None:
    with pytest.raises(ValueError, match=f"num_classes={count} does not match"):
        build(None, {0, 1, 2, 3}, num_classes=count)


@pytest.mark.parametrize("options", [{}, {"num_classes": 150}])
def test_a_list_of_names_is_of_the_ids_from_one(options: dict[str, int]) -> None:
    space = build([f"name {number}" for number in range(1, 151)], **options)
    assert (space.classes[2].name, space.classes[2].label_ids) == ("name 3", (3,))
    assert (space.num_classes, space.ignored_ids) == (150, (0, 255))


def test_a_list_that_begins_with_the_background_is_not_shifted() -> None:
    with pytest.raises(ValueError, match=r"names label id 0 \('background'\).*num_classes=4 says so"):
        build(["background", "artery", "vein", "crossing"], {0, 1, 2, 3})
    assert build(["artery", "vein", "crossing"], {0, 1, 2, 3}).class_names == ("artery", "vein", "crossing")


@pytest.mark.parametrize(
    "settings",
    [
        ["datasets.reduce_zero_label=true"],
        ["datasets.reduce_zero_label=true", "decoder_head.num_classes=3"],
        ["datasets.reduce_zero_label=true", "decoder_head.num_classes=149"],
        ["decoder_head.num_classes=7"],
    ],
)
def test_each_setting_that_the_error_advises_is_accepted(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in SPLITS:
        for name in "ab":
            write_pair(tmp_path, split, name, np.array([[0, 3, 17, 150]], dtype=np.uint8))
    root = f"datasets.root={tmp_path}"
    assert run_cli(["check", root, *settings], monkeypatch) == 1
    text = " ".join(capsys.readouterr().out.split())
    pattern = r'(?:decoder_head\.num_classes=\d+|datasets\.reduce_zero_label=\w+|"datasets\.ignore=[^"]*")'
    advised = [shlex.split(found) for found in re.findall(rf"{pattern}(?: {pattern})+", text)]
    advised += [[found] for found in re.findall(r"set (decoder_head\.num_classes=\d+) \(or", text)]
    assert len(advised) == 2
    for advice in advised:
        kept = [s for s in settings if s.partition("=")[0] not in {a.partition("=")[0] for a in advice}]
        assert run_cli(["check", root, *kept, *advice], monkeypatch) == 0, advice
    # The branches of the decision tree, too.
    capsys.readouterr()
    assert run_cli(["check", root], monkeypatch) == 0
    tree = re.findall(r"(reduce_zero_label=\w+), +(num_classes=\d+)", capsys.readouterr().out)
    assert tree == [("reduce_zero_label=false", "num_classes=4"), ("reduce_zero_label=true", "num_classes=150")]
    for zero, count in tree:
        assert run_cli(["check", root, f"datasets.{zero}", f"decoder_head.{count}"], monkeypatch) == 0
