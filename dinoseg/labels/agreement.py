"""Label spaces of several runs: may their class indices be averaged, and what is ignored where they are."""

from collections.abc import Sequence
from dataclasses import replace

from dinoseg.labels.settings import Kind, show_labels
from dinoseg.labels.space import LabelSpace
from dinoseg.system.messages import list_names

_REMEDY = "train both with the same datasets.classes, or leave one out"


def common_space(spaces: Sequence[tuple[str, LabelSpace]]) -> LabelSpace:
    """The label space of runs that have the same classes, in the same order.

    Colours are the first run's. What any of them ignores is ignored: no prediction depends on it, and a mask that holds
    it can be read. The largest colour tolerance counts.

    Args:
        spaces: each with what messages call it.

    Raises:
        ValueError: two differ in their classes; names both, and what differs.
    """
    first_name, first = spaces[0]
    for name, other in spaces[1:]:
        difference = _difference(first, other, (first_name, name))
        if difference is not None:
            raise ValueError(f"{first_name} and {name} cannot be averaged: {difference}; {_REMEDY}")
    ignored = dict.fromkeys(label_id for _, space in spaces for label_id in space.ignored_ids)
    tolerance = max(space.colour_tolerance for _, space in spaces)
    return replace(first, ignored_ids=tuple(ignored), colour_tolerance=tolerance)


def _difference(first: LabelSpace, other: LabelSpace, names: tuple[str, str]) -> str | None:
    if first.kind != other.kind:
        words = {"ids": "label ids", "colours": "colours"}
        return f"the masks of {names[0]} have {words[first.kind]}, those of {names[1]} {words[other.kind]}"
    ours, theirs = ([(entry.name, entry.label_ids) for entry in space.classes] for space in (first, other))
    if ours == theirs:
        return None
    alone = [
        f"only {name} has {list_names([_in_words(entry, first.kind) for entry in these if entry not in those])}"
        for name, these, those in ((names[0], ours, theirs), (names[1], theirs, ours))
        if set(these) - set(those)
    ]
    if alone:
        return " and ".join(alone)
    index = next(index for index, (one, two) in enumerate(zip(ours, theirs, strict=True)) if one != two)
    one, two = (_in_words(entries[index], first.kind) for entries in (ours, theirs))
    return f"the order of their classes differs, class index {index} is {one} and {two}"


def _in_words(entry: tuple[str, tuple[int, ...]], kind: Kind) -> str:
    name, label_ids = entry
    # All of them: two classes may differ in the last one.
    return f"{name} (label id {show_labels(label_ids, kind, most=len(label_ids))})"
