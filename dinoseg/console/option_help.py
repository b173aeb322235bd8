"""Options in words: for ``--help``, ``dinoseg options`` and docs/options.md, all from their declarations."""

import textwrap
from collections.abc import Iterable

from dinoseg.config import all_keys
from dinoseg.config.likely_keys import likely_keys
from dinoseg.config.option import Key

_INDENT = "      "
_WIDTH = 80
# What the sections are about, in the order of the schema; keys without a section come first.
_TITLES = {
    "": "The run",
    "model": "Backbone",
    "lora": "Low-rank adapters (model.mode=lora)",
    "datasets": "Data and labels",
    "decoder_head": "Head",
    "scheduler": "Length and schedule",
    "optimizer": "Optimiser",
    "transforms": "Images before the model",
    "train": "Training",
    "m2f_train": "Loss of the m2f, pmt and eomt heads",
    "eval": "Evaluation and prediction",
}


def help_of_verb(verb: str, whole: bool) -> str:
    """The keys a verb uses, as lines that are never cut.

    Args:
        verb: e.g. ``train``.
        whole: every key, by section; otherwise those that people change first.
    """
    used = [entry for entry in all_keys() if entry.is_used_by(verb)]
    few = [entry for entry in used if entry.option.first]
    if whole or len(few) == len(used):
        return _sections(used)
    lines = ["Keys that people change first:", "", *(_entry(entry) for entry in few)]
    more = f"All {len(used)} keys: dinoseg {verb} --help-all. Find one: dinoseg options WORD."
    return "\n".join([*lines, "", more])


def find_options(word: str | None) -> str:
    """Every key, or those whose name or sentence holds ``word``.

    Raises:
        ValueError: none does; names near ones.
    """
    if word is None:
        return _sections(all_keys())
    found = [entry for entry in all_keys() if word.lower() in f"{entry.key} {entry.option.help}".lower()]
    if not found:
        likely = likely_keys(word)
        hint = f"did you mean {', '.join(likely)}?" if likely else "`dinoseg options` lists all of them"
        raise ValueError(f"no option has {word!r} in its name or sentence; {hint}")
    return _sections(found)


def options_markdown() -> str:
    """docs/options.md."""
    lines = [
        "# Options",
        "",
        "Every key of a config file and of `key=value` on the command line. `dinoseg options WORD` finds one. When a",
        "training goes on (`--resume`), a key marked *free* may change; the others may not.",
        "",
        "This page is made from the declarations in `dinoseg/config/*_options.py` by `dinoseg options --markdown`.",
    ]
    for section, entries in _by_section(all_keys()).items():
        lines += ["", f"## {_TITLES[section]}", "", "| key | default | values | meaning | at resume |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [_row(entry) for entry in entries]
    return "\n".join(lines) + "\n"


def _sections(entries: Iterable[Key]) -> str:
    parts = []
    for section, keys in _by_section(entries).items():
        parts.append("\n".join([_TITLES[section], "", *(_entry(entry) for entry in keys)]))
    return "\n\n".join(parts)


def _by_section(entries: Iterable[Key]) -> dict[str, list[Key]]:
    groups: dict[str, list[Key]] = {}
    for entry in entries:
        groups.setdefault(entry.key.partition(".")[0] if "." in entry.key else "", []).append(entry)
    return groups


def _entry(entry: Key) -> str:
    """``key=default`` as one would type it, and below it the meaning and the values it takes."""
    text = textwrap.fill(
        f"{entry.option.help} [{_values(entry)}]",
        _WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"  {entry.key}={entry.shown_default}\n{text}"


def _values(entry: Key) -> str:
    """Type, range and unit in words."""
    stated = entry.option
    if stated.choices:
        return ("any of " if isinstance(entry.default, list) else "") + stated.range
    if stated.size:
        return entry.type
    words = f"{entry.type}, {stated.range}" if stated.range else entry.type
    return f"{words}; {stated.unit}" if stated.unit else words


def _row(entry: Key) -> str:
    resume = {"free": "free", "fixed": "", "decides best": "decides `best`"}[entry.option.resume]
    cells = [f"`{entry.key}`", f"`{entry.shown_default}`", _values(entry), entry.option.help, resume]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
