"""Keys that a verb is given and does not use."""

import warnings
from collections.abc import Collection, Iterable

from dinoseg.config.loading import is_given
from dinoseg.config.schema import all_keys
from dinoseg.system.messages import list_names

# It says the same as ``--device``.
_OF_ALL = "device"


def note_unused_keys(settings: Iterable[str], verb: str, used: Collection[str] = ()) -> None:
    """Warns of the ``key=value`` settings that have no effect on a verb, such as ``optimizer.lr`` on ``predict``.

    Args:
        used: keys that have one this time.
    """
    without = [entry.key for entry in all_keys() if not entry.is_used_by(verb) and entry.key not in used]
    given = _given(settings, without)
    if given:
        warnings.warn(
            f"no effect on {verb}: {list_names(given)}; `dinoseg {verb} --help-all` lists the keys that it uses",
            stacklevel=3,
        )


def note_other_keys(settings: Iterable[str], used: Collection[str], work: str, why: str) -> None:
    """Warns of the ``key=value`` settings that have no effect on a work that uses these keys alone.

    Args:
        work: what it is called.
        why: the others have none, for the message.
    """
    given = _given(settings, [entry.key for entry in all_keys() if entry.key not in used])
    if given:
        warnings.warn(f"no effect on {work}: {list_names(given)}; {why}", stacklevel=3)


def _given(settings: Iterable[str], keys: Iterable[str]) -> list[str]:
    """The settings that are of one of these keys, other than those that every verb takes."""
    keys = {*keys} - {_OF_ALL}
    return [setting for setting in settings if any(is_given(key, [setting]) for key in keys)]
