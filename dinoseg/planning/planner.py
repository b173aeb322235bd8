"""From a fingerprint, a machine and a budget to a plan: the first way to train that there is time for."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dinoseg.config import Config, get_key, with_changes
from dinoseg.config.defaults import keeps_features
from dinoseg.data.transforms import as_size
from dinoseg.planning.allowed_ways import allowed_ways, gigabytes, pictures
from dinoseg.planning.choices import length_choices, rule_choices
from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.machine import Machine
from dinoseg.planning.machine_pace import MeasuredPace
from dinoseg.planning.plan import Plan, Times
from dinoseg.planning.request import PlanRequest
from dinoseg.planning.rule import Facts, Way
from dinoseg.planning.rules import decide
from dinoseg.planning.ways import MOST_FEATURES, MOST_STEPS, USUAL_STEPS, least_steps
from dinoseg.system.messages import duration_in_words
from dinoseg.training.budget import CLOSING_SECONDS, FEWEST_STEPS, MARGIN, Budget, evaluation_interval

# Evaluations of the validation split, and the shares of the budget that all of them and one of them may take.
_EVALUATIONS = 3
_MOST_EVALUATIONS, _MOST_EVALUATION = 0.06, 0.04
_LEAST_VALIDATION = 4
# Of the budget, for measuring ways; the one that is being measured is measured to its end.
MOST_MEASURING = 0.05
# What is said to be the least budget, over the sum of its parts.
_SAFETY = 1.25
# Features of pictures of several sizes may take as much more than those of the usual one.
_LARGER = 1.1
# A step of a long training may be as much quicker than one of a short training.
_UNLIKE = 2.0
# Before features are measured only what is clearly too much is passed over.
_DOUBT = 1.2


@dataclass(frozen=True)
class Clock:
    """Where the time is counted from.

    Attributes:
        started: by ``time.monotonic``, when the program began.
        begin: seconds from there until the plan began to measure.
        trains_now: the training follows in this process, so that what the plan takes is of the budget, too.
    """

    started: float
    begin: float
    trains_now: bool

    def counted_from(self) -> float:
        """When a training began that had just loaded the backbone now."""
        return self.started if self.trains_now else time.monotonic() - self.begin


@dataclass
class Planner:
    """Walks the ways to train, measures what is worth it, and takes the first that fits.

    Args:
        measure: the pace of a config on this machine.
    """

    request: PlanRequest
    fingerprint: Fingerprint
    machine: Machine
    clock: Clock
    measure: Callable[[Config], MeasuredPace]
    _paces: dict[tuple[str, bool, bool], MeasuredPace] = field(default_factory=dict)
    # To read a config takes longer than all else here.
    _configs: dict[Any, Config] = field(default_factory=dict)
    _measuring: float = 0.0
    _passed_over: list[str] = field(default_factory=list)
    _least_seconds: float = math.inf

    def plan(self) -> Plan:
        """The plan.

        Raises:
            ValueError: the budget has room for no training; says for which it would.
        """
        allowed = allowed_ways(self.request, self.fingerprint, self.machine)
        self._refuse_too_large(allowed)
        fits_any = self.request.minutes is None or self.request.holds("scheduler.total_iter")
        tried: list[tuple[float, int, Way, MeasuredPace]] = []
        for way in allowed:
            # The last is the quickest: it is tried whatever it takes.
            if way is not allowed[-1] and (self._takes_too_long(way, None) or self._has_no_room(way)):
                continue
            if way.long and self._is_short(way):
                continue
            # Of each head one way is measured, whatever it takes: what has too few steps at one is best at another.
            known = [steps for _, steps, other, _ in tried if other.head == way.head]
            if self._measured_enough() and any(steps >= FEWEST_STEPS for steps in known):
                continue
            pace = self._pace(way)
            if way is not allowed[-1] and self._takes_too_long(way, pace):
                continue
            steps, wanted = self._room(way, pace), least_steps(way, self.fingerprint, self.machine.patch)
            if fits_any or steps >= wanted:
                return self._plan_of(way, pace)
            tried.append((steps / wanted, steps, way, pace))
            self._passed_over.append(f"{_in_words(way)}: time for {steps} steps, {wanted} would be worth it")
        _, _, way, pace = max(tried, key=lambda entry: _worth(entry, allowed[-1].head))
        if self._room(way, pace) < FEWEST_STEPS:
            raise ValueError(self._too_little())
        chosen = f"{_in_words(way)}: time for"
        self._passed_over = [
            f"{words}; taken all the same, as none has its steps" if words.startswith(chosen) else words
            for words in self._passed_over
        ]
        return self._plan_of(way, pace)

    def _refuse_too_large(self, allowed: Sequence[Way]) -> None:
        """Raises ValueError where features were asked for that fit the cache at no scale."""
        if not all(way.cached for way in allowed):
            return
        limit = self.request.alone.train.cache_limit
        least = min(
            gigabytes(way, self.fingerprint, self.machine, pictures(self._config(way), self.fingerprint, 0))
            for way in allowed
        )
        if least > limit:
            asks = "train.cache_features" if self.request.holds("train.cache_features") else "train.cached_views"
            raise ValueError(
                f"{asks}={get_key(self.request.alone, asks)}: the features would take {least:.3g} GB at least, and "
                f"train.cache_limit is {limit:g}; raise it, or leave {asks} out"
            )

    def _takes_too_long(self, way: Way, pace: MeasuredPace | None) -> bool:
        """Whether the pass over the images takes more than its share of time, or of the disk.

        Args:
            pace: as measured; None before it is, when time is told from a small image.
        """
        if not way.cached:
            return False
        config = self._config(way)
        number = pictures(config, self.fingerprint, 0 if pace is None else self._validation(pace)[0])
        words = f"{_in_words(way)}: features of {number} pictures would take"
        size = gigabytes(way, self.fingerprint, self.machine, number)
        if _LARGER * size > config.train.cache_limit:
            self._passed_over.append(f"{words} {size:.3g} GB, train.cache_limit is {config.train.cache_limit:g}")
            return True
        if self.request.minutes is None:
            return False
        each = self.machine.feature_seconds(self.fingerprint.size, way.scale, config.model_dtype)
        seconds = (each if pace is None else pace.picture_seconds) * number
        share = seconds / (60 * self.request.minutes)
        # At the smallest scale it is the steps that decide, as long as there can be any.
        most = MOST_FEATURES.get(way.head, 1 / 3) if self._has_smaller(way) else 1.0
        too_long = share > most * (_DOUBT if pace is None else 1.0)
        if too_long:
            self._passed_over.append(f"{words} {duration_in_words(seconds)}, {100 * share:.0f} % of the budget")
        return too_long

    def _has_smaller(self, way: Way) -> bool:
        """Whether the same is allowed at a smaller scale."""
        allowed = allowed_ways(self.request, self.fingerprint, self.machine)
        return any(replace(other, scale=way.scale) == way and other.scale < way.scale for other in allowed)

    def _has_no_room(self, way: Way) -> bool:
        """Whether the backbone alone takes too long in every step, as told from a small image."""
        budget, wanted = self.request.minutes, least_steps(way, self.fingerprint, self.machine.patch)
        if budget is None or way.cached or self.request.holds("scheduler.total_iter"):
            return False
        config = self._config(way)
        crop = as_size(config.transforms.train.crop_size)
        step = config.bs * self.machine.feature_seconds(crop, way.scale, config.model_dtype)
        if wanted * step > 60 * budget:
            self._passed_over.append(f"{_in_words(way)}: {step:.2g} s a step for the backbone alone")
        return wanted * step > 60 * budget

    def _is_short(self, way: Way) -> bool:
        """Whether the steps of a long training are out of reach, as told from those of a short one."""
        if self.request.minutes is None or self.request.holds("scheduler.total_iter"):
            return False
        short = replace(way, long=False)
        steps, wanted = self._room(short, self._pace(short)), least_steps(way, self.fingerprint, self.machine.patch)
        if steps < wanted / _UNLIKE:
            self._passed_over.append(f"{_in_words(way)}: time for some {steps} steps, {wanted} would be worth it")
        return steps < wanted / _UNLIKE

    def _measured_enough(self) -> bool:
        """Whether measuring has had its share of the budget."""
        return self.request.minutes is not None and self._measuring > MOST_MEASURING * 60 * self.request.minutes

    def _pace(self, way: Way) -> MeasuredPace:
        """As measured; of a head with features from the cache, at one scale for all."""
        key = (way.head, way.cached, way.long)
        known = self._paces.get(key)
        if known is None or (known.scale != way.scale and not way.cached):
            started = time.monotonic()
            known = self._paces[key] = self.measure(self._config(way))
            self._measuring += time.monotonic() - started
        return known.at(way.scale)

    def _facts(self, way: Way) -> Facts:
        return Facts(self.fingerprint, self.machine, way, keeps_features(self.request.alone))

    def _config(
        self, way: Way, more: Mapping[str, Any] | None = None, lengths: Mapping[str, int] | None = None
    ) -> Config:
        key = (way, tuple((more or {}).items()), tuple((lengths or {}).items()))
        if key not in self._configs:
            decided: dict[str, Any] = {}
            for _, values in decide(self._facts(way)):
                decided |= {name: value for name, value in values.items() if value is not None}
            base = with_changes(Config(), decided | dict(more or {}))
            self._configs[key] = self.request.config(base, lengths)
        return self._configs[key]

    def _budget(self, way: Way, pace: MeasuredPace) -> Budget | None:
        if self.request.minutes is None:
            return None
        validated, evaluations = self._validation(pace)
        return Budget(
            seconds=60 * self.request.minutes,
            started=self.clock.counted_from(),
            step_seconds=pace.step_seconds,
            evaluation_seconds=pace.image_seconds * validated,
            evaluations=evaluations,
            most_steps=MOST_STEPS[way.head],
            settles_steps=not self.request.holds("scheduler.total_iter"),
            interval=self.request.alone.eval.eval_interval if self.request.holds("eval.eval_interval") else None,
            keeps_options=self.request.keeps_options,
        )

    def _before_steps(self, way: Way, pace: MeasuredPace) -> tuple[float, float]:
        """Seconds to build the training after the plan, and of features."""
        build = pace.build_seconds if self.clock.trains_now else 0.0
        number = pictures(self._config(way), self.fingerprint, self._validation(pace)[0])
        return build, pace.picture_seconds * number

    def _room(self, way: Way, pace: MeasuredPace) -> int:
        """Steps that there is time for; those that are usual without a budget."""
        budget = self._budget(way, pace)
        if budget is None:
            return USUAL_STEPS[way.head]
        before = sum(self._before_steps(way, pace))
        begun = budget.seconds - budget.left()
        least = begun + before + budget.evaluation_seconds + CLOSING_SECONDS
        self._least_seconds = min(self._least_seconds, least + FEWEST_STEPS * pace.step_seconds / (1 - MARGIN))
        return budget.room(before)

    def _validation(self, pace: MeasuredPace) -> tuple[int, int]:
        """How many images each evaluation sees, and how many evaluations there are."""
        images = self.fingerprint.images.get("val", 0)
        given = self.request.alone.eval
        most = images if given.max_val_samples is None else min(images, given.max_val_samples)
        if self.request.minutes is None:
            return most, _EVALUATIONS
        seconds = 60 * self.request.minutes
        if given.max_val_samples is None:
            # An image that is evaluated is one whose features are computed, too.
            each = max(1e-6, pace.image_seconds + pace.picture_seconds)
            most = min(images, max(_LEAST_VALIDATION, math.floor(_MOST_EVALUATION * seconds / each)))
        all_of_them = _EVALUATIONS * most * pace.image_seconds
        return most, _EVALUATIONS if all_of_them <= _MOST_EVALUATIONS * seconds else 1

    def _plan_of(self, way: Way, pace: MeasuredPace) -> Plan:
        images, (validated, evaluations) = self.fingerprint.images.get("val", 0), self._validation(pace)
        more = {} if validated == images else {"eval.max_val_samples": validated}
        given = self.request.holds("scheduler.total_iter")
        steps = self._config(way).scheduler.total_iter if given else max(1, self._room(way, pace))
        lengths = {"scheduler.total_iter": steps, "eval.eval_interval": evaluation_interval(steps, evaluations)}
        config = self._config(way, more, lengths)
        budget, (build, features) = self._budget(way, pace), self._before_steps(way, pace)
        begun = time.monotonic() - self.clock.counted_from()
        evaluated = math.ceil(steps / config.eval.eval_interval) * validated * pace.image_seconds
        times = Times(begun + build, features, steps * pace.step_seconds, evaluated)
        return Plan(
            config=config,
            choices=(
                *rule_choices(self.request, self._facts(way)),
                *length_choices(self.request, config, pace, times, images),
            ),
            given={key: source for key, source in self.request.given.items() if self.request.holds(key)},
            fingerprint=self.fingerprint,
            machine=self.machine,
            way=way,
            passed_over=tuple(self._passed_over),
            times=times,
            budget=budget,
        )

    def _too_little(self) -> str:
        minutes, least = self.request.minutes, math.ceil(_SAFETY * self._least_seconds / 6) / 10
        assert minutes is not None
        return (
            f"minutes={minutes:g} has no room for a training here: to begin, features, evaluation and {FEWEST_STEPS} "
            f"steps take {duration_in_words(self._least_seconds)} in the quickest way; give at least "
            f"minutes={least:g}, or leave minutes out"
        )


def _worth(tried: tuple[float, int, Way, MeasuredPace], simplest: str) -> tuple[bool, bool, float]:
    """Order of ways that all have too few steps: the simplest head learns most from a few.

    On DRIVE, 37 steps of the dense head ended at background alone (22.9 mIoU), 43 of the linear one at 31.0.
    """
    share, steps, way, _ = tried
    return steps >= FEWEST_STEPS, way.head == simplest, share


def _in_words(way: Way) -> str:
    long = ", a long training" if way.long else ""
    return f"{way.head}, scale {way.scale:g}, features {'once' if way.cached else 'in every step'}{long}"
