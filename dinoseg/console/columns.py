"""Columns of tables on a console that is too narrow for them: names fold, figures stay whole."""

from rich.table import Table


def add_names(table: Table, heading: str) -> None:
    """A column of names, which gives way: at spaces, and within a word that is wider than the column."""
    table.add_column(heading, overflow="fold")


def add_figures(table: Table, *headings: str, least: int | None = None) -> None:
    """Columns of figures.

    Args:
        headings: as narrow as what stands below them: a line break between words.
        least: width, in letters.
    """
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True, min_width=least)
