"""The report of a check as text for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dinoseg.check.check import CheckReport
from dinoseg.check.file_findings import Finding, plural
from dinoseg.check.split_summary import IGNORED, LabelRow, SplitSummary, label_rows
from dinoseg.check.zero_decision import Decision
from dinoseg.labels.settings import show_label

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MOST_FILES = 3
# Lines for label ids that no class names: beside a label space, and where there is none.
_MOST_OTHERS = 6
_MOST_UNDECLARED = 24


def render_report(report: CheckReport) -> Group:
    """Splits, label table, decision tree, findings and the verdict."""
    parts: list[RenderableType] = [_split_table(report.splits)] if report.splits else []
    if any(summary.label_pixels for summary in report.splits):
        parts += ["", _label_table(report)]
    if report.decision:
        parts += ["", Text("\n".join(decision_lines(report.decision, report)))]
    return Group(*parts, "", render_findings(report))


def render_findings(report: CheckReport) -> Group:
    """Every finding with its advice and first files, and the verdict in the last line."""
    parts: list[RenderableType] = [part for finding in report.findings for part in _finding(finding)]
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = sum(finding.severity == "warning" for finding in report.findings)
    if errors:
        verdict = f"[bold red]{plural(errors, 'error')}[/], {plural(warnings, 'warning')}: training would be wrong"
    else:
        verdict = f"[bold green]fit for training[/], {plural(warnings, 'warning')}"
    return Group(*parts, Text.from_markup(verdict))


def decision_lines(decision: Decision, report: CheckReport) -> list[str]:
    """The decision tree, with this data set's numbers and a mark at the branch the config takes."""
    here = "  <- this config"
    yes = here if decision.zero_is_class else ""
    no = here if decision.zero_is_class is False else ""
    if report.label_space and decision.zero_is_class is False and not report.label_space.reduce_zero_label:
        no = "  <- this config, by datasets.ignore"
    what = f' ("{decision.zero_name}")' if decision.zero_name else ""
    found = f"label id 0{what} covers {100 * decision.zero_share:.1f} % of the pixels, in {decision.zero_masks} of "
    return [
        "Is label id 0 a real class you want to segment?",
        f"│  here: {found}{plural(decision.masks, 'mask')}",
        f"├─ YES ──→ reduce_zero_label=false, num_classes={decision.with_zero}{yes}",
        f"└─ NO  ──→ reduce_zero_label=true,  num_classes={decision.without_zero}{no}",
    ]


def _split_table(splits: Sequence[SplitSummary]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("split")
    table.add_column("pairs", justify="right")
    for name in ("image sizes (w x h)", "image modes", "mask modes"):
        table.add_column(name)
    for summary in splits:
        parts = (summary.image_sizes, summary.image_modes, summary.mask_modes)
        table.add_row(summary.name, str(summary.pairs), *(_tally(part) for part in parts))
    return table


def _tally(counts: dict[str, int], most: int = 3) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    listed = ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:most])
    return f"{listed} and {len(counts) - most} more" if len(counts) > most else listed


def _label_table(report: CheckReport) -> Table:
    summaries = [summary for summary in report.splits if summary.label_pixels]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label id", justify="right")
    table.add_column("class index", justify="right")
    table.add_column("name")
    for summary in summaries:
        table.add_column(f"{summary.name} pixels", justify="right")
        table.add_column("masks", justify="right")
    rows = {
        summary.name: {row.label_id: row for row in label_rows(summary, report.label_space)} for summary in summaries
    }
    for label, label_ids in _lines(report, [row for by_id in rows.values() for row in by_id.values()]):
        found = {name: [by_id[i] for i in label_ids if i in by_id] for name, by_id in rows.items()}
        first = next(parts[0] for parts in found.values() if parts)
        cells = [label, "-" if first.class_index is None else str(first.class_index), escape(first.name)]
        for summary in summaries:
            cells += _presence(found[summary.name], summary, len(label_ids) > 1)
        table.add_row(*cells)
    return table


def _lines(report: CheckReport, rows: Sequence[LabelRow]) -> list[tuple[str, list[int]]]:
    """Label ids of every line: one for each that is declared, the others summed up where they are many."""
    space = report.label_space
    declared = {i for entry in space.classes for i in entry.label_ids} | set(space.ignored_ids) if space else set()
    ordered = {row.label_id: row for row in sorted(rows, key=_order)}
    lines = [(show_label(label_id, report.kind), [label_id]) for label_id in ordered if label_id in declared]
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


def _finding(finding: Finding) -> list[RenderableType]:
    style = _STYLES[finding.severity]
    parts: list[RenderableType] = [Text.from_markup(f"[{style}]{finding.severity}[/] {escape(finding.message)}")]
    if finding.advice:
        parts.append(Padding(Text(f"→ {finding.advice}"), (0, 0, 0, 4)))
    if finding.files:
        listed = "\n".join(finding.files[:_MOST_FILES])
        more = len(finding.files) - _MOST_FILES
        parts.append(Padding(Text(listed + (f"\nand {more} more" if more > 0 else ""), style="dim"), (0, 0, 0, 4)))
    return parts
