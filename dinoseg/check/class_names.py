"""Class names that nobody gave: those that lie beside the masks, or belong to their format."""

from dinoseg.check.file_findings import Finding
from dinoseg.config import DatasetsConfig
from dinoseg.config.class_files import preset_names, read_classes
from dinoseg.data.folders import layout_of


def named_by_layout(datasets: DatasetsConfig, findings: list[Finding]) -> DatasetsConfig:
    """The settings with such names, where none are given; what was done, or failed, is a finding more."""
    if datasets.classes is not None or datasets.reduce_zero_label is not None:
        return datasets
    try:
        source = layout_of(datasets).classes
    except ValueError:
        # Found again, and said, where the splits are listed.
        source = ""
    if not source:
        return datasets
    try:
        named = read_classes(source)
    except ValueError as error:
        findings.append(Finding("warning", "class_file", f"class names not taken: {error}", "give datasets.classes"))
        return datasets
    known = f"the format ({source})" if source in preset_names() else source
    message = f"{len(named.classes)} class names taken from {known}"
    findings.append(Finding("note", "class_file", message, "datasets.classes={...} gives others"))
    ignore = named.ignore if datasets.ignore is None else datasets.ignore
    return datasets.model_copy(update={"classes": named.classes, "ignore": ignore})
