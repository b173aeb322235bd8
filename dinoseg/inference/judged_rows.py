"""Rows of an image as they were decided: the class of each pixel, and the probabilities behind it.

The window engine gives these stripe by stripe, so that whoever counts, writes or draws probabilities holds no more of
them than a stripe.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dinoseg.models.head import class_probabilities


@dataclass(frozen=True)
class Say:
    """What one model says of some rows.

    Attributes:
        scores: at native size, averaged over its windows and views.
        are_probabilities: whether they went through a softmax already, or are sums of probabilities.
        temperature: that its probabilities are taken at, see ``models/head.py::class_probabilities``.
        class_weights: factors on its probabilities by which a class wins, by class index; None for its scores.
    """

    scores: Float[Tensor, "classes rows width"]
    are_probabilities: bool
    temperature: float = 1.0
    class_weights: tuple[float, ...] | None = None

    def probabilities(self, tempered: bool = True) -> Float[Tensor, "classes rows width"]:
        """At its temperature, or at 1; they add up to 1 over classes, or are all 0."""
        return class_probabilities(self.scores, self.are_probabilities, self.temperature if tempered else 1.0)

    def deciding(self) -> Float[Tensor, "classes rows width"]:
        """Of which the largest wins, where it speaks alone."""
        if self.class_weights is None:
            return self.scores
        probabilities = self.probabilities()
        return probabilities * torch.tensor(self.class_weights, device=probabilities.device)[:, None, None]


def mean_probabilities(says: Iterable[Say], tempered: bool = True) -> Float[Tensor, "classes rows width"]:
    """The mean of models' probabilities, one model after the other; of one model its own."""
    waiting = iter(says)
    total, count = next(waiting).probabilities(tempered), 1
    for say in waiting:
        total, count = total.add_(say.probabilities(tempered)), count + 1
    return total.div_(count) if count > 1 else total


def deciding_scores(says: Iterable[Say]) -> Float[Tensor, "classes rows width"]:
    """Of which the largest wins: the scores of one model, or its weighted probabilities; the mean of several."""
    waiting = iter(says)
    first, second = next(waiting), next(waiting, None)
    return first.deciding() if second is None else mean_probabilities(chain((first, second), waiting))


@dataclass(frozen=True)
class JudgedRows:
    """Rows ``first`` to ``last`` (exclusive) of an image at native size.

    Attributes:
        class_map: class indices, on the CPU. They are decided before probabilities are rounded.
        says: of each model, on its device.
    """

    first: int
    class_map: UInt8[Tensor, "rows width"] | Int[Tensor, "rows width"]
    says: tuple[Say, ...]

    @property
    def last(self) -> int:
        return self.first + len(self.class_map)

    @property
    def largest(self) -> UInt8[Tensor, "rows width"] | Int[Tensor, "rows width"] | None:
        """The class map, where its classes are those of the largest probabilities; None where weights decided."""
        return self.class_map if all(say.class_weights is None for say in self.says) else None

    @property
    def is_tempered(self) -> bool:
        """Whether a model has a temperature other than 1."""
        return any(say.temperature != 1.0 for say in self.says)

    @cached_property
    def probabilities(self) -> Float[Tensor, "classes rows width"]:
        """The mean of the models' probabilities, each at its temperature, fp32, on their device; of one model its own.

        Not to be changed: all who are told of the rows read them.
        """
        return mean_probabilities(self.says)

    def untempered(self) -> Float[Tensor, "classes rows width"]:
        """The same with every model at temperature 1."""
        return mean_probabilities(self.says, tempered=False)

    @property
    def scores(self) -> Float[Tensor, "classes rows width"]:
        """What decided: see ``deciding_scores``."""
        return deciding_scores(self.says)


# Told of each stripe of an image, from top to bottom.
OnRows = Callable[[JudgedRows], None]


def normalised_entropy(probabilities: Float[Tensor, "classes rows width"]) -> Float[Tensor, "rows width"]:
    """Entropy of each pixel as a share of the largest there is, that of equal chances: 0 sure, 1 no idea."""
    largest = math.log(len(probabilities)) or 1.0
    logarithms = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log_()
    return logarithms.mul_(probabilities).sum(dim=0).div_(-largest)
