"""What a budget has room for, by hand; a training that the clock ends early, and goes on as if it had not."""

import io
import re
import time
from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_settings, write_tiny_dataset
from rich.console import Console

from dinoseg.config.loading import load_config
from dinoseg.run_folder.folder import RunFolder
from dinoseg.training.budget import CLOSING_SECONDS, MARGIN, Budget, Planned, evaluation_interval
from dinoseg.training.loop import Trainer
from dinoseg.training.setup import _far_from_plan
from dinoseg.verbs.train import Start, train

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")


def _budget(seconds: float, **changes: float) -> Budget:
    given = {"step_seconds": 0.5, "evaluation_seconds": 4.0, "evaluations": 3, "most_steps": 10_000}
    return Budget(seconds=seconds, started=time.monotonic(), **(given | changes))  # type: ignore[arg-type]


def test_room_is_what_is_left_less_evaluations_and_a_margin() -> None:
    assert _budget(100.0).room(26.0) == pytest.approx((100 - 26 - 12 - CLOSING_SECONDS) * (1 - MARGIN) / 0.5, abs=1)
    assert _budget(10.0).room() == 0
    assert _budget(100.0, most_steps=7).room() == 7
    # An evaluation every 10 steps: 0.4 s of it a step, and the one at the end.
    often = _budget(100.0, interval=10)
    assert often.room(26.0) == pytest.approx((100 - 26 - 4 - CLOSING_SECONDS) * (1 - MARGIN) / 0.9, abs=1)


def test_it_ends_while_there_is_time_for_the_evaluation() -> None:
    assert not _budget(60.0).has_ended(10, 5.0)
    assert _budget(6.0).has_ended(10, 5.0)
    # Steps that take three times as long: so will the evaluation.
    assert not _budget(12.0).has_ended(10, 5.0)
    assert _budget(12.0).has_ended(10, 15.0)
    # One step is done in any case.
    assert not _budget(0.0).has_ended(0, 0.0)


@pytest.mark.parametrize(("steps", "evaluations", "interval"), [(10, 3, 4), (9, 3, 3), (2, 3, 1), (1, 1, 1)])
def test_the_last_evaluation_is_at_the_end(steps: int, evaluations: int, interval: int) -> None:
    assert evaluation_interval(steps, evaluations) == interval


def _train(data: Path, run: Path, budget: Budget | None, *more: str) -> tuple[RunFolder, str]:
    out = io.StringIO()
    config = load_config(tiny_settings(data, run, "trackers=[]", "scheduler.total_iter=8", *more))
    planned = None if budget is None else Planned(budget, "the plan", "bs: 2\n")
    return train(config, Console(file=out, width=200), Start(planned=planned)), out.getvalue()


def test_an_overrun_ends_early_says_so_and_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    whole, _ = _train(data, tmp_path / "whole", None)
    monkeypatch.setattr(Budget, "has_ended", lambda self, steps, seconds: steps >= 3)
    ended, said = _train(data, tmp_path / "ended", _budget(60.0))
    assert "the budget of 1 min ends after step 3 of 8: steps or evaluations take longer than when" in said
    assert "The learning rate is at " in said and "go on with: dinoseg train" in said
    assert "next: dinoseg eval" in said
    assert "validation after step 3" in said
    assert ended.open_checkpoint("last").progress["evaluated_step"] == 3
    assert ended.plan.read_text() == "bs: 2\n"
    assert "the plan" in ended.log.read_text()
    settings = tiny_settings(data, tmp_path / "ended", "trackers=[]", "scheduler.total_iter=8")
    train(load_config(settings), Console(quiet=True), Start("last"))
    first, second = (folder.open_checkpoint("last") for folder in (whole, ended))
    assert second.progress["step"] == 8
    for name in first.weights():
        assert torch.equal(first.weights()[name], second.weights()[name])


