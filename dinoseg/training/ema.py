"""Exponential moving average of the trained weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An FP32 shadow of the trained weights, moved a little towards them after each optimiser step.

    ``shadow <- d * shadow + (1 - d) * weight`` with ``d = min(decay, (1 + step) / (10 + step))``: early on the average
    is a short one, so that random first weights are soon forgotten. The factor depends on the step alone, hence a
    resumed training averages as an uninterrupted one. BatchNorm statistics are running averages already and stay as
    they are.

    Args:
        module: whose parameters with gradient are averaged; its present weights are the first shadow.
        decay: largest ``d``, above 0 and below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Makes the present weights the shadow."""
        self._shadow = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after optimiser step ``step`` (1, 2, ...)."""
        kept = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self._shadow[name].lerp_(parameter.detach().float(), 1 - kept)

    @torch.no_grad()
    def resume(self, trained: dict[str, Tensor]) -> None:
        """Makes the present weights, which are those of a checkpoint, the shadow; and ``trained`` the weights."""
        self.restart()
        self._set(trained)

    @contextmanager
    def applied(self) -> Iterator[dict[str, Tensor]]:
        """The module has the averaged weights meanwhile; gives the trained ones, by parameter name."""
        trained = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._set(self._shadow)
        try:
            yield trained
        finally:
            self._set(trained)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
