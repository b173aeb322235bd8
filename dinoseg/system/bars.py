"""Progress over images: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dinoseg.system.messages import duration_in_words

_SECONDS_TO_FIRST_LINE = 5.0
_MOST_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def image_progress(console: Console, total: int, title: str, unit: str = "images") -> Iterator[Callable[[], None]]:
    """Shows what is done, the pace and the time left; yields what to call after each of ``unit``.

    On a terminal this is a bar that goes when it is done; elsewhere a line after a few seconds, and in the end each
    half minute.
    """
    if not console.is_terminal:
        yield ProgressLines(
            lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True), total, title, unit
        ).advance
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance() -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.1f} {unit}/s" if speed else "")

        yield advance


class ProgressLines:
    """What a log shows of a job that takes longer than a few seconds.

    Args:
        write: takes a line.
        total: how many of ``unit`` there are.
        started: when the first was begun, by ``time.monotonic``; now when left out.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        total: int,
        title: str,
        unit: str = "images",
        started: float | None = None,
    ) -> None:
        self._write, self._total, self._title, self._unit = write, total, title, unit
        self._started = time.monotonic() if started is None else started
        self._due = self._started + _SECONDS_TO_FIRST_LINE
        self.done = 0

    def advance(self) -> None:
        """To be called after each."""
        self.done += 1
        now = time.monotonic()
        if now >= self._due:
            # The first lines come sooner: their pace is of few.
            self._due = now + min(_MOST_SECONDS_BETWEEN_LINES, now - self._started)
            pace = self.done / (now - self._started)
            left = duration_in_words((self._total - self.done) / pace)
            self._write(f"{self._title} {self.done}/{self._total}  {pace:.1f} {self._unit}/s  {left} left")
