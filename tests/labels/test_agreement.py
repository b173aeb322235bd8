"""Label spaces of runs that are averaged: the same classes in the same order, or a message that says what differs."""

from typing import Any

import pytest

from dinoseg.labels import LabelSpace
from dinoseg.labels.agreement import common_space


def _space(classes: Any, ignore: Any = None, **more: Any) -> LabelSpace:
    return LabelSpace.build(classes, ignore, None, [], **more)


ABC = {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({0: "a", 1: "b"}, "only runs/a has c (label id 2);"),
        ({0: "a", 1: "b", 2: "c", 3: "d"}, "only runs/b has d (label id 3);"),
        ({0: "a", 1: "x", 2: "c"}, "only runs/a has b (label id 1) and only runs/b has x (label id 1);"),
        ({0: "a", 1: "b", 5: "c"}, "only runs/a has c (label id 2) and only runs/b has c (label id 5);"),
        ({0: "a", 1: "b", 2: "c", 3: "c"}, "only runs/a has c (label id 2) and only runs/b has c (label id 2, 3);"),
        ({"#000000": "a", "#0000ff": "b"}, "the masks of runs/a have label ids, those of runs/b colours;"),
        ({2: "c", 1: "b", 0: "a"}, "the order of their classes differs, class index 0 is a (label id 0) and c"),
    ],
)
def test_what_differs_is_named(other: Any, difference: str) -> None:
    with pytest.raises(ValueError) as raised:
        common_space([("runs/a", _space(ABC)), ("runs/same", _space(ABC)), ("runs/b", _space(other))])
    message = str(raised.value)
    assert message.startswith("runs/a and runs/b cannot be averaged: ") and difference in message
    assert message.endswith("; train both with the same datasets.classes, or leave one out")


def test_a_class_of_many_labels_may_differ_in_the_last() -> None:
    one, two = ({0: "a"} | dict.fromkeys(range(1, last), "b") | {last: "b"} for last in (14, 15))
    del two[14]
    with pytest.raises(
        ValueError, match=r"only runs/a has b \(label id 1, .*, 13, 14\) and only runs/b has b .*, 13, 15\)"
    ):
        common_space([("runs/a", _space(one)), ("runs/b", _space(two))])


def test_what_any_ignores_is_ignored_and_the_first_gives_the_rest() -> None:
    first, second = _space(ABC, [7]), _space(ABC, [255, 7, -1])
    common = common_space([("runs/a", first), ("runs/b", second)])
    assert common.ignored_ids == (7, 255, -1)
    assert common.classes == first.classes
    assert common_space([("runs/a", first)]) == first
    colours = {"#ff0000": "a", "#00ff00": "b"}
    strict, tolerant = (_space(colours, colour_tolerance=tolerance) for tolerance in (0, 9))
    assert common_space([("runs/a", strict), ("runs/b", tolerant)]).colour_tolerance == 9
