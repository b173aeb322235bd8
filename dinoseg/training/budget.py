"""The minutes that a training may take, and what they have room for.

The schedule is fixed in steps before the first of them, so that a run is a function of its config, and goes on bit for
bit where it was interrupted; a schedule that followed the clock would be neither. It is settled as late as that allows,
after the features are computed and some steps were rehearsed, with a margin for a machine that becomes slower. Should
that not suffice, the training ends early, evaluates, and keeps what it has: its learning rate is then where the
schedule has it at that step, not at its end, and ``--resume`` goes on from there to the end, without a budget.
"""

import math
import time
from dataclasses import dataclass

from dinoseg.config import Config
from dinoseg.training.pace import Estimate, evaluations_left

# Of what is left for steps, that is not planned. Small: to end so far before the schedule does costs next to nothing,
# as the usual one has less than 1 % of its largest learning rate over its last 5 % of steps.
MARGIN = 0.04
# Fewer are no training.
FEWEST_STEPS = 20
# To write the last checkpoint and to say goodbye.
CLOSING_SECONDS = 2.0


@dataclass(frozen=True)
class Budget:
    """What a training may take, and how long its parts take by what was measured.

    Attributes:
        seconds: from ``started`` (``time.monotonic``) to the last word.
        step_seconds: of a step.
        evaluation_seconds: of one evaluation of the validation split; once one was done, pictures and checkpoints
            included.
        evaluations: how often, that at the end included.
        most_steps: more are not planned.
        settles_steps: whether the schedule is to be what there is room for; otherwise steps were given.
        interval: steps between evaluations, where it was given; ``evaluations`` then counts for nothing.
        keeps_options: whether the schedule's own options (``scheduler.constructor_kwargs``) were given.
    """

    seconds: float
    started: float
    step_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    evaluations: int = 1
    most_steps: int = 1
    settles_steps: bool = False
    interval: int | None = None
    keeps_options: bool = False

    def left(self) -> float:
        """Seconds from now."""
        return self.started + self.seconds - time.monotonic()

    def room(self, before: float = 0.0) -> int:
        """Steps that there is room for, 0 or more.

        Args:
            before: seconds that pass until the first step.
        """
        if self.interval is None:
            evaluations, each = self.evaluations, self.step_seconds
        else:
            # The one at the end, and of each of the others as much as falls to a step.
            evaluations, each = 1, self.step_seconds + self.evaluation_seconds / self.interval
        seconds = self.left() - before - evaluations * self.evaluation_seconds - CLOSING_SECONDS
        return max(0, min(self.most_steps, math.floor(seconds * (1 - MARGIN) / each)))

    def estimate(self, config: Config) -> Estimate:
        """Of a training of this config."""
        steps, interval = config.scheduler.total_iter, config.eval.eval_interval
        return Estimate(self.step_seconds, self.evaluation_seconds, steps, evaluations_left(0, None, steps, interval))

    def has_ended(self, steps: int, seconds: float) -> bool:
        """Whether another step would leave no time for the evaluation at the end.

        Args:
            steps: done in this training so far.
            seconds: that they took. What follows is taken to be as much slower than measured as they were.
        """
        if not steps:
            return False
        slower = max(1.0, seconds / steps / self.step_seconds)
        return self.left() < slower * (self.evaluation_seconds + self.step_seconds + CLOSING_SECONDS)

    def end_in_words(self, step: int, total: int, factor: float) -> str:
        """Of a training that it ended.

        Args:
            step: the last; ``total`` were planned.
            factor: of the schedule there.
        """
        return (
            f"the budget of {self.seconds / 60:g} min ends after step {step} of {total}: steps or evaluations take "
            f"longer than when they were measured. The learning rate is at {100 * factor:.0f} % of its largest, where "
            "a whole schedule ends near 0; the last checkpoint is evaluated all the same"
        )


@dataclass(frozen=True)
class Planned:
    """What was planned before a training.

    Attributes:
        budget: that it is to end within.
        words: of the plan, for console and log.
        recipe: the plan as YAML, for the run folder.
    """

    budget: Budget
    words: str
    recipe: str


def evaluation_interval(steps: int, evaluations: int) -> int:
    """Steps between so many evaluations, the last of them at the end."""
    return max(1, math.ceil(steps / evaluations))
