"""What an option is: declared once, with everything that checks, messages, help and documentation derive from.

``option`` declares a field of a section; ``Option`` is what was declared; ``Section`` checks values against it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Whether a key may change when a training goes on: no; yes; no, since it decides which checkpoint is best.
Resume = Literal["fixed", "free", "decides best"]
# Verbs beside ``train`` that use a key. What is exported keeps what decides its predictions, and is proved on the data.
EVALUATES = ("eval", "report")
# A verb that reads, predicts and counts as another does uses the same keys.
_ALIKE = {"calibrate": "eval", "suggest": "predict", "app": "predict"}
PREDICTS = ("eval", "predict", "report", "export")
READS_DATA = ("check", "eval", "report", "export")
LOADS_MODEL = ("eval", "predict", "report", "export")

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", dict: "a mapping"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "words"}


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        help: one sentence, without a full stop.
        choices: the words that are allowed, of the value or of each entry of a list.
        least, most: the range, ends included; above, below: ends excluded. Of a list, each entry's.
        length: how many entries a list has; None for any number.
        unit: of a number.
        size: the value is a height and width in pixels: a whole number, or [height, width].
        infinite: ``inf`` is allowed.
        resume: whether the key may change when a training goes on.
        verbs: verbs that use it beside ``train``.
        first: one of the few that people change first.
    """

    help: str
    choices: tuple[str, ...] = ()
    least: int | float | None = None
    most: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    length: int | None = None
    unit: str = ""
    size: bool = False
    infinite: bool = False
    resume: Resume = "fixed"
    verbs: tuple[str, ...] = ()
    first: bool = False

    @property
    def range(self) -> str:
        """The allowed values in words; empty where the type alone says it."""
        if self.choices:
            return ", ".join(self.choices)
        if self.least is not None and self.most is not None:
            return f"from {self.least:g} to {_show_number(self.most)}"
        low = "" if self.least is None else f"{self.least:g} or more"
        low = low if self.above is None else f"above {self.above:g}"
        high = "" if self.most is None else f"at most {_show_number(self.most)}"
        high = high if self.below is None else f"below {_show_number(self.below)}"
        return ", ".join(part for part in (low, high) if part)

    @property
    def _advice(self) -> str:
        """What to give in place of a number out of range."""
        if not self.range:
            return "give a finite number"
        return f"give {self.range}" if self.range[0].isdigit() else f"give a number {self.range}"

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value of the right type, and what to give; None where it is fine."""
        if value is None:
            return None
        if self.size:
            return self._size_problem(value)
        if isinstance(value, list):
            if self.length is not None and len(value) != self.length:
                return f"{value} has {len(value)} entries; give {self.length}"
            return next((found for entry in value if (found := self._entry_problem(entry, "any"))), None)
        return self._entry_problem(value, "one")

    def _entry_problem(self, value: Any, how_many: str) -> str | None:
        if self.choices:
            if value in self.choices:
                return None
            return f"{value!r} is unknown; choose {how_many} of {', '.join(self.choices)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if math.isnan(value) or (math.isinf(value) and not self.infinite):
            return f"{value} is no number to go by; {self._advice}"
        if (self.least is not None and value < self.least) or (self.above is not None and value <= self.above):
            return f"{value} is too small; {self._advice}"
        if (self.most is not None and value > self.most) or (self.below is not None and value >= self.below):
            return f"{value} is too large; {self._advice}"
        return None

    def _size_problem(self, value: Any) -> str | None:
        sides = value if isinstance(value, list) else [value]
        most = self.most or math.inf
        whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= most for side in sides)
        if whole and not (isinstance(value, list) and len(value) != 2):
            return None
        return (
            f"{value!r} is no size; expected pixels: a whole number from 1 to {_show_number(most)}, or [height, width]"
        )


def option(default: Any, help: str, **declared: Any) -> Any:
    """Declares a field of a section; ``declared`` are the attributes of ``Option``."""
    stated = Option(help, **declared)
    if isinstance(default, list | dict):
        return Field(default_factory=lambda: type(default)(default), json_schema_extra={"option": stated})  # type: ignore[dict-item]
    return Field(default=default, json_schema_extra={"option": stated})  # type: ignore[dict-item]


class Section(BaseModel):
    """A section of the config: frozen, no unknown keys, values within what their options allow."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, validate_default=False)

    @field_validator("*", mode="before")
    @classmethod
    def _not_a_truth_value(cls, value: Any, info: Any) -> Any:
        # To Python true is the number 1.
        if isinstance(value, bool):
            kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
            if bool not in kinds and kinds & {int, float, str}:
                raise ValueError(f"expected {type_in_words(cls.model_fields[info.field_name or ''].annotation)}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _within_its_range(cls, value: Any, info: Any) -> Any:
        stated = option_of(cls, info.field_name or "")
        problem = stated.problem(value) if stated is not None else None
        if problem is not None:
            raise OptionError(problem)
        return value


class OptionError(ValueError):
    """A value of the right type that its option does not allow; the message goes after the key."""


def option_of(section: type[BaseModel], name: str) -> Option | None:
    """What was declared of a field; None for a field that is a section."""
    extra = section.model_fields[name].json_schema_extra
    found = extra.get("option") if isinstance(extra, dict) else None
    return found if isinstance(found, Option) else None


@dataclass(frozen=True)
class Key:
    """An option by its dotted key, with the default as it was declared and its type in words."""

    key: str
    default: Any
    type: str
    option: Option

    @property
    def shown_default(self) -> str:
        """The default as YAML would write it."""
        return show_value(self.default)

    def is_used_by(self, verb: str) -> bool:
        """Whether a verb reads this key; ``plan`` those of the training that it plans."""
        return verb in ("train", "plan") or _ALIKE.get(verb, verb) in self.option.verbs


@cache
def keys_of(section: type[Section], prefix: str = "") -> tuple[Key, ...]:
    """Every option of a section and of those within it, in the order of their declaration."""

    def walk() -> Iterator[Key]:
        for name, field in section.model_fields.items():
            stated = option_of(section, name)
            if stated is None:
                inner = field.annotation
                assert isinstance(inner, type) and issubclass(inner, Section)
                yield from keys_of(inner, f"{prefix}{name}.")
            else:
                default = field.get_default(call_default_factory=True)
                words = "pixels, a whole number or [height, width]" if stated.size else type_in_words(field.annotation)
                yield Key(prefix + name, default, words, stated)

    return tuple(walk())


def show_value(value: Any) -> str:
    """A value as YAML would write it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def type_in_words(annotation: Any) -> str:
    """``a whole number or null`` for ``int | None``."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    words = []
    for part in parts:
        if get_origin(part) is list:
            words.append(f"a list of {_PLURALS.get(get_args(part)[0], 'values')}")
        elif part is not NoneType:
            words.append(_WORDS.get(get_origin(part) or part, "a value"))
    return " or ".join([*words, *(["null"] if NoneType in parts else [])])


def _kinds(annotation: Any) -> set[Any]:
    return set(get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,))


def _show_number(value: int | float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:g}"
