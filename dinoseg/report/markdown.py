"""Markdown that shows any text as it is, whatever it holds."""

import re
from collections.abc import Sequence

from dinoseg.system.messages import printable

# What means something to Markdown, to HTML or to what is made of them: code, emphasis, links, columns, formulas, names
# of users and pictures. Written as entities, which stand for themselves everywhere but in code.
_MEANING = re.compile(
    r"[\\`*{}\[\]<>|~#!@$\"'&=^]|:(?!\s)|(?<!\S):|(?<![^\W_])_|_(?![^\W_])|^[-+\s]|^\d+(?=[.)])|\s$|(?<=\s)\s|(?i:www)(?=\.)"
)
# Controls that a table would break at, and that an entity can stand for.
_BREAKS = ("\n", "\t", "\r")


def plain(text: str) -> str:
    """A text for a paragraph or a cell of a table, to be shown as it is: line breaks are kept as spaces are."""
    shown = "".join(letter if letter in _BREAKS else printable(letter) for letter in text)
    return "".join(_entity(letter) if letter in _BREAKS else letter for letter in _MEANING.sub(_entities, shown))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """A table; cells hold Markdown, such as ``plain`` gives.

    Args:
        numbers_from: columns from this one on hold numbers, which stand to the right.
    """
    marks = ["---" if place < numbers_from else "---:" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))


def _entities(found: re.Match[str]) -> str:
    return "".join(_entity(letter) for letter in found[0])


def _entity(letter: str) -> str:
    return f"&#{ord(letter)};"
