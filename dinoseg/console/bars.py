"""Progress over images: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dinoseg.system.messages import duration_in_words

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def image_progress(console: Console, total: int, title: str) -> Iterator[Callable[[], None]]:
    """Shows images done, images/s and the time left; yields what to call after each image.

    On a terminal this is a bar that goes when it is done, elsewhere a line each half minute.
    """
    if not console.is_terminal:
        yield _lines(console, total, title)
        return
    columns = (
        TextColumn(title),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance() -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, rate=f"{speed:.1f} images/s" if speed else "")

        yield advance


def _lines(console: Console, total: int, title: str) -> Callable[[], None]:
    started = said = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal said, done
        done += 1
        now = time.monotonic()
        if now - said >= _SECONDS_BETWEEN_LINES:
            said = now
            pace = done / (now - started)
            left = duration_in_words((total - done) / pace)
            console.print(f"{title} {done}/{total}  {pace:.1f} images/s  {left} left", highlight=False, soft_wrap=True)

    return advance
