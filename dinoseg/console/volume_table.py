"""Figures of volumes for the terminal."""

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from dinoseg.console.columns import add_figures, add_names
from dinoseg.console.policy_words import percent
from dinoseg.system.messages import plural

_MOST_VOLUMES = 10


def volume_table(per_volume: dict[str, Any]) -> Table:
    """The volumes with the lowest mean Dice, and the means over all (``per_volume`` of metrics.json)."""
    ordered = sorted(per_volume["figures"], key=lambda row: 101.0 if row["mDice"] is None else row["mDice"])
    shown, count = ordered[:_MOST_VOLUMES], per_volume["volumes"]
    noun = plural(count, "volume")
    title = f"by volume: {noun}{f', the {len(shown)} with the lowest mDice' if len(shown) < count else ''}"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title_justify="left")
    add_names(table, "volume")
    add_figures(table, "slices", "mIoU", "mDice")
    for row in shown:
        table.add_row(escape(row["name"]), str(row["slices"]), percent(row["mIoU"]), percent(row["mDice"]))
    table.add_section()
    for row in per_volume["per_class"]:
        table.add_row(f"mean of {escape(row['name'])}", "", percent(row["IoU"]), percent(row["Dice"]))
    table.add_row("mean of classes", "", percent(per_volume["mIoU"]), percent(per_volume["mDice"]))
    return table
