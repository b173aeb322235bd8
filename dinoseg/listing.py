"""Lists of names in messages: the first few, and how many more there are."""

from collections.abc import Iterable


def list_names(names: Iterable[str], most: int = 5) -> str:
    """``a, b, c and 4 more``; all of them when they are no more than ``most``."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
