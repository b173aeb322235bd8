"""What is to be said of data that does not lie in the root itself."""

from dinoseg.check.file_findings import Finding
from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import data_root, layout_of
from dinoseg.system.messages import printable


def wrapper_findings(datasets: DatasetsConfig) -> list[Finding]:
    """Where the data was looked for, if that is not the root itself."""
    try:
        base = layout_of(datasets).base
    except ValueError:
        return []  # found again, and said, where the splits are listed
    if base is None or base == data_root(datasets):
        return []
    message = f"the data lies in {printable(base)}, the one folder below datasets.root"
    return [Finding("note", "wrapped", message, "nothing to do; datasets.root may name it")]
