"""The folds of a cross-validation: how many images each holds, and how many masks with each label id."""

from rich.markup import escape
from rich.table import Table

from dinoseg.check.check import CheckReport
from dinoseg.check.split_summary import label_rows
from dinoseg.console.columns import add_figures, add_names
from dinoseg.labels.settings import show_label

# More label ids than this, and the rarest are shown: those are what a fold may lack.
_MOST_LINES = 40


def fold_table(report: CheckReport) -> Table:
    """One column a fold; one line a class, or a label id where there are no classes yet."""
    rows = [{row.label_id: row for row in label_rows(fold, report.label_space)} for fold in report.folds]
    every = {label_id: row for by_id in rows for label_id, row in by_id.items()}
    counted = [row for row in every.values() if row.class_index is not None or report.label_space is None]
    masks = {row.label_id: [by_id[i].masks if (i := row.label_id) in by_id else 0 for by_id in rows] for row in counted}
    shown = sorted(counted, key=lambda row: (sum(masks[row.label_id]), row.label_id))[:_MOST_LINES]
    more = len(counted) - len(shown)
    caption = f"the rarest {len(shown)} of {len(counted)}" if more else None
    table = Table(box=None, pad_edge=False, header_style="bold", caption=caption, caption_justify="left")
    add_names(table, "fold")
    add_figures(table, *map(str, range(len(rows))))
    table.add_row("pairs", *(fold.pairs_in_words or str(fold.pairs) for fold in report.folds))
    # In the order of the label table.
    for row in sorted(shown, key=lambda row: (row.class_index or 0, row.label_id)):
        name = row.name or show_label(row.label_id, report.kind)
        table.add_row(f"masks with {escape(name)}", *(str(count) for count in masks[row.label_id]))
    return table
