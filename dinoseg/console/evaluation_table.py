"""Tables for the terminal."""

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from dinoseg.console.columns import add_figures, add_names
from dinoseg.console.policy_words import (
    ABSENT_CLASSES,
    constant_in_words,
    images_in_words,
    never_predicted_in_words,
    out_of_fold_in_words,
    percent,
)

# Columns beside IoU, by the names of evaluation/metrics.py; and those that are there when they were measured.
_COLUMNS = ("Dice", "precision", "recall")
_OPTIONAL = ("BoundaryIoU", "clDice")
_HEADINGS = {"BoundaryIoU": "boundary\nIoU"}
# Where all of them are there.
_NARROW = {"precision": "preci-\nsion", "BoundaryIoU": "bound.\nIoU"}


def evaluation_table(contents: dict[str, Any], title: str) -> Table:
    """The per-class table of an evaluation (contents of metrics.json); null reads ``n/a``, and a caption says why."""
    rows, confidence = contents["per_class"], contents["confidence"]
    more = [name for name in _OPTIONAL if name in rows[0]]
    intervals = any(row["IoU_interval"] for row in rows)
    # Narrow enough for 80 columns with every optional one.
    table = Table(title=title, caption=escape(_caption(contents)), box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.title_justify = table.caption_justify = "left"
    add_figures(table, "label\nid", least=5)
    add_names(table, "name")
    add_figures(table, "IoU", least=6)
    if intervals:
        add_figures(table, f"{confidence['coverage']} %", least=9)
    headings = _HEADINGS | (_NARROW if len(more) == len(_OPTIONAL) else {})
    add_figures(table, *(headings.get(name, name) for name in (*_COLUMNS, *more, "pixels")), least=6)
    for row in rows:
        figures = [percent(row["IoU"])] + ([_interval(row["IoU_interval"], "-", 1)] if intervals else [])
        figures += [percent(row[name]) for name in (*_COLUMNS, *more)]
        table.add_row(str(row["label_id"]), escape(row["name"]), *figures, _pixels(row["truth"]))
    return table


def _caption(contents: dict[str, Any]) -> str:
    policy, interval = contents["policy"], contents["confidence"]["mIoU"]
    absent = policy["absent_classes"]
    doubt = f", {contents['confidence']['coverage']} % interval {_interval(interval, ' to ')}" if interval else ""
    lines = [f"mIoU {percent(contents['mIoU'])} ({absent}{doubt})"]
    names = ("mAcc", "aAcc", "mDice", "mBoundaryIoU", "mclDice")
    lines.append("  ".join(f"{name} {percent(contents[name])}" for name in names if name in contents))
    if found := contents.get("calibration"):
        lines.append(_probabilities(found))
    if contents.get("constant"):
        lines.append(constant_in_words(contents))
    lines += never_predicted_in_words(contents)
    others = {name: value for name, value in contents["mIoU_by_policy"].items() if value != contents["mIoU"]}
    if others:
        lines.append(f"other policies: mIoU {', '.join(f'{percent(v)} ({name})' for name, v in others.items())}")
    lines += [f"{images_in_words(policy)} Native size.", *out_of_fold_in_words(policy)]
    if any(row["IoU"] is None for row in contents["per_class"]):
        lines.append(f"n/a: {ABSENT_CLASSES[absent]}")
    return "\n".join(lines)


def _probabilities(found: dict[str, Any]) -> str:
    """Calibration error and log-likelihood, and what they were without a temperature."""
    before = found["uncalibrated"]
    nll = "n/a" if found["NLL"] is None else f"{found['NLL']:.4f}"
    line = f"ECE {percent(found['ECE'])} %  NLL {nll}"
    if before is None or before["NLL"] is None:
        return f"{line} (not calibrated)" if before is None else line
    return f"{line} (uncalibrated {percent(before['ECE'])} %, {before['NLL']:.4f})"


def _pixels(count: int) -> str:
    """At most seven characters; the exact number is in per_class.csv."""
    if count < 1_000_000:
        return f"{count:,}"
    return f"{count / 1e6:.2f} M" if count < 10**8 else f"{count / 1e6:,.0f} M"


def _interval(value: list[float] | None, between: str, digits: int = 2) -> str:
    return "n/a" if value is None else f"{value[0]:.{digits}f}{between}{value[1]:.{digits}f}"
