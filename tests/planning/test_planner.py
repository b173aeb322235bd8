"""Which way to train a budget leads to, by paces made by hand; what was given; what has no room."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.fingerprints import machine, pace, retina, street

from dinoseg.config import Config
from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.machine_pace import MeasuredPace
from dinoseg.planning.plan import Plan
from dinoseg.planning.planner import Clock, Planner
from dinoseg.planning.request import PlanRequest
from dinoseg.planning.rule import Way
from dinoseg.training.budget import MARGIN
from dinoseg.training.optim import build_schedule

WEIGHTS = "model.weights=some.safetensors"


def _measured(config: Config) -> MeasuredPace:
    """As two cores were measured to be: dense 0.4 s a step, linear 0.09, a backbone in each step 1.3 more."""
    scale = config.model.backbone_scale
    cached = config.train.cache_features is True
    step = (0.4 if config.decoder_head.type == "dense" else 0.09) + (0.0 if cached else 1.3)
    megapixels = 0.33 if config.bs == 2 else 0.17
    return pace(scale, megapixels * scale**2 if cached else 0.0, step)


def _plan(
    data: Fingerprint, *arguments: str, measure: Callable[[Config], MeasuredPace] = _measured, now: bool = True
) -> Plan:
    request = PlanRequest.of([WEIGHTS, *arguments])
    return Planner(request, data, machine(), Clock(time.monotonic() - 8.0, 8.0, now), measure).plan()


@pytest.mark.parametrize(
    ("data", "minutes", "way"),
    [
        (retina(), 20, Way("dense", 1.0, True, long=True)),
        (retina(), 5, Way("dense", 1.0, True)),  # no time for the 800 steps that turned crops are worth
        (retina(), 1, Way("dense", 1.0, True)),
        (street(), 20, Way("dense", 1.5, True)),
        (street(), 3, Way("linear", 1.0, True)),  # no time for the 440 steps that make dense better
        (street(), 2, Way("linear", 1.0, True)),
    ],
)
def test_the_way_that_was_measured_to_be_best_at_a_budget(data: Fingerprint, minutes: int, way: Way) -> None:
    plan = _plan(data, f"minutes={minutes}")
    assert plan.way == way
    assert plan.config.decoder_head.type == way.head and plan.config.model.backbone_scale == way.scale
    assert plan.times.total <= 60 * minutes
    assert plan.budget is not None and plan.budget.settles_steps


def test_steps_fill_the_budget_but_for_a_margin() -> None:
    plan = _plan(retina(), "minutes=20")
    assert 0.88 * 1200 < plan.times.total < 0.97 * 1200
    assert plan.config.scheduler.total_iter == pytest.approx(plan.times.steps / 0.4)
    # Evaluated three times, the last time at the end.
    assert -(-plan.config.scheduler.total_iter // plan.config.eval.eval_interval) == 3


def test_more_images_than_there_is_time_to_look_at_once() -> None:
    many = street(images={"train": 20_000, "val": 2000})
    plan = _plan(many, "minutes=20")
    assert not plan.way.cached and plan.config.train.cache_features is False
    assert (
        plan.passed_over
        and "features of 20000 pictures would take 122 GB, train.cache_limit is 20" in plan.passed_over[0]
    )
    # Nor to evaluate.
    assert plan.config.eval.max_val_samples == 96  # 4 % of 20 minutes, half a second each
    assert plan.config.eval.eval_interval == plan.config.scheduler.total_iter


def test_without_a_budget_steps_are_those_of_the_recipes() -> None:
    plan = _plan(retina())
    assert plan.way == Way("dense", 1.0, True, long=True)
    assert (plan.config.scheduler.total_iter, plan.config.eval.eval_interval) == (2100, 700)
    assert plan.budget is None


@pytest.mark.parametrize(
    ("given", "head", "scale", "cached"),
    [
        (["decoder_head.type=linear"], "linear", 2.0, True),
        (["decoder_head.type=m2f"], "m2f", 2.0, True),
        (["decoder_head.type=eomt"], "eomt", 2.0, False),
        (["model.backbone_scale=3"], "dense", 3.0, True),
        (["train.cache_features=false"], "dense", 1.0, False),
        (["model.mode=lora"], "dense", 1.0, False),
        (["model.mode=lora", "decoder_head.type=linear"], "linear", 2.0, False),
    ],
)
def test_what_was_given_is_kept(given: list[str], head: str, scale: float, cached: bool) -> None:
    plan = _plan(retina(), "minutes=60", *given)
    assert plan.config.decoder_head.type == head
    assert (plan.way.scale, plan.way.cached) == (scale, cached) or not cached
    assert plan.way.cached == cached
    for argument in given:
        key = argument.partition("=")[0]
        assert plan.given[key] == argument
        assert all(key not in choice.values for choice in plan.choices)


def test_keys_that_rules_would_choose_otherwise() -> None:
    plan = _plan(retina(), "minutes=20", "bs=5", "transforms.train.rotation=7", "eval.max_val_samples=2")
    assert plan.config.bs == 5 and plan.config.transforms.train.rotation == 7.0
    assert plan.config.eval.max_val_samples == 2
    told = {key for choice in plan.choices for key in choice.given}
    assert told >= {"bs", "transforms.train.rotation", "eval.max_val_samples"}


def test_steps_that_were_typed_are_kept() -> None:
    plan = _plan(retina(), "minutes=20", "scheduler.total_iter=50")
    assert (plan.config.scheduler.total_iter, plan.config.eval.eval_interval) == (50, 17)
    assert plan.budget is not None and not plan.budget.settles_steps


def test_a_budget_without_room_says_which_would_have_it() -> None:
    message = r"minutes=0.02 has no room for a training here: .* take \d+ s in the quickest way; give at least minutes="
    with pytest.raises(ValueError, match=message):
        _plan(retina(), "minutes=0.02")


def test_a_head_that_was_given_needs_steps_as_any_other_does() -> None:
    def slow(config: Config) -> MeasuredPace:
        return pace(config.model.backbone_scale, 0.0, 5.0)

    with pytest.raises(ValueError, match=r"minutes=1 has no room for a training here: .* evaluation and 20 steps"):
        _plan(retina(), "minutes=1", "decoder_head.type=m2f", measure=slow)
    assert _plan(retina(), "minutes=3", "decoder_head.type=m2f", measure=slow).config.scheduler.total_iter >= 20


def test_the_least_budget_that_was_named_has_room() -> None:
    with pytest.raises(ValueError) as raised:
        _plan(street(), "minutes=0.02")
    least = str(raised.value).partition("give at least minutes=")[2].partition(",")[0]
    assert _plan(street(), f"minutes={least}").config.scheduler.total_iter >= 20


def test_a_way_is_measured_once_and_measuring_ends() -> None:
    seen: list[str] = []

    def measure(config: Config) -> MeasuredPace:
        seen.append(f"{config.decoder_head.type} {config.train.cache_features} {config.decoder_head.feature_dropout}")
        return _measured(config)

    _plan(retina(), "minutes=1", measure=measure)
    assert len(seen) == len(set(seen))
    seen.clear()
    _plan(retina(), "minutes=20", measure=measure)
    # Of a long training a short one is measured first: it tells whether there may be time.
    assert seen == ["dense True 0.0", "dense True 0.5"]


def test_the_time_of_a_plan_counts_where_the_training_follows_only() -> None:
    request = PlanRequest.of([WEIGHTS, "minutes=5"])
    ago = time.monotonic() - 60.0
    steps = [
        Planner(request, retina(), machine(), Clock(ago, 8.0, now), _measured).plan().config.scheduler.total_iter
        for now in (True, False)
    ]
    assert steps[1] - steps[0] == pytest.approx((52 + 1) * (1 - MARGIN) / 0.4, abs=3)


def test_where_no_way_has_its_steps_the_nearest_one_is_taken() -> None:
    """Features at the smallest scale may take more than their share: what counts is what they leave."""

    def slow(config: Config) -> MeasuredPace:
        found = _measured(config)
        return MeasuredPace(found.scale, 1.0, 8 * found.picture_seconds, 8 * found.step_seconds, 1.0)

    plan = _plan(retina(), "minutes=4", "decoder_head.type=dense", measure=slow)
    assert plan.way == Way("dense", 1.0, True)
    assert 20 <= plan.config.scheduler.total_iter < 80
    assert len(plan.passed_over) >= 3
    taken = [words for words in plan.passed_over if words.endswith("taken all the same, as none has its steps")]
    assert len(taken) == 1 and taken[0].startswith("dense, scale 1, features once: time for")
    # The linear head has a larger share of the steps that it is worth.
    assert _plan(retina(), "minutes=4", measure=slow).way == Way("linear", 1.0, True)


def test_of_heads_with_too_few_steps_the_simplest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it has a smaller share of its steps, and measuring has had its time."""
    monkeypatch.setattr("dinoseg.planning.planner.MOST_MEASURING", 0.0)

    def alike(config: Config) -> MeasuredPace:
        return MeasuredPace(config.model.backbone_scale, 1.0, 0.1, 1.2, 1.0)

    plan = _plan(retina(), "minutes=1.5", measure=alike)
    assert plan.way.head == "linear" and 20 <= plan.config.scheduler.total_iter < 80
    dense = [words for words in plan.passed_over if words.startswith("dense")]
    assert dense and not any("taken all the same" in words for words in dense)


