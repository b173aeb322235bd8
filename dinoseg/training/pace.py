"""How long what remains of a training takes: from the plan's estimate at first, then from what was measured."""

import time
from collections import deque
from dataclasses import dataclass

from dinoseg.system.messages import duration_in_words

# Steps that are measured before the estimate is held against them, and that the pace is a mean of.
_FIRST_STEPS = 10
_RECENT_STEPS = 50
# An estimate that is off by less than this factor, or these seconds, stands.
_TOLERATED = 1.3
_TOLERATED_SECONDS = 30.0


@dataclass(frozen=True)
class Estimate:
    """Seconds of one step and of one evaluation, and how many of each remain."""

    step_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    steps: int = 0
    evaluations: int = 0

    @property
    def seconds(self) -> float:
        """Of all that remains."""
        return self.steps * self.step_seconds + self.evaluations * self.evaluation_seconds


def evaluations_left(step: int, evaluated_step: int | None, total: int, interval: int) -> int:
    """Evaluations to come after ``step`` steps, that of this step included unless it is done: one each interval, and
    one at the end."""
    due_now = (step == total or (step > 0 and step % interval == 0)) and evaluated_step != step
    return due_now + (-(-total // interval) - step // interval if step < total else 0)


class Pace:
    """Measures steps and evaluations by when they end. What is done after an evaluation, such as writing a checkpoint,
    counts as part of it.

    Args:
        estimate: of the plan.
        step: steps done before.
        total, interval: steps in all, and between evaluations.

    Attributes:
        last: when the last step or evaluation ended, by ``time.monotonic``.
    """

    def __init__(self, estimate: Estimate, step: int, total: int, interval: int) -> None:
        self._estimate, self._total, self._interval = estimate, total, interval
        self._first = step
        self._evaluated: int | None = None
        self._started = self.last = time.monotonic()
        self._steps: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._evaluations: list[float] = []
        self._said = estimate.seconds
        self._checked: set[str] = set()

    def step_done(self, step: int) -> None:
        """Of this number, counted from the start of the training."""
        seconds = self._lap()
        if self._evaluated == step - 1 and self._evaluations:
            # The checkpoint that followed the evaluation.
            usual = self._step_seconds()
            self._evaluations[-1] += max(0.0, seconds - usual)
            seconds = min(seconds, usual)
        # The first step pays for allocations and for the start of the workers.
        if step > self._first + 1:
            self._steps.append(seconds)

    def evaluation_done(self, step: int) -> None:
        """After so many steps."""
        self._evaluations.append(self._lap())
        self._evaluated = step

    def seconds_left(self, step: int) -> float | None:
        """What remains after ``step`` steps; None before a step was measured."""
        if not self._steps or step >= self._total:
            return None
        evaluations = evaluations_left(step, self._evaluated, self._total, self._interval)
        return (self._total - step) * self._step_seconds() + evaluations * self._evaluation_seconds()

    def correction(self, step: int) -> str:
        """One line when the plan's time is wrong by the first steps, or by the first evaluation; else nothing."""
        known = {f"at the pace of the first {_FIRST_STEPS} steps": len(self._steps) >= _FIRST_STEPS}
        known["as the first evaluation took"] = bool(self._evaluations) and self._evaluated != step
        new = [reason for reason, measured in known.items() if measured and reason not in self._checked]
        left = self.seconds_left(step)
        if not new or left is None:
            return ""
        self._checked.update(new)
        found = time.monotonic() - self._started + left
        before, now = duration_in_words(self._said), duration_in_words(found)
        ratio = found / self._said if self._said > 0 else 1.0
        near = 1 / _TOLERATED < ratio < _TOLERATED or abs(found - self._said) < _TOLERATED_SECONDS
        if near or before == now:
            return ""
        self._said = found
        return f"{' and '.join(new)}: about {now} in all, not {before}"

    def _lap(self) -> float:
        now = time.monotonic()
        seconds, self.last = now - self.last, now
        return seconds

    def _step_seconds(self) -> float:
        return sum(self._steps) / len(self._steps) if self._steps else self._estimate.step_seconds

    def _evaluation_seconds(self) -> float:
        if self._evaluations:
            return sum(self._evaluations) / len(self._evaluations)
        # The machine is as much slower there as it is at the steps.
        slower = self._step_seconds() / self._estimate.step_seconds if self._estimate.step_seconds else 1.0
        return self._estimate.evaluation_seconds * slower
