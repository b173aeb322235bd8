"""What ``dinoseg eval`` was asked for: a run, a shard of it, the sum of its shards, or label maps of any tool."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dinoseg.config_loading import is_setting
from dinoseg.evaluation.label_maps import evaluate_label_maps
from dinoseg.evaluation.run import evaluate_run, evaluate_shard, merge_run
from dinoseg.evaluation.shards import Shard


@dataclass(frozen=True)
class EvaluationRequest:
    """The options as they were given; None where one was left out.

    Attributes:
        arguments: the run folder and ``key=value`` settings, in any order.
    """

    arguments: Sequence[str]
    split: str | None = None
    checkpoint: str | None = None
    shard: str | None = None
    merge: bool = False
    predictions: Path | None = None
    masks: Path | None = None
    out: Path | None = None

    @property
    def settings(self) -> list[str]:
        """The ``key=value`` arguments."""
        return [argument for argument in self.arguments if is_setting(argument)]

    @property
    def runs(self) -> list[str]:
        """The other arguments."""
        settings = self.settings
        return [argument for argument in self.arguments if argument not in settings]


def run_request(request: EvaluationRequest, console: Console) -> None:
    """Does what was asked for.

    Raises:
        ValueError: options that do not go together (names them), or whatever the work itself finds wrong.
    """
    if request.predictions is not None or request.masks is not None:
        _score(request, console)
        return
    if request.out is not None:
        raise ValueError("--out goes with --predictions; a run is evaluated into its own folder, eval/<split>")
    if len(request.runs) != 1:
        found = f"found {', '.join(request.runs)}" if request.runs else "found none"
        raise ValueError(f"give one run folder ({found}), or label maps with --predictions DIR --masks DIR")
    run, split, checkpoint = Path(request.runs[0]), request.split or "val", request.checkpoint or "best"
    if request.merge:
        _refuse("--merge takes everything from the shards", request, ("shard", "checkpoint"))
        if request.settings:
            raise ValueError(f"--merge takes everything from the shards; leave out {', '.join(request.settings)}")
        merge_run(run, split, console)
    elif request.shard is not None:
        evaluate_shard(run, request.settings, split, checkpoint, Shard.parse(request.shard), console)
    else:
        evaluate_run(run, request.settings, split, checkpoint, console)


def _score(request: EvaluationRequest, console: Console) -> None:
    if request.predictions is None or request.masks is None:
        given, missing = ("--masks", "--predictions") if request.predictions is None else ("--predictions", "--masks")
        raise ValueError(f"{given} is given without {missing}; give both, to score label maps against masks")
    _refuse("--predictions scores label maps without a run", request, ("split", "checkpoint", "shard", "merge"))
    if request.runs:
        raise ValueError(f"--predictions scores label maps without a run; leave out {', '.join(request.runs)}")
    evaluate_label_maps(request.predictions, request.masks, request.settings, request.out, console)


def _refuse(reason: str, request: EvaluationRequest, options: Sequence[str]) -> None:
    given = [f"--{option}" for option in options if getattr(request, option)]
    if given:
        raise ValueError(f"{reason}; leave out {', '.join(given)}")
