"""``dinoseg import``: annotations of other tools as a data set, and what is said of it."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dinoseg.console.columns import add_figures, add_names
from dinoseg.importing.data_set import CLASSES_FILE, REPORT_FILE, refuse_used, write_data_set
from dinoseg.importing.formats import ImportOrder, read_source
from dinoseg.importing.mask import Overlap
from dinoseg.importing.report import ImportReport
from dinoseg.system.bars import image_progress
from dinoseg.system.messages import list_names, plural, printable, shell_word


def import_annotations(order: ImportOrder, out: Path, overlap: Overlap, console: Console) -> ImportReport:
    """Reads annotations, writes the data set, and prints what became of them and what comes next.

    Raises:
        ValueError: ``out`` is used, or the annotations are damaged or say what would have to be guessed.
    """
    refuse_used(out)
    source = read_source(order)
    with image_progress(console, len(source.pictures), "masks of") as advance:
        report = write_data_set(source, out, overlap, advance)
    _show(report, out, console)
    return report


def _show(report: ImportReport, out: Path, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    splits = ", ".join(f"{split} {count:,}" for split, count in report.splits.items() if split)
    links = ", ".join(f"{way} {count:,}" for way, count in report.links.items())
    total = report.splits.total()
    said = f"{out}: {plural(total, 'picture')} with masks from {report.source.format}"
    say(f"{said}{f' ({splits})' if splits else ''}; pictures by {links}")
    console.print(_class_table(report))
    say(f"{report.source.classes.rule}")
    for remark in report.remarks:
        say(remark)
    if report.ignored_pixels:
        say(f"{report.ignored_pixels:,} pixels have the label id 255, which datasets.ignore has by default")
    for line in _dropped_lines(report):
        say(line)
    if report.dropped:
        say(f"all that was dropped: {out / REPORT_FILE}")
    root, classes = (shell_word(path) for path in (out, out / CLASSES_FILE))
    say(f"next: dinoseg check datasets.root={root} datasets.classes={classes}")


def _class_table(report: ImportReport) -> Table:
    table = Table(box=None, pad_edge=False)
    add_figures(table, "id")
    add_names(table, "class")
    add_figures(table, "shapes", "pixels", "share")
    total = report.pixels.total()
    for entry in report.source.classes.classes:
        shapes, pixels = report.shapes[entry.label_id], report.pixels[entry.label_id]
        name = Text(printable(entry.name))
        table.add_row(str(entry.label_id), name, f"{shapes:,}", f"{pixels:,}", f"{100 * pixels / total:.2f} %")
    return table


def _dropped_lines(report: ImportReport) -> list[str]:
    """One line a reason, with the first places."""
    reasons = Counter(entry.reason for entry in report.dropped)
    lines = []
    for reason, count in reasons.most_common():
        places = list_names((printable(entry.where) for entry in report.dropped if entry.reason == reason), 3)
        lines.append(f"dropped {count:,}: {printable(reason)} ({places})")
    return lines
