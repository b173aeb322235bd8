"""What was asked for: a budget in minutes, and the keys that are settled already."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from dinoseg.config import Config, with_changes
from dinoseg.config.loading import given_keys, load_config
from dinoseg.training.optim import scaled_options

# How long a training is: with a budget, those of a recipe's file are of another budget.
_STEPS = "scheduler.total_iter"
LENGTH_KEYS = (_STEPS, "eval.eval_interval")
_SCHEDULE = "scheduler.constructor_kwargs"
_MOST_MINUTES = 60 * 24 * 30


@dataclass(frozen=True)
class PlanRequest:
    """A budget, and what the user gave beside it.

    Attributes:
        minutes: None for no budget.
        arguments: ``key=value``, ``config=FILE`` among them.
        given: the keys that they give, and which argument does.
    """

    minutes: float | None
    arguments: tuple[str, ...]
    given: Mapping[str, str]

    @staticmethod
    def of(arguments: Iterable[str]) -> "PlanRequest":
        """Takes ``minutes=`` out of the arguments of ``plan`` or ``train``.

        Raises:
            ValueError: it is no number of minutes, stands there twice, or a key is wrong.
        """
        minutes, rest = split_minutes(arguments)
        if minutes is not None:
            # A tenth of the steps, which are not known yet: as if it were not given.
            rest = [argument for argument in rest if argument != "eval.eval_interval=0"]
        return PlanRequest(minutes, tuple(rest), given_keys(rest))

    @cached_property
    def alone(self) -> Config:
        """The settled config of what was given, and nothing else."""
        return self.config()

    def holds(self, key: str) -> bool:
        """Whether the plan takes this key as it was given.

        A budget decides how long a training is, so what a file says of it counts without one alone; what was typed
        beside the budget counts.
        """
        source = self.given.get(key)
        return source is not None and not (
            self.minutes is not None and key in LENGTH_KEYS and source.startswith("config=")
        )

    @property
    def keeps_options(self) -> bool:
        """Whether the options of the schedule were typed; a file's warm-up is of a training of the file's length."""
        source = self.given.get(_SCHEDULE)
        return source is not None and not source.startswith("config=")

    def config(self, base: Config | None = None, lengths: Mapping[str, int] | None = None) -> Config:
        """The settled config: what was given on top of ``base``.

        Args:
            lengths: values of ``LENGTH_KEYS``, which go before those of a file.
        """
        typed = [f"{key}={value}" for key, value in (lengths or {}).items() if not self.holds(key)]
        config = load_config([*typed, *self.arguments], base)
        steps = config.scheduler.total_iter
        if lengths is None or self.holds(_STEPS) or _SCHEDULE not in self.given or self.keeps_options:
            return config
        before = self.alone.scheduler
        return with_changes(config, {_SCHEDULE: scaled_options(before.constructor_kwargs, before.total_iter, steps)})


def split_minutes(arguments: Iterable[str]) -> tuple[float | None, list[str]]:
    """The budget among ``key=value`` arguments, None where there is none, and the others.

    Raises:
        ValueError: it is no number of minutes, or stands there twice.
    """
    arguments = list(arguments)
    texts = [argument.partition("=")[2] for argument in arguments if argument.partition("=")[0] == "minutes"]
    rest = [argument for argument in arguments if argument.partition("=")[0] != "minutes"]
    if len(texts) > 1:
        raise ValueError(f"minutes is given {len(texts)} times ({', '.join(texts)}); give it once")
    if not texts:
        return None, rest
    try:
        minutes = float(texts[0])
    except ValueError:
        raise ValueError(f"minutes={texts[0]}: not a number; give minutes, for instance minutes=20") from None
    if not math.isfinite(minutes) or not 0 < minutes <= _MOST_MINUTES:
        raise ValueError(f"minutes={texts[0]}: no time to train in; give a number above 0, at most {_MOST_MINUTES}")
    return minutes, rest
