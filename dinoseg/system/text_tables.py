"""Small files that people write: text in UTF-8, rows of CSV, JSON and YAML, each refused in one message."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dinoseg.system.files import special_kind

_LARGEST = 1 << 28


def read_utf8(path: Path, what: str) -> str:
    """The text of a file, without a byte order mark.

    Args:
        what: the file is expected to be, for messages: ``a list of images``.

    Raises:
        ValueError: missing, no plain file, not readable, too large, or not UTF-8.
    """
    if kind := special_kind(path):
        raise ValueError(f"{path}: {kind}; give {what}")
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"{path}: {path.stat().st_size >> 20} MB, which is more than {what} takes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 (byte {error.start}); give {what}, saved as UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}); give {what}") from None


def table_rows(path: Path, text: str) -> list[list[str]]:
    """Cells without the spaces around them; parted by tabs in a ``.tsv``, else by commas.

    Raises:
        ValueError: a line that is no CSV.
    """
    rows = csv.reader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        return [[cell.strip() for cell in row] for row in rows]
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: no CSV ({error})") from None


def column_of(header: list[str], names: Iterable[str]) -> int | None:
    """The column that has one of these names, in small letters; None for none."""
    return next((header.index(name) for name in names if name in header), None)


def parse_structured(path: Path, text: str, what: str, *, plain: bool = False) -> Any:
    """The content of a JSON or YAML file.

    Args:
        plain: YAML's words stay what is written: 0001 is no number, and no date is a date.

    Raises:
        ValueError: neither, or nested too deeply.
    """
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text)
        return yaml.load(text, yaml.BaseLoader) if plain else yaml.safe_load(text)
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply for {what}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as {what} ({' '.join(str(error).split())})") from None
