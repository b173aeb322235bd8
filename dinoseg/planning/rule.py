"""What a rule is, and what it looks at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.machine import Machine


@dataclass(frozen=True)
class Way:
    """What decides how long a training takes.

    Attributes:
        head: ``decoder_head.type``.
        scale: ``model.backbone_scale``.
        cached: whether features are computed once.
        long: whether there are steps enough for what pays off late: scores of single pixels, turned crops.
    """

    head: str
    scale: float
    cached: bool
    long: bool = False


@dataclass(frozen=True)
class Facts:
    """What rules look at.

    Attributes:
        keeps_features: whether features that are computed once are of use: the backbone is neither trained nor random.
    """

    data: Fingerprint
    machine: Machine
    way: Way
    keeps_features: bool = True

    @property
    def patch(self) -> int:
        """In pixels, of the image that the backbone sees."""
        return self.machine.patch

    @property
    def megapixels(self) -> float:
        """Of the largest image, as the backbone sees it."""
        height, width = self.data.largest
        return height * width * self.way.scale**2 / 1e6


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        topic: of the choice; the first rule of a topic that holds decides.
        condition: in words.
        holds: the condition.
        choice: keys of the config and their values.
        reason: with the figures of this data set and machine.
        evidence: what was measured, and on what.
    """

    topic: str
    condition: str
    holds: Callable[[Facts], bool]
    choice: Callable[[Facts], dict[str, Any]]
    reason: Callable[[Facts], str]
    evidence: str
