"""Tables for the terminal."""

from typing import Any

from rich.markup import escape
from rich.table import Table


def evaluation_table(contents: dict[str, Any], title: str) -> Table:
    """The per-class table of an evaluation (contents of metrics.json); null reads ``n/a``, and a caption says why."""
    columns = ("IoU", "Dice", "precision", "recall")
    absent = any(row["IoU"] is None for row in contents["per_class"])
    caption = f"mIoU {_percent(contents['mIoU'])}  mAcc {_percent(contents['mAcc'])}  aAcc {_percent(contents['aAcc'])}"
    caption += f"  mDice {_percent(contents['mDice'])}  ({contents['policy']['images']} images, native size)"
    if absent:
        caption += "\nn/a: no pixel of the class in truth or prediction; left out of the means"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("label id", justify="right")
    table.add_column("name")
    for column in (*columns, "pixels"):
        table.add_column(column, justify="right")
    for row in contents["per_class"]:
        figures = [_percent(row[column]) for column in columns]
        table.add_row(str(row["label_id"]), escape(row["name"]), *figures, f"{row['truth']:,}")
    return table


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
