"""Evaluation out of fold: each image of a cross-validation is scored by the run that held it out, all in one matrix."""

from pathlib import Path

from rich.console import Console

from dinoseg.data.pairs import Split
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.out_of_fold import HeldOut, join_folds
from dinoseg.inference.chosen_runs import Chosen, ChosenEnsemble, OpenedEnsemble
from dinoseg.inference.decision import BY_SCORES
from dinoseg.run_folder.fold_runs import find_fold_runs
from dinoseg.run_folder.folder import names_other_images
from dinoseg.run_folder.trained_with import read_learned
from dinoseg.system.processes import process_rank
from dinoseg.verbs.evaluate import (
    checked_split,
    evaluate_pairs,
    evaluate_run,
    evaluate_split,
    extra_of,
    figures_target,
    find_scored_pairs,
    settings_of,
    write_and_show,
)

# The split that folds hold out.
_HELD_OUT: Split = "val"


def evaluate_chosen(run: Chosen, split: str, console: Console, out: Path | None = None) -> Evaluation:
    """Evaluates what a user names: val of a cross-validation out of fold, all else by ``evaluate_run``.

    Raises:
        ValueError: see ``evaluate_run``.
    """
    folds = _folds_of(run, split)
    return evaluate_run(run, split, console, out) if folds is None else evaluate_folds(folds, console, out)


def count_chosen(run: Chosen, split: str, console: Console) -> Evaluation:
    """The same, which prints and writes nothing."""
    folds = _folds_of(run, split)
    return evaluate_split(run, split, console) if folds is None else _count(folds, console)


def refuse_parts_of_folds(run: Chosen, split: str) -> None:
    """Raises ValueError where val of a cross-validation is to be counted in shards."""
    folds = _folds_of(run, split)
    if folds is not None:
        raise ValueError(
            f"{folds.words}: is evaluated out of fold, each image by one of {len(folds.runs)} runs, and --shard and "
            f"--merge are of one; leave them out, or give one of the folders in it, such as {folds.runs[0].words}"
        )


def evaluate_folds(folds: ChosenEnsemble, console: Console, out: Path | None = None) -> Evaluation:
    """Counts every fold with its run, prints the table and writes ``eval/val/`` into the folder of the folds.

    Args:
        folds: of a ``FoldRuns``, in their order.
        out: folder for the figures in place of that.

    Raises:
        ValueError: see ``evaluate_run``; or folds that overlap, or predict in different ways.
    """
    target = figures_target(folds, checked_split(_HELD_OUT, out), out)
    evaluation = _count(folds, console)
    if process_rank() == 0:
        write_and_show(evaluation, target, extra_of(folds, _HELD_OUT, folds.hash_of(folds.checkpoint)), console)
    return evaluation


def _count(folds: ChosenEnsemble, console: Console) -> Evaluation:
    assert folds.folder is not None
    found = find_fold_runs(folds.folder)
    if found is not None:
        found.refuse_other_deals()
    opened = folds.open()
    assert isinstance(opened, OpenedEnsemble)
    if any(file is not None and file.is_file() for file in (member.source.calibration for member in opened.members)):
        console.print(
            "note: out of fold no temperature is used: each was fitted to the images that its run held out",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    held_out = []
    for member in opened.members:
        pairs = find_scored_pairs(member.config, _HELD_OUT)
        title = Path(member.origin.run).name
        # A temperature was fitted to the very images that are held out.
        plain, settings = member.deciding_by(BY_SCORES), settings_of(member, folds)
        evaluation = evaluate_pairs(plain, settings, pairs, title, console)
        held_out.append(HeldOut(member.origin, evaluation, read_learned(member.source.metadata)))
    return join_folds(held_out)


def _folds_of(run: Chosen, split: str) -> ChosenEnsemble | None:
    """The runs, where they are those of a cross-validation and what they held out is asked for."""
    if not isinstance(run, ChosenEnsemble) or run.folder is None or split != _HELD_OUT:
        return None
    if names_other_images(run.overrides):
        return None
    return run if find_fold_runs(run.folder) is not None else None
