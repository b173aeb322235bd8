"""Label settings that contradict each other or the masks, and what the messages say."""

import numpy as np
import pytest

from dinoseg.labels import LabelSpace

RETINA = {0: "background", 1: "artery", 2: "vein", 3: "crossing"}


def build(classes=None, ignore=None, reduce_zero_label=False, found=(), **options) -> LabelSpace:
    return LabelSpace.build(classes, ignore, reduce_zero_label, found, **options)


def test_named_classes_are_part_of_the_advice() -> None:
    with pytest.raises(ValueError, match=r"num_classes=3 .*means ignore \(take it out of datasets\.classes\)"):
        build(RETINA, num_classes=2)
    with pytest.raises(ValueError, match=r"such as background \(name it in datasets\.classes\)"):
        build({1: "artery", 2: "vein"}, None, True, num_classes=5)


# --- num_classes and reduce_zero_label


@pytest.mark.parametrize(("reduce", "count"), [(False, 3), (True, 4), (False, 5), (True, 2), (True, 150)])
def test_a_wrong_num_classes_prints_the_table_and_both_settings(reduce: bool, count: int) -> None:
    with pytest.raises(ValueError, match=f"num_classes={count} does not match") as error:
        build(None, None, reduce, {0, 1, 2, 3}, num_classes=count)
    message = str(error.value)
    assert "decoder_head.num_classes=4 datasets.reduce_zero_label=false" in message
    assert "decoder_head.num_classes=3 datasets.reduce_zero_label=true" in message
    assert "label id  class index  name" in message
    assert f"         1            {0 if reduce else 1}  class_1" in message


@pytest.mark.parametrize(("reduce", "count"), [(False, 4), (True, 3)])
def test_both_settings_of_the_notes_are_accepted(reduce: bool, count: int) -> None:
    assert build(None, None, reduce, {0, 1, 2, 3}, num_classes=count).num_classes == count


def test_a_declared_range_fills_ids_that_do_not_occur() -> None:
    space = build(None, None, True, {0, 3, 17}, num_classes=150, declared_range=True)
    assert space.num_classes == 150
    assert space.encode(np.array([[0, 3, 150]])).tolist() == [[255, 2, 149]]


def test_a_declared_range_does_not_hide_an_id_beyond_it() -> None:
    with pytest.raises(ValueError, match="num_classes=3 does not match"):
        build(None, None, True, {0, 1, 2, 3, 4}, num_classes=3, declared_range=True)


def test_found_ids_need_not_be_contiguous() -> None:
    space = build(None, [255], False, {0, 2, 5, 255}, num_classes=3)
    assert space.encode(np.array([[0, 2, 5, 255]])).tolist() == [[0, 1, 2, 255]]


# --- contradictions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"found": {0, 255}}, r"classes=\{0: background, 255: object\}\" \"datasets\.ignore=\[\]"),
        ({"found": {0, 255}, "num_classes": 2}, "255 is the object"),
        ({"found": {0, 255}, "ignore": [255]}, "255 is the object"),
        ({"found": {255}}, "0 classes"),
        ({"found": {0, 1}, "reduce_zero_label": True}, "1 classes and nothing can be learned"),
        ({"classes": RETINA, "reduce_zero_label": True}, r"names label id 0 \('background'\)"),
        ({"classes": RETINA, "ignore": [3]}, r"3 is in datasets\.classes \('crossing'\) and in datasets\.ignore"),
        ({"classes": {1: "a", 3: "b"}, "reduce_zero_label": True}, r"class index = label id - 1.*ignore=\[0, 255\]"),
        ({"classes": {1: "a", 2: "a", 3: "b"}, "reduce_zero_label": True}, "each a class of its own"),
        ({"found": {0, 2, 5}, "reduce_zero_label": True}, "found 2 .*at class index 0"),
        ({"classes": {"#ff0000": "a", 1: "b"}}, "mixes label ids and colours"),
        ({"classes": {"#ff0000": "a", "#00ff00": "b"}, "ignore": [255]}, "ignore lists label ids"),
        ({"classes": {"#ff0000": "a", "#00ff00": "b"}, "reduce_zero_label": True}, "no meaning for colour masks"),
        ({"classes": RETINA, "kind": "colours"}, "masks store colours"),
        ({"kind": "colours", "found": {0, 0xFF0000}}, r"'#000000': name_0, '#ff0000': name_1"),
        ({"classes": {}}, "expected {label id: name}"),
        ({"classes": "vessel"}, "expected {label id: name}"),
        ({"classes": {"vessel": 1, 0: "b"}}, "'vessel' is neither a label id nor a colour"),
        ({"classes": {0: "a", "300,0,0": "b"}}, "'300,0,0' is neither"),
        ({"classes": {0: "a", 1: None}}, r"classes\[1\] has no name"),
        ({"classes": {0: "a", 1: {"name": "b", "color": "#000000"}}}, r"expected a name or \{name"),
        ({"classes": {0: "a", 1: {"name": "b", "colour": 3}}}, "write '#rrggbb'"),
        ({"classes": {0: "a", "0": "b"}}, "0 is given twice"),
        ({"classes": RETINA, "ignore": ["void"]}, r"datasets\.ignore: 'void' is neither"),
    ],
)
def test_contradictions_are_explained(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_naming_255_overrules_the_default_ignore() -> None:
    assert build({0: "background", 255: "object"}).ignored_ids == ()


def test_classes_as_a_list_number_from_zero() -> None:
    assert build(["background", "vessel"]).classes[1].label_ids == (1,)