def test_steps_are_settled_after_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    monkeypatch.setattr(Budget, "room", lambda self, before=0.0: 5)
    budget = _budget(600.0, settles_steps=True, evaluations=2)
    run, said = _train(data, tmp_path / "run", budget)
    assert re.search(r"steps        5 of \S+ s each in the 10 min that are left \(planned before: 8\)", said)
    config = run.read_config()
    assert (config.scheduler.total_iter, config.eval.eval_interval) == (5, 3)
    checkpoint = run.open_checkpoint("last")
    assert checkpoint.progress["step"] == 5
    # What it was trained with is what config.yaml says.
    run.refuse_other_training(checkpoint, resumed=True)
    # The learning rate went to the end of its schedule.
    rates = [line for line in run.metrics.read_text().splitlines() if '"train"' in line]
    assert len(rates) == 5
    # Nothing is left of the steps that were only timed: it is the training of these settings without a clock.
    alone, _ = _train(data, tmp_path / "alone", None, "scheduler.total_iter=5", "eval.eval_interval=3")
    first, second = (folder.open_checkpoint("last").weights() for folder in (run, alone))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_quicker_pace_than_the_plan_had_gives_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "timed_steps", lambda self, seconds: [2.0, 4.0])
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    budget = _budget(60.0, settles_steps=True, step_seconds=30.0, evaluations=1, most_steps=4)
    run, said = _train(data, tmp_path / "run", budget)
    assert "steps        4 of 3 s each in the " in said
    assert run.open_checkpoint("last").progress["step"] == 4
    far = "warning: a step takes 3 s, and took 30 s when the plan was made"
    assert far in said and far in run.log.read_text()


@pytest.mark.parametrize(("measured", "rehearsed", "far"), [(1.0, 1.9, 0), (1.0, 2.1, 1), (1.0, 0.6, 0), (1.0, 0.4, 1)])
def test_a_pace_that_is_far_from_that_of_the_plan_is_said(measured: float, rehearsed: float, far: int) -> None:
    assert len(_far_from_plan(measured, rehearsed)) == far


def test_what_was_typed_is_not_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    monkeypatch.setattr(Budget, "room", lambda self, before=0.0: 5)
    typed = ("eval.eval_interval=2", "scheduler.constructor_kwargs={warmup_iters: 4}")
    budget = _budget(600.0, settles_steps=True, interval=2, keeps_options=True)
    run, _ = _train(data, tmp_path / "run", budget, *typed)
    config = run.read_config()
    assert (config.scheduler.total_iter, config.eval.eval_interval) == (5, 2)
    assert config.scheduler.constructor_kwargs == {"warmup_iters": 4}


def test_features_that_take_the_budget_leave_a_schedule_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    monkeypatch.setattr(Budget, "room", lambda self, before=0.0: 3)
    monkeypatch.setattr(Budget, "has_ended", lambda self, steps, seconds: steps == 2)
    run, said = _train(data, tmp_path / "run", _budget(600.0, settles_steps=True), "scheduler.total_iter=30")
    assert "warning: features took so long that there is room for 3 steps of 30: the schedule stays" in said
    assert "the budget of 10 min ends after step 2 of 30" in said and "--resume" in said
    assert run.read_config().scheduler.total_iter == 30


def test_a_typed_warm_up_that_does_not_fit_is_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    monkeypatch.setattr(Budget, "room", lambda self, before=0.0: 4)
    budget = _budget(600.0, settles_steps=True, keeps_options=True)
    run, _ = _train(data, tmp_path / "run", budget, "scheduler.constructor_kwargs={warmup_iters: 6}")
    assert run.read_config().scheduler.constructor_kwargs == {"warmup_iters": 3}


def test_an_evaluation_that_takes_longer_than_measured_is_known_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(Budget, "has_ended", lambda self, steps, seconds: seen.append(self.evaluation_seconds))
    data, save = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2}), Trainer.save
    # A slow disk: the best checkpoint and the last one.
    monkeypatch.setattr(Trainer, "save", lambda self, name: (time.sleep(0.3), save(self, name))[1])
    _train(data, tmp_path / "run", _budget(600.0, evaluation_seconds=1e-9), "eval.eval_interval=4")
    assert seen[0] == 1e-9 and seen[-1] > 0.6


def test_a_warm_up_keeps_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    monkeypatch.setattr(Budget, "room", lambda self, before=0.0: 4)
    budget = _budget(600.0, settles_steps=True)
    run, _ = _train(data, tmp_path / "run", budget, "scheduler.constructor_kwargs={warmup_iters: 4}")
    assert run.read_config().scheduler.constructor_kwargs == {"warmup_iters": 2}


def test_some_real_steps_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Trainer] = []
    monkeypatch.setattr(Trainer, "run", lambda self, interruption: (caught.append(self), self.progress)[1])
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    _train(data, tmp_path / "run", None)
    caught[0].journal = None
    found = caught[0].timed_steps(0.0)
    assert len(found) == 2 and all(seconds > 0 for seconds in found)
    assert caught[0].progress.step == 3
