"""What ``datasets.classes`` and ``datasets.ignore`` may look like, and how they become classes with label ids."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dinoseg.labels.palette import Colour, class_colour

Kind = Literal["ids", "colours"]


class LabelError(ValueError):
    """Label settings that contradict each other or the masks; ``code`` names the finding for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class LabelClass:
    """One class: its name, the label ids that stand for it (the first is canonical) and its drawing colour (0..255)."""

    name: str
    label_ids: tuple[int, ...]
    colour: Colour


def pack_colour(colour: Colour) -> int:
    """(red, green, blue) in 0..255 as the label id 0xRRGGBB."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def unpack_colour(label_id: int) -> Colour:
    """The label id 0xRRGGBB as (red, green, blue) in 0..255."""
    return label_id >> 16 & 255, label_id >> 8 & 255, label_id & 255


def show_label(label_id: int, kind: Kind) -> str:
    """A label id as people write it: ``7`` or ``#ff0000``."""
    return f"#{label_id:06x}" if kind == "colours" else str(label_id)


def plain_label(label_id: int, kind: Kind) -> int | str:
    """A label id for JSON and CSV: a number, or a colour as ``#ff0000``."""
    return show_label(label_id, kind) if kind == "colours" else label_id


def label_number(label: int | str) -> int:
    """The label id of what ``plain_label`` gave."""
    return int(label[1:], 16) if isinstance(label, str) else label


def show_labels(label_ids: Iterable[int], kind: Kind, most: int = 12) -> str:
    """Label ids separated by commas; after ``most`` of them only how many more there are."""
    ids = list(label_ids)
    text = ", ".join(show_label(label_id, kind) for label_id in ids[:most])
    return f"{text} and {len(ids) - most} more" if len(ids) > most else text


def parse_label(value: Any, key: str) -> tuple[Kind, int]:
    """A label id (``3``, ``"3"``) or a colour (``"#ff0000"``, ``"255,0,0"``) as (kind, label id).

    Raises:
        ValueError: anything else, with ``key``, the config key it was found in.
    """
    text = str(value).strip()
    if not isinstance(value, bool):
        if re.fullmatch(r"-?\d+", text):
            label_id = int(text)
            if not -(2**31) <= label_id < 2**31:
                raise ValueError(f"{key}: label id {label_id} does not fit 32 bits, -2147483648..2147483647")
            return "ids", label_id
        if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
            return "colours", int(text[1:], 16)
        channels = [int(part) for part in re.findall(r"\d+", text)]
        if re.fullmatch(r"\s*\d+\s*,\s*\d+\s*,\s*\d+\s*", text.strip("()[]")) and max(channels) <= 255:
            return "colours", pack_colour((channels[0], channels[1], channels[2]))
    raise ValueError(
        f"{key}: {value!r} is neither a label id nor a colour; write 3, '#ff0000' or '255,0,0' (quotes included)"
    )


def parse_ignore(ignore: Any) -> tuple[Kind | None, tuple[int, ...] | None]:
    """``datasets.ignore`` as (kind, label ids); (None, None) when left out, kind None for an empty list.

    Raises:
        ValueError: an entry that is no label, or ids and colours in one list.
    """
    if ignore is None:
        return None, None
    entries = list(ignore) if isinstance(ignore, Iterable) and not isinstance(ignore, str) else [ignore]
    parsed = [parse_label(entry, "datasets.ignore") for entry in entries]
    return _single_kind({kind for kind, _ in parsed}, "datasets.ignore"), tuple(
        dict.fromkeys(label_id for _, label_id in parsed)
    )


def label_ids_advice(ignore: Any) -> str:
    """For a message, where ``datasets.ignore`` was taken for a colour: how several label ids are written."""
    if not isinstance(ignore, str) or "," not in ignore:
        return ""
    return f"; several label ids stand in brackets, datasets.ignore=[{ignore.strip('()[] ')}], and without are a colour"


def parse_classes(classes: Any, first: int = 0) -> tuple[Kind, tuple[LabelClass, ...]]:
    """``datasets.classes`` as (kind, classes in order of first appearance); label ids of one name are merged.

    Args:
        classes: ``{label: name}``, ``{label: {name: ..., colour: ...}}``, or a list of names for label ids 0, 1, 2, ...
        first: the label id of the first name in a list.

    Raises:
        ValueError: an empty or malformed value, an unreadable label or colour, ids and colours in one mapping.
    """
    entries = _class_entries(classes, first)
    kinds: set[Kind] = set()
    ids_of: dict[str, list[int]] = {}
    colour_of: dict[str, Colour] = {}
    for label, value in entries:
        kind, label_id = parse_label(label, "datasets.classes")
        name, colour = _name_and_colour(label, value)
        kinds.add(kind)
        if any(label_id in ids for ids in ids_of.values()):
            raise ValueError(f"datasets.classes: {show_label(label_id, kind)} is given twice; give each label once")
        ids_of.setdefault(name, []).append(label_id)
        if colour is not None:
            colour_of.setdefault(name, colour)
    kind_of_all = _single_kind(kinds, "datasets.classes")
    assert kind_of_all is not None
    return kind_of_all, tuple(
        LabelClass(name, tuple(ids), colour_of.get(name, drawing_colour(ids[0], index, kind_of_all)))
        for index, (name, ids) in enumerate(ids_of.items())
    )


def drawing_colour(label_id: int, index: int, kind: Kind) -> Colour:
    """The colour of the mask itself for colour masks, one of the palette for label ids."""
    return unpack_colour(label_id) if kind == "colours" else class_colour(index)


def _class_entries(classes: Any, first: int) -> list[tuple[Any, Any]]:
    if isinstance(classes, Mapping):
        entries = list(classes.items())
    elif isinstance(classes, Iterable) and not isinstance(classes, str):
        entries = list(enumerate(classes, first))
    else:
        entries = []
    if not entries:
        raise ValueError(
            f"datasets.classes is {classes!r}; expected {{label id: name}}, for instance {{0: background, 1: vessel}}, "
            "or leave it out to take the label ids found in the masks"
        )
    return entries


def _name_and_colour(label: Any, value: Any) -> tuple[str, Colour | None]:
    name, colour = value, None
    if isinstance(value, Mapping):
        unknown = set(value) - {"name", "colour"}
        if unknown or "name" not in value:
            raise ValueError(
                f"datasets.classes[{label}] is {dict(value)!r}; expected a name or {{name: .., colour: ..}}"
            )
        name = value["name"]
        if value.get("colour") is not None:
            kind, packed = parse_label(value["colour"], f"datasets.classes[{label}].colour")
            if kind != "colours":
                raise ValueError(f"datasets.classes[{label}].colour is {value['colour']!r}; write '#rrggbb'")
            colour = unpack_colour(packed)
    if name is None or isinstance(name, (Mapping, list)) or not str(name).strip():
        raise ValueError(f"datasets.classes[{label}] has no name; write {{{label}: name}}")
    return str(name).strip(), colour


def _single_kind(kinds: set[Kind], key: str) -> Kind | None:
    if len(kinds) > 1:
        raise ValueError(f"{key} mixes label ids and colours; a mask holds one or the other, so give one kind")
    return next(iter(kinds), None)
