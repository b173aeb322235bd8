"""Progress over images where there is no terminal."""

import io

import pytest
from rich.console import Console

from dinoseg.console import bars


def test_a_log_gets_a_line_each_half_minute_with_pace_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(bars.time, "monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    with bars.image_progress(Console(file=out, width=200), 10, "evaluating test") as advance:
        for _ in range(10):
            advance()
    assert out.getvalue().splitlines() == [
        "evaluating test 3/10  0.1 images/s  70 s left",
        "evaluating test 6/10  0.1 images/s  40 s left",
        "evaluating test 9/10  0.1 images/s  10 s left",
    ]


def test_a_short_job_leaves_the_log_alone() -> None:
    out = io.StringIO()
    with bars.image_progress(Console(file=out), 3, "predicting") as advance:
        for _ in range(3):
            advance()
    assert out.getvalue() == ""
