"""What was measured of each band, as a table."""

from rich.table import Table

from dinoseg.check.measured_form import MeasuredForm

_COLUMNS = ("mean", "std", "min", "p1", "p99", "max")


def band_table(measured: MeasuredForm) -> Table:
    """One line a band, in the units of the files."""
    table = Table(title="bands, over all splits", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("band", justify="right")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in measured.table():
        table.add_row(str(row["band"]), *(f"{row[column]:.5g}" for column in _COLUMNS))
    return table
