"""A plan: the config of a training, why each of its keys is what it is, and how long its parts take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dinoseg.config import Config
from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.machine import Machine
from dinoseg.planning.rule import Way
from dinoseg.training.budget import Budget


@dataclass(frozen=True)
class Choice:
    """Keys that belong together, and why they have their values.

    Attributes:
        topic: in words.
        values: what the plan decides.
        given: what was given in its place.
        reason: with the figures it rests on.
        evidence: what was measured elsewhere; empty for what follows by arithmetic.
    """

    topic: str
    values: Mapping[str, Any]
    given: Mapping[str, Any]
    reason: str
    evidence: str = ""


@dataclass(frozen=True)
class Times:
    """Seconds of the parts of a training, as they are expected.

    Attributes:
        begin: until features are computed: the program, the check, the plan itself.
        features, steps, evaluations: of all of them.
    """

    begin: float
    features: float
    steps: float
    evaluations: float

    @property
    def total(self) -> float:
        return self.begin + self.features + self.steps + self.evaluations


@dataclass(frozen=True)
class Plan:
    """What is going to be done, and why.

    Attributes:
        config: settled, ready for ``train``.
        choices: in the order in which they are told.
        given: keys that were taken as they were given, and the argument that gave each.
        passed_over: ways that there is no time for, in words, the one before first.
        budget: for ``train``; None where no minutes were given.
    """

    config: Config
    choices: tuple[Choice, ...]
    given: Mapping[str, str]
    fingerprint: Fingerprint
    machine: Machine
    way: Way
    passed_over: tuple[str, ...]
    times: Times
    budget: Budget | None
