"""Time left by hand on a clock of our own: steps, evaluations to come, and the plan's estimate set right."""

import io
import re
from pathlib import Path

import pytest
from helpers.tiny import tiny_settings, write_tiny_dataset
from rich.console import Console

from dinoseg.config.loading import load_config
from dinoseg.training import pace as pace_module
from dinoseg.training import plan
from dinoseg.training.pace import Estimate, Pace, evaluations_left
from dinoseg.verbs.train import train


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(pace_module.time, "monotonic", lambda: self.now)

    def steps(self, pace: Pace, steps: range, seconds: float) -> list[str]:
        said = []
        for step in steps:
            self.now += seconds
            pace.step_done(step)
            said.append(pace.correction(step))
        return [line for line in said if line]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("step", "evaluated", "left"),
    [(0, None, 3), (3, None, 3), (4, None, 3), (4, 4, 2), (9, 8, 1), (10, 8, 1), (10, 10, 0)],
)
def test_evaluations_left_of_ten_steps_with_one_every_four(step: int, evaluated: int | None, left: int) -> None:
    assert evaluations_left(step, evaluated, 10, 4) == left
    assert evaluations_left(0, None, 0, 1) == 1  # nothing is trained, and evaluated once


def test_time_left_holds_steps_and_evaluations(clock: Clock) -> None:
    pace = Pace(Estimate(2.0, 30.0, 100, 2), 0, 100, 50)
    assert pace.seconds_left(0) is None
    clock.steps(pace, range(1, 2), 60.0)
    assert pace.seconds_left(1) is None  # the first step is no measure
    clock.steps(pace, range(2, 12), 4.0)
    # Steps take twice what was estimated, so evaluations are taken to.
    assert pace.seconds_left(11) == pytest.approx(89 * 4.0 + 2 * 60.0)
    clock.steps(pace, range(12, 51), 4.0)
    clock.now += 100.0
    pace.evaluation_done(50)
    assert pace.seconds_left(50) == pytest.approx(50 * 4.0 + 100.0)
    # A checkpoint of 20 s is written before the next step ends: the evaluation's, not the step's.
    clock.steps(pace, range(51, 52), 24.0)
    assert pace.seconds_left(51) == pytest.approx(49 * 4.0 + 120.0)
    clock.steps(pace, range(52, 101), 4.0)
    assert pace.seconds_left(100) is None


def test_a_wrong_estimate_is_set_right_once_by_the_steps_and_once_by_the_evaluation(clock: Clock) -> None:
    pace = Pace(Estimate(2.0, 50.0, 100, 2), 0, 100, 50)
    # 300 s said; 5 s a step make 500 s, and evaluations of 125 s.
    assert clock.steps(pace, range(1, 51), 5.0) == ["at the pace of the first 10 steps: about 12 min in all, not 5 min"]
    clock.now += 600.0
    pace.evaluation_done(50)
    assert clock.steps(pace, range(51, 101), 5.0) == ["as the first evaluation took: about 28 min in all, not 12 min"]


@pytest.mark.parametrize(("seconds", "steps"), [(2.2, 100), (0.05, 100), (9.0, 10)])
def test_an_estimate_that_is_near_a_short_or_a_finished_training_is_left_alone(
    clock: Clock, seconds: float, steps: int
) -> None:
    estimate = 2.0 if seconds > 0.1 else 0.02
    pace = Pace(Estimate(estimate, 0.0, steps, 1), 0, steps, steps)
    assert clock.steps(pace, range(1, steps + 1), seconds) == []


def test_a_resumed_training_counts_from_where_it_goes_on(clock: Clock) -> None:
    pace = Pace(Estimate(2.0, 10.0, 50, 1), 50, 100, 100)
    said = clock.steps(pace, range(51, 71), 6.0)
    assert said == ["at the pace of the first 10 steps: about 6 min in all, not 110 s"]
    assert pace.seconds_left(70) == pytest.approx(30 * 6.0 + 30.0)


@pytest.mark.filterwarnings("ignore:.*random initialisation")
def test_a_redirected_training_logs_time_left_and_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 3})
    monkeypatch.setattr("dinoseg.system.bars._SECONDS_TO_FIRST_LINE", 0.0)
    monkeypatch.setattr(pace_module, "_TOLERATED_SECONDS", 0.0)
    # A plan that is off by far.
    monkeypatch.setattr(plan, "_probe", lambda trainer, training: (1.0, 600.0))
    settings = ["scheduler.total_iter=14", "eval.eval_interval=14", "trackers=[]"]
    out = io.StringIO()
    run = train(load_config(tiny_settings(data, tmp_path / "run", *settings)), Console(file=out, width=80))
    for text in (out.getvalue(), run.log.read_text(encoding="utf-8")):
        lines = text.splitlines()
        assert [line for line in lines if line.startswith("time         about 2.3 h, measured again")]
        steps = [line for line in lines if re.search(r" step \d+/14  loss ", line)]
        assert len(steps) == 14
        assert all(re.search(r"images/s  \d+ s left$", line) for line in steps[1:-1])
        assert [line for line in lines if re.match(r"at the pace of the first 10 steps: about \d+ s in all, not", line)]
        assert [line for line in lines if re.search(r" validation 1/3  [\d.]+ images/s  \d+ s left$", line)]