def test_measuring_goes_on_where_nothing_fits_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than its share is spent on measuring before a budget is refused, and no more once there is a way."""
    seen: list[str] = []

    def measure(config: Config) -> MeasuredPace:
        seen.append(config.decoder_head.type)
        found = _measured(config)
        return found if config.decoder_head.type == "linear" else MeasuredPace(found.scale, 1.0, 0.0, 60.0, 0.5)

    monkeypatch.setattr("dinoseg.planning.planner.MOST_MEASURING", 0.0)
    assert _plan(retina(), "minutes=5", measure=measure).way.head == "linear"
    assert seen[0] == "dense" and seen[-1] == "linear"


def test_of_what_was_given_no_rule_gives_the_reason() -> None:
    plan = _plan(retina(), "minutes=20", "model.backbone_scale=1", "transforms.train.crop_size=512")
    reasons = {choice.topic: (choice.reason, choice.evidence) for choice in plan.choices}
    assert reasons["scale"] == reasons["batch and crop"] == ("beside what was given", "")
    assert reasons["head"][0] != "beside what was given"


def test_a_typed_interval_is_kept_and_its_evaluations_are_counted() -> None:
    plain, often = _plan(street(), "minutes=10"), _plan(street(), "minutes=10", "eval.eval_interval=20")
    assert often.config.eval.eval_interval == 20
    assert often.budget is not None and often.budget.interval == 20
    assert plain.budget is not None and plain.budget.interval is None
    assert often.config.scheduler.total_iter < plain.config.scheduler.total_iter
    assert often.times.total <= 600
    assert often.times.evaluations > plain.times.evaluations


def test_options_of_the_schedule_are_kept_where_they_were_typed(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("scheduler:\n  constructor_kwargs: {warmup_iters: 40}\n")
    for given, kept in (("scheduler.constructor_kwargs={warmup_iters: 40}", True), (f"config={recipe}", False)):
        plan = _plan(retina(), "minutes=10", given)
        assert plan.budget is not None and plan.budget.keeps_options == kept


def test_a_warm_up_of_a_file_is_as_much_of_a_shorter_training(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("scheduler:\n  total_iter: 40000\n  constructor_kwargs: {warmup_iters: 4000}\n")
    plan = _plan(retina(), f"config={recipe}", "minutes=10")
    steps = plan.config.scheduler.total_iter
    assert steps < 4000 and plan.config.scheduler.constructor_kwargs == {"warmup_iters": steps // 10}
    build_schedule(plan.config.scheduler)
    typed = _plan(retina(), f"config={recipe}", "minutes=10", "scheduler.total_iter=5000")
    assert typed.config.scheduler.constructor_kwargs == {"warmup_iters": 4000}


@pytest.mark.parametrize("asked", ["train.cache_features=true", "train.cached_views=2"])
def test_features_that_were_asked_for_and_fit_at_no_scale_are_an_error(asked: str) -> None:
    many = street(images={"train": 40_000, "val": 10})
    with pytest.raises(
        ValueError, match=r"the features would take .* GB at least, and train\.cache_limit is 20; raise it"
    ):
        _plan(many, "minutes=20", asked)
    assert _plan(street(), "minutes=20", asked).way.cached
