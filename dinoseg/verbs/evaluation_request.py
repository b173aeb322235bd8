"""What ``dinoseg eval`` was asked for, and who does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dinoseg.config.loading import is_setting
from dinoseg.config.unused_keys import note_other_keys, note_unused_keys
from dinoseg.evaluation.shards import Shard
from dinoseg.inference.chosen_head import ChosenHead
from dinoseg.inference.chosen_runs import choose_runs, describing_keys
from dinoseg.verbs.evaluate import evaluate_shard, merge_run
from dinoseg.verbs.evaluate_folds import evaluate_chosen, refuse_parts_of_folds
from dinoseg.verbs.score import USED_KEYS, evaluate_label_maps


@dataclass(frozen=True)
class EvaluationRequest:
    """The options as they were given; None where one was left out.

    Attributes:
        arguments: run folders and ``key=value`` settings, in any order.
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
    if not request.runs:
        raise ValueError(
            "no run is given; give one or more run folders, or label maps with --predictions DIR --masks DIR"
        )
    checkpoint = "best" if request.checkpoint is None else request.checkpoint
    run = choose_runs(request.runs, checkpoint, None, request.settings)
    if request.out is not None and run.keeps_figures:
        raise ValueError(
            "--out goes with several runs, a published head, or --predictions; a run is evaluated into its own folder, "
            "eval/<split>"
        )
    split = "val" if request.split is None else request.split
    if request.merge or request.shard is not None:
        refuse_parts_of_folds(run, split)
    if request.merge:
        _refuse("--merge takes everything from the shards", request, ("shard", "checkpoint"))
        # Those of a published head may say what it is.
        if request.settings and not isinstance(run, ChosenHead):
            raise ValueError(f"--merge takes everything from the shards; leave out {', '.join(request.settings)}")
        merge_run(run, split, console, request.out)
    elif request.shard is not None:
        evaluate_shard(run, split, Shard.parse(request.shard), console, request.out)
    else:
        evaluate_chosen(run, split, console, request.out)
    # Not before: of a key that is refused it would be the wrong thing to say.
    note_unused_keys(request.settings, "eval", describing_keys(run))


def _score(request: EvaluationRequest, console: Console) -> None:
    if request.predictions is None or request.masks is None:
        given, missing = ("--masks", "--predictions") if request.predictions is None else ("--predictions", "--masks")
        raise ValueError(f"{given} is given without {missing}; give both, to score label maps against masks")
    _refuse("--predictions scores label maps without a run", request, ("split", "checkpoint", "shard", "merge"))
    if request.runs:
        raise ValueError(f"--predictions scores label maps without a run; leave out {', '.join(request.runs)}")
    evaluate_label_maps(request.predictions, request.masks, request.settings, request.out, console)
    why = "label maps are counted as they are, without a model"
    note_other_keys(request.settings, USED_KEYS, "eval --predictions", why)


def _refuse(reason: str, request: EvaluationRequest, options: Sequence[str]) -> None:
    given = [f"--{option}" for option in options if getattr(request, option)]
    if given:
        raise ValueError(f"{reason}; leave out {', '.join(given)}")
