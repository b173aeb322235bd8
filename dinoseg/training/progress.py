"""Where a training stands, and when it is done."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

# As a checkpoint's ``checkpoint.json`` may have them.
_Count = Annotated[int, Field(strict=True, ge=0)]
_Percent = Annotated[float, Field(strict=True, ge=0, le=100.000001)]


@dataclass
class Progress:
    """What resume needs beside weights and optimiser state; the same in every process.

    Attributes:
        step: optimiser steps done.
        best_metric: best value of ``metric_to_save`` so far, in percent; None before the first evaluation.
        best_step: the step it was reached at.
        evaluated_step: the step of the last evaluation that was finished; None before the first.
        evaluations_since_best: evaluations finished after ``best_step``, none of them better.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    step: _Count = 0
    best_metric: _Percent | None = None
    best_step: _Count = 0
    evaluated_step: _Count | None = None
    evaluations_since_best: _Count = 0

    def is_evaluation_due(self, interval: int, total: int) -> bool:
        """Whether this step is one that is evaluated, and its evaluation is not done yet."""
        evaluated = self.step == total or (self.step > 0 and self.step % interval == 0)
        return evaluated and self.evaluated_step != self.step

    def finish_evaluation(self, found: float | None) -> bool:
        """Notes that this step was evaluated and returns whether the figure is the best so far.

        It becomes the best by ``set_best``.

        Args:
            found: ``metric_to_save``, in percent; None when it is undefined.
        """
        better = found is not None and (self.best_metric is None or found > self.best_metric)
        self.evaluated_step = self.step
        # An evaluation that a kill took back is done again: that of the best step itself is none after it.
        after_best = not better and self.step > self.best_step
        self.evaluations_since_best = self.evaluations_since_best + 1 if after_best else 0
        return better

    def set_best(self, metric: float | None, step: int) -> None:
        """Sets the figure to beat and the step it was reached at."""
        if step != self.best_step:
            self.evaluations_since_best = 0
        self.best_metric, self.best_step = metric, step

    def is_stopped_early(self, patience: int | None) -> bool:
        """Whether ``patience`` evaluations in a row gave nothing better (``train.early_stopping``; None: never)."""
        return patience is not None and self.evaluations_since_best >= patience

    def is_finished(self, total: int, patience: int | None) -> bool:
        """Whether nothing is left to do, the last evaluation included."""
        return self.is_stopped_early(patience) or (self.step >= total and self.evaluated_step == self.step)
