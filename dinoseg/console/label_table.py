"""The label table: label id, class index, name, and how much of the data each is."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from dinoseg.check.check import CheckReport
from dinoseg.check.split_summary import IGNORED, LabelRow, SplitSummary, label_rows
from dinoseg.console.columns import add_figures, add_names
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import show_label, show_labels

# Lines for label ids that no class names: beside a label space, and where there is none.
_MOST_OTHERS = 6
_MOST_UNDECLARED = 24
# Lines for declared label ids; with more than this only the first of them are shown.
_MOST_LINES = 200
_SHOWN_OF_MANY = 60


def class_table(space: LabelSpace, train_pixels: Sequence[int]) -> Table:
    """One line a class, with its share of the training pixels (given by class index); the ignored ids below."""
    ignored = show_labels(space.ignored_ids, space.kind) or "none"
    table = Table(title="labels", caption=f"ignored: {ignored}", title_justify="left", caption_justify="left")
    _with_columns(table, ["train\npixels"])
    everything = max(1, sum(train_pixels))
    shown = _SHOWN_OF_MANY if space.num_classes > _MOST_LINES else space.num_classes
    for index, entry in enumerate(space.classes[:shown]):
        share = f"{100 * train_pixels[index] / everything:.2f} %"
        _add_line(table, show_labels(entry.label_ids, space.kind), index, entry.name, [share])
    if shown < space.num_classes:
        rest = f"{100 * sum(train_pixels[shown:]) / everything:.2f} %"
        _add_line(table, f"{space.num_classes - shown} more", None, "...", [rest])
    return table


def label_id_table(report: CheckReport) -> Table:
    """One line a label id, class or not, with its share in every split; ids that nothing names are summed up."""
    summaries = [summary for summary in report.splits if summary.label_pixels]
    shares = [heading for summary in summaries for heading in (f"{summary.name}\npixels", "masks")]
    # Three splits want room for names on 80 columns.
    gap = 1 if len(summaries) > 2 else 2
    table = _with_columns(Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0)), shares)
    rows = {
        summary.name: {row.label_id: row for row in label_rows(summary, report.label_space)} for summary in summaries
    }
    for label, label_ids in _lines(report, [row for by_id in rows.values() for row in by_id.values()]):
        found = {name: [by_id[i] for i in label_ids if i in by_id] for name, by_id in rows.items()}
        first = next(parts[0] for parts in found.values() if parts)
        folded = label.endswith(" more")
        presence = [_presence(found[summary.name], summary, len(label_ids) > 1) for summary in summaries]
        index, name = (None, "...") if folded else (first.class_index, first.name)
        _add_line(table, label, index, name, [cell for cells in presence for cell in cells])
    return table


def _with_columns(table: Table, shares: Sequence[str]) -> Table:
    # Several label ids may be one class.
    table.add_column("label\nid", justify="right", overflow="fold")
    add_figures(table, "class\nindex")
    add_names(table, "name")
    add_figures(table, *shares)
    return table


def _add_line(table: Table, label: str, class_index: int | None, name: str, shares: Sequence[str]) -> None:
    table.add_row(label, "-" if class_index is None else str(class_index), escape(name), *shares)


def _lines(report: CheckReport, rows: Sequence[LabelRow]) -> list[tuple[str, list[int]]]:
    """Label ids of every line: one for each that is declared, the others summed up where they are many."""
    space = report.label_space
    declared = {i for entry in space.classes for i in entry.label_ids} | set(space.ignored_ids) if space else set()
    ordered = {row.label_id: row for row in sorted(rows, key=_order)}
    lines = [(show_label(label_id, report.kind), [label_id]) for label_id in ordered if label_id in declared]
    if len(lines) > _MOST_LINES:
        rest = [label_id for _, ids in lines[_SHOWN_OF_MANY:] for label_id in ids]
        lines = [*lines[:_SHOWN_OF_MANY], (f"{len(rest)} more", rest)]
    others: dict[tuple[int | None, str], list[int]] = {}
    for label_id, row in ordered.items():
        if label_id not in declared:
            others.setdefault((row.class_index, row.name), []).append(label_id)
    most = _MOST_OTHERS if space else _MOST_UNDECLARED
    for (class_index, _), label_ids in others.items():
        shown = label_ids if len(label_ids) <= most else [] if class_index is not None else label_ids[:most]
        lines += [(show_label(label_id, report.kind), [label_id]) for label_id in shown]
        if len(label_ids) > len(shown):
            lines.append((f"{len(label_ids) - len(shown)} others", label_ids[len(shown) :]))
    return lines


def _order(row: LabelRow) -> tuple[int, int, int]:
    rank = 0 if row.class_index is not None else 1 if row.name == IGNORED else 2
    return rank, row.class_index or 0, row.label_id


def _presence(rows: Sequence[LabelRow], summary: SplitSummary, several: bool) -> list[str]:
    share = 100 * sum(row.share for row in rows)
    if not share:
        return ["[yellow]none[/]", "" if several else f"0/{summary.masks}"]
    # How many masks hold any of several ids is not known.
    masks = "" if several else f"{rows[0].masks}/{summary.masks}"
    return [f"{share:.2f} %" if share >= 0.005 else "<0.01 %", masks]
