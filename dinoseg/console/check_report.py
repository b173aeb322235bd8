"""The report of a check as text for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dinoseg.check.check import CheckReport
from dinoseg.check.file_findings import Finding
from dinoseg.check.split_summary import SplitSummary
from dinoseg.check.zero_decision import Decision
from dinoseg.console.band_table import band_table
from dinoseg.console.fold_table import fold_table
from dinoseg.console.label_table import label_id_table
from dinoseg.system.messages import plural, valid_text

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MOST_FILES = 3


def render_report(report: CheckReport) -> Group:
    """Splits, label table, decision tree, findings and the verdict."""
    parts: list[RenderableType] = [_split_table(report.splits)] if report.splits else []
    if any(summary.label_pixels for summary in report.splits):
        parts += ["", label_id_table(report)]
    if report.folds:
        parts += ["", fold_table(report)]
    if report.measured.profiles:
        parts += ["", band_table(report.measured)]
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
        table.add_row(summary.name, summary.pairs_in_words or str(summary.pairs), *(_tally(part) for part in parts))
    return table


def _tally(counts: dict[str, int], most: int = 3) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    listed = ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:most])
    return f"{listed} and {len(counts) - most} more" if len(counts) > most else listed


def _finding(finding: Finding) -> list[RenderableType]:
    style = _STYLES[finding.severity]
    parts: list[RenderableType] = [
        Text.from_markup(f"[{style}]{finding.severity}[/] {escape(valid_text(finding.message))}")
    ]
    if finding.advice:
        parts.append(Padding(Text(f"→ {valid_text(finding.advice)}"), (0, 0, 0, 4)))
    if finding.files:
        listed = "\n".join(finding.files[:_MOST_FILES])
        more = len(finding.files) - _MOST_FILES
        parts.append(Padding(Text(listed + (f"\nand {more} more" if more > 0 else ""), style="dim"), (0, 0, 0, 4)))
    return parts
