"""Progress over images where there is no terminal, and where there is one."""

import io

import pytest
from rich.console import Console

from dinoseg.system import bars


def _ticking(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    clock = iter(range(0, 100_000, seconds))
    monkeypatch.setattr(bars.time, "monotonic", lambda: float(next(clock)))


def test_a_log_gets_a_line_soon_and_in_the_end_each_half_minute_with_pace_and_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _ticking(monkeypatch, 10)
    out = io.StringIO()
    with bars.image_progress(Console(file=out, width=200), 10, "evaluating test") as advance:
        for _ in range(10):
            advance()
    assert out.getvalue().splitlines() == [
        "evaluating test 1/10  0.1 images/s  90 s left",
        "evaluating test 2/10  0.1 images/s  80 s left",
        "evaluating test 4/10  0.1 images/s  60 s left",
        "evaluating test 7/10  0.1 images/s  30 s left",
        "evaluating test 10/10  0.1 images/s  0 s left",
    ]


def test_other_things_than_images_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _ticking(monkeypatch, 6)
    out = io.StringIO()
    with bars.image_progress(Console(file=out, width=200), 3, "scan [all]", "pairs") as advance:
        advance()
    assert out.getvalue() == "scan [all] 1/3  0.2 pairs/s  12 s left\n"


def test_a_short_job_leaves_the_log_alone() -> None:
    out = io.StringIO()
    with bars.image_progress(Console(file=out), 3, "predicting") as advance:
        for _ in range(3):
            advance()
    assert out.getvalue() == ""


def test_a_terminal_has_a_bar_with_the_pace_that_goes_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    with bars.image_progress(console, 4, "scan", "pairs") as advance:
        advance()
        advance()
        advance()
    assert "scan" in out.getvalue() and "3/4" in out.getvalue() and "pairs/s" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")
