"""JSON files that are read back: parsed within bounds, checked against a model, refused in one message."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dinoseg.system.files import special_kind

Model = TypeVar("Model")

# No file of ours is nested deeper; whoever walks the document by recursion is safe within this.
_DEEPEST = 64
# Integers of more digits do not fit 64 bits; they become floats, which no field for integers takes.
_MOST_DIGITS = 19
_LONGEST_SHOWN = 40
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "string_pattern_mismatch": "a text of the form {pattern}",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "dict_type": "an object",
    "model_type": "an object",
    "dataclass_type": "an object",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
}


class Record(BaseModel):
    """An object in a JSON file: exact types, finite numbers; keys without a field are passed over."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


def read_json(path: Path, model: type[Model], remedy: str) -> Model:
    """The file's contents as ``model``.

    Args:
        model: a ``Record``, or whatever else pydantic validates.
        remedy: what to do about a damaged file, for messages.

    Raises:
        ValueError: the file cannot be read or does not fit the model; names file, key, what was found and expected.
    """
    return check_document(load_json(path, remedy), model, str(path), remedy)


def load_json(path: Path, remedy: str) -> Any:
    """The file's contents, at most 64 levels deep. Integers beyond 64 bits come as floats.

    Raises:
        ValueError: missing, no file, not readable, not UTF-8, empty, cut short, no JSON, or nested deeper.
    """
    if kind := special_kind(path):
        raise ValueError(f"{path}: {kind}; {remedy}")
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; {remedy}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); {remedy}") from None


def parse_json(content: bytes) -> Any:
    """The value of a JSON text, as ``load_json`` gives it.

    Raises:
        ValueError: the reason alone, in a few words.
    """
    if not content.strip():
        raise ValueError("it is empty")
    try:
        document = json.loads(content.decode("utf-8"), parse_int=_bounded_int)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text, from byte {error.start} on") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"cut short or not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} deep") from None
    _refuse_deep(document)
    return document


def check_document(document: Any, model: type[Model], source: str, remedy: str, within: str = "") -> Model:
    """A parsed document as ``model``.

    Args:
        source: names the document in messages, as a rule its file.
        within: the key of a larger document that it stands under.

    Raises:
        ValueError: the first key that does not fit, with what was found and what is expected.
    """
    try:
        return cast(Model, _adapter(cast(Any, model)).validate_python(document))
    except ValidationError as error:
        raise ValueError(f"{source}: {_describe_first(error, within)}; {remedy}") from None


@cache
def _adapter(model: Any) -> Any:
    return TypeAdapter(model)


def _describe_first(error: ValidationError, within: str) -> str:
    """``KEY: what was found, what is expected`` of the first thing that does not fit."""
    first = error.errors(include_url=False)[0]
    key = _show_key((within, *first["loc"]))
    return f"{key}: {_describe(first)}" if key else _describe(first)


def show_found(value: Any) -> str:
    """A value of a document in a few words."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    # Not json.dumps for all: an infinite float has no name in JSON.
    text = json.dumps(value) if value is None or isinstance(value, bool | str) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _describe(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return "missing"
    if kind == "extra_forbidden":
        return "no such key is known"
    if kind == "value_error":
        return str(context["error"])
    expected = _EXPECTED.get(kind)
    wanted = expected.format(**context) if expected else error["msg"].removeprefix("Input should be ")
    return f"{show_found(error['input'])} found, {wanted} expected"


def _show_key(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    key = "".join(parts).lstrip(".")
    return json.dumps(key)[1:-1][: 3 * _LONGEST_SHOWN]


def _bounded_int(text: str) -> int | float:
    value = int(text) if len(text) <= _MOST_DIGITS + 1 else float(text)
    return value if -(2**63) <= value < 2**63 else float(value)


def _refuse_deep(document: Any) -> None:
    level = [document]
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {_DEEPEST} deep")


def is_finite_number(value: Any) -> bool:
    """Whether a value of a document is a number that can be drawn: no truth value, not infinite, not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
