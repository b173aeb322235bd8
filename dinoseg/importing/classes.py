"""Classes of a source and the label ids that masks get for them."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dinoseg.labels.palette import Colour, class_colour
from dinoseg.system.messages import printable

BACKGROUND_NAMES = ("background", "_background_", "__background__")
# 255 is ignored by default, and 65535 is the ignore index of many classes.
_IGNORED, _LARGEST_KEPT, _MOST_CLASSES = 255, 254, 65000


@dataclass(frozen=True)
class DeclaredClass:
    """A class as the source has it: its number or name there, what it is called, and its colour if it has one."""

    key: int | str
    name: str
    colour: Colour | None = None


@dataclass(frozen=True)
class ImportedClass:
    """A class of the data set; ``key`` is None for a background that the source does not have."""

    label_id: int
    name: str
    colour: Colour
    key: int | str | None


@dataclass(frozen=True)
class ClassTable:
    """All classes, by label id; ``rule`` says in words how they got their ids."""

    classes: tuple[ImportedClass, ...]
    rule: str

    @property
    def ids(self) -> dict[int | str, int]:
        """Label ids by the source's own keys."""
        return {entry.key: entry.label_id for entry in self.classes if entry.key is not None}

    def to_csv(self) -> str:
        """The text of classes.csv."""
        text = io.StringIO()
        rows = [(entry.label_id, entry.name, "#{:02x}{:02x}{:02x}".format(*entry.colour)) for entry in self.classes]
        csv.writer(text, lineterminator="\n").writerows([("id", "name", "colour"), *rows])
        return text.getvalue()


def class_table(declared: Sequence[DeclaredClass], where: str) -> ClassTable:
    """Label ids for the classes of a source.

    A class that is called background has the label id 0; where there is none, 0 is the background that nobody drew.
    Numbers of the source are kept if all are of 1 to 254, else the classes are counted from 1 in the source's order.

    Raises:
        ValueError: no class, two of one name or number, or one without a name; names ``where`` they stand.
    """
    if not declared:
        raise ValueError(f"{where}: names no class; a data set of nothing but background cannot be learned: check it")
    _refuse_twice([entry.name.strip() for entry in declared], "name", where)
    _refuse_twice([entry.key for entry in declared], "number", where)
    background = [entry for entry in declared if _is_background(entry)]
    if len(background) > 1:
        names = " and ".join(repr(entry.name) for entry in background)
        raise ValueError(f"{where}: {names} both mean the background; rename one of them")
    drawn = [entry for entry in declared if not _is_background(entry)]
    if len(drawn) > _MOST_CLASSES:
        raise ValueError(f"{where}: {len(drawn)} classes, more than a mask has label ids for; merge some")
    ids, rule = _ids(drawn)
    first = background[0] if background else DeclaredClass("", "background")
    zero = ImportedClass(0, first.name.strip(), first.colour or class_colour(0), first.key if background else None)
    imported = [
        ImportedClass(label_id, entry.name.strip(), entry.colour or class_colour(index), entry.key)
        for index, (label_id, entry) in enumerate(zip(ids, drawn, strict=True), 1)
    ]
    remark = "0 is the source's background" if background else "0 is what nobody drew"
    return ClassTable((zero, *sorted(imported, key=lambda entry: entry.label_id)), f"{rule}; {remark}")


def kept_classes(written: Iterable[DeclaredClass], where: str) -> ClassTable:
    """A table of classes whose numbers are label ids already; what nobody drew is 0, whatever 0 is called.

    Raises:
        ValueError: two of one name or number, or a number that no mask of an import has; names ``where`` they stand.
    """
    ordered = sorted(written, key=lambda entry: (int(entry.key), entry.name))
    _refuse_twice([entry.name.strip() for entry in ordered], "name", where)
    _refuse_twice([entry.key for entry in ordered], "number", where)
    wrong = [entry for entry in ordered if not 0 <= int(entry.key) <= _MOST_CLASSES or entry.key == _IGNORED]
    if wrong:
        raise ValueError(
            f"{where}: {wrong[0].name!r} has the label id {wrong[0].key}; use ids of 0 to {_MOST_CLASSES}, and not "
            f"{_IGNORED}, which counts nowhere"
        )
    kept = [
        ImportedClass(int(entry.key), entry.name.strip(), entry.colour or class_colour(int(entry.key)), entry.key)
        for entry in ordered
    ]
    if not any(entry.label_id == 0 for entry in kept):
        kept.insert(0, ImportedClass(0, "background", class_colour(0), None))
    return ClassTable(tuple(kept), "label ids are those of the polygons (label_id)")


def named_classes(names: Iterable[str], where: str) -> ClassTable:
    """A table of names that have no numbers, in the order of the alphabet."""
    return class_table([DeclaredClass(name, name) for name in sorted(set(names))], where)


def _is_background(entry: DeclaredClass) -> bool:
    return entry.name.strip().lower() in BACKGROUND_NAMES


def _ids(drawn: Sequence[DeclaredClass]) -> tuple[list[int], str]:
    numbers = [entry.key for entry in drawn if isinstance(entry.key, int)]
    if len(numbers) == len(drawn) and all(1 <= number <= _LARGEST_KEPT for number in numbers):
        return numbers, "label ids are the source's numbers"
    counted = [number if number < _IGNORED else number + 1 for number in range(1, len(drawn) + 1)]
    why = " (the source's numbers are not all of 1 to 254)" if len(numbers) == len(drawn) else ""
    return counted, f"label ids are counted from 1{why}"


def _refuse_twice(values: Sequence[int | str], noun: str, where: str) -> None:
    """Raises ValueError for two classes with one number or name, and for a name that is empty or cannot be shown."""
    seen: set[int | str] = set()
    for value in values:
        if value == "":
            raise ValueError(f"{where}: a class has no name; give it one")
        if isinstance(value, str) and printable(value) != value:
            raise ValueError(
                f"{where}: the name of class '{printable(value)}' holds characters that no table shows; rename it"
            )
        if value in seen:
            raise ValueError(f"{where}: two classes have the {noun} {value!r}; rename or remove one")
        seen.add(value)
