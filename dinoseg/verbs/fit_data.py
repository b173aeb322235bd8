"""The check before a training: a data set that is not fit ends it."""

from dataclasses import dataclass

from rich.console import Console

from dinoseg.check.check import CheckReport, check_dataset, check_own_data
from dinoseg.check.file_findings import Finding
from dinoseg.config import Config
from dinoseg.console.check_report import render_findings
from dinoseg.data.items import OwnDataset
from dinoseg.labels import LabelSpace
from dinoseg.system.messages import list_names
from dinoseg.system.processes import process_rank


@dataclass(frozen=True)
class OwnData:
    """A user's own data sets, in place of the folders that ``datasets`` names."""

    train: OwnDataset
    val: OwnDataset


def checked_data(config: Config, console: Console, own_data: OwnData | None) -> tuple[LabelSpace, CheckReport]:
    """The label space of a data set that is fit for training, and the report of its check.

    Raises:
        ValueError: it is not fit.
    """
    num_classes, shown = config.decoder_head.num_classes, console if process_rank() == 0 else None
    if own_data is None:
        report = check_dataset(config.datasets, num_classes, console=shown)
    else:
        report = check_own_data({"train": own_data.train, "val": own_data.val}, config.datasets, num_classes, shown)
    refuse_unfit(report, console)
    assert report.label_space is not None
    return report.label_space, report


def refuse_unfit(report: CheckReport, console: Console) -> None:
    """Raises ValueError where a data set is not fit for training: its one error, or their number, all being listed."""
    if not report.ok or report.label_space is None:
        errors = [finding for finding in report.findings if finding.severity == "error"]
        if len(errors) == 1 or console.quiet:
            raise ValueError("\n".join(_in_words(error) for error in errors))
        if process_rank() == 0:
            console.print(render_findings(report))
        raise ValueError(f"the data set is not fit for training ({len(errors)} errors, listed above)")


def _in_words(finding: Finding) -> str:
    words = "; ".join(text for text in (finding.message, finding.advice) if text)
    named = [file for file in finding.files if file not in words]
    return f"{words} ({list_names(named)})" if named else words
