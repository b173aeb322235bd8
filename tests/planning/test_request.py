"""The budget among the arguments, and which keys a plan takes as they were given."""

from pathlib import Path

import pytest

from dinoseg.config import Config, with_changes
from dinoseg.planning.request import PlanRequest, split_minutes


def test_minutes_are_taken_out_of_the_arguments() -> None:
    assert split_minutes(["bs=4", "minutes=1.5", "datasets.root=x"]) == (1.5, ["bs=4", "datasets.root=x"])
    assert split_minutes(["bs=4"]) == (None, ["bs=4"])


@pytest.mark.parametrize("value", ["-3", "0", "inf", "nan", "1e9"])
def test_minutes_out_of_range(value: str) -> None:
    with pytest.raises(ValueError, match=rf"minutes={value}: no time to train in; give a number above 0, at most"):
        PlanRequest.of([f"minutes={value}"])


def test_minutes_that_are_no_number_or_stand_there_twice() -> None:
    with pytest.raises(ValueError, match="minutes=soon: not a number; give minutes, for instance minutes=20"):
        PlanRequest.of(["minutes=soon"])
    with pytest.raises(ValueError, match=r"minutes is given 2 times \(1, 2\); give it once"):
        PlanRequest.of(["minutes=1", "minutes=2"])


def test_a_wrong_key_is_told_as_by_train() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'decoder_head\.typ'; did you mean 'decoder_head.type'"):
        PlanRequest.of(["decoder_head.typ=linear"])


def test_other_spellings_are_given_where_a_settled_config_has_them() -> None:
    request = PlanRequest.of(["lora.enabled=true", "lora.r=32", "datasets.classes=camvid"])
    assert dict(request.given) == {
        "model.mode": "lora.enabled=true",
        "lora.rank": "lora.r=32",
        "datasets.classes": "datasets.classes=camvid",
        "datasets.ignore": "datasets.classes=camvid",
    }


def test_evaluations_after_a_tenth_of_steps_that_are_not_known_are_as_if_not_given() -> None:
    assert not PlanRequest.of(["minutes=5", "eval.eval_interval=0"]).holds("eval.eval_interval")
    assert PlanRequest.of(["minutes=5", "eval.eval_interval=9"]).holds("eval.eval_interval")
    assert PlanRequest.of(["eval.eval_interval=0"]).holds("eval.eval_interval")


def test_given_keys_win_over_what_is_decided(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("bs: 7\ndatasets:\n  classes: {0: a, 1: b}\n")
    request = PlanRequest.of([f"config={recipe}", "optimizer.lr=0.5"])
    decided = with_changes(Config(), {"bs": 2, "optimizer.lr": 0.1, "eval.mode": "whole"})
    config = request.config(decided)
    assert (config.bs, config.optimizer.lr, config.eval.mode) == (7, 0.5, "whole")
    assert dict(request.given) == {
        "bs": f"config={recipe}",
        "datasets.classes": f"config={recipe}",
        "optimizer.lr": "optimizer.lr=0.5",
    }


@pytest.mark.parametrize(("minutes", "steps"), [(["minutes=5"], 300), ([], 2100)])
def test_a_budget_goes_before_the_steps_of_a_file(minutes: list[str], steps: int, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("scheduler:\n  total_iter: 2100\n")
    request = PlanRequest.of([f"config={recipe}", *minutes])
    assert request.config(None, {"scheduler.total_iter": 300}).scheduler.total_iter == steps
    assert request.holds("scheduler.total_iter") == (not minutes)


def test_steps_that_are_typed_go_before_the_budget(tmp_path: Path) -> None:
    request = PlanRequest.of(["scheduler.total_iter=12", "minutes=5"])
    assert request.holds("scheduler.total_iter")
    assert request.config(None, {"scheduler.total_iter": 300, "eval.eval_interval": 6}).scheduler.total_iter == 12
