"""What is declared of an option holds: each is refused beyond its range, with its key and the range."""

from typing import Any

import pytest

from dinoseg.config import all_keys
from dinoseg.config.loading import load_config
from dinoseg.config.option import Key


def _beyond(entry: Key) -> list[Any]:
    """Values of the right type that the declaration does not allow."""
    stated, values = entry.option, []
    if stated.size:
        return [0, -1, [1], [1, 2, 3], [4, 0], int(stated.most or 0) + 1]
    if stated.choices:
        values.append("nonsense")
    whole = entry.type.startswith(("a whole number", "a list of whole numbers"))
    step = 1 if whole else 1e-3
    values += [] if stated.least is None else [stated.least - step]
    # Channel statistics above 1 are taken to be of images in 0..255.
    has_most = stated.most is not None and not (entry.key.startswith("transforms.") and stated.length == 3)
    values += [stated.most + step] if has_most else []
    values += [limit for limit in (stated.above, stated.below) if limit is not None]
    if entry.type.startswith(("a number", "a list of numbers")):
        values += [float("nan"), *([] if stated.infinite else [float("inf")])]
    if whole:
        values = [int(value) for value in values]
    if entry.type.startswith("a list"):
        filled = [[value] * (stated.length or 1) for value in values]
        return filled + ([[_allowed(entry)] * (stated.length + 1)] if stated.length else [])
    return values


def _allowed(entry: Key) -> float:
    """An entry of a list that is within its range."""
    whole = entry.type.startswith("a list of whole numbers")
    return int(entry.option.least or 1) if whole else 0.5


CASES = [(entry, value) for entry in all_keys() for value in _beyond(entry)]


def test_there_are_many() -> None:
    assert len(CASES) > 120


@pytest.mark.parametrize(("entry", "value"), CASES, ids=lambda part: getattr(part, "key", None))
def test_beyond_the_range_is_refused_with_key_and_range(entry: Key, value: Any) -> None:
    with pytest.raises(ValueError) as raised:
        load_config([f"{entry.key}={str(value).replace('nan', '.nan').replace('inf', '.inf')}"])
    message = str(raised.value)
    assert entry.key in message
    assert entry.option.size or entry.option.range in message or "entries" in message


@pytest.mark.parametrize("entry", all_keys(), ids=lambda entry: entry.key)
def test_truth_values_are_no_numbers(entry: Key) -> None:
    if "number" in entry.type and "value" not in entry.type:
        with pytest.raises(ValueError, match=entry.key):
            load_config([f"{entry.key}=true"])
