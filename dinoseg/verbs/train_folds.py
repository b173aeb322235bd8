"""``dinoseg train`` with ``datasets.fold=all``: a training for each fold, one after the other, then one evaluation."""

from pathlib import Path

from rich.console import Console

from dinoseg.check.check import check_dataset
from dinoseg.config import Config, with_changes
from dinoseg.config.folds import ALL_FOLDS
from dinoseg.inference.chosen_runs import ChosenEnsemble, choose_runs
from dinoseg.run_folder.fold_runs import FoldImages, FoldRuns
from dinoseg.run_folder.folder import RunFolder
from dinoseg.system.accelerator import start_accelerator
from dinoseg.system.device import pick_device
from dinoseg.system.messages import shell_word
from dinoseg.system.processes import failing_together, process_rank
from dinoseg.training.resume import RESUME_CHOICES, find_resume_point, resume_point
from dinoseg.verbs.evaluate_folds import evaluate_folds
from dinoseg.verbs.train import Start, train, train_unless_stopped

# Ways to go on that every fold can take, whether it has begun or not.
_RESUME = ("last", "auto")


def train_as_asked(config: Config, console: Console, resume: str | None = None) -> None:
    """One training, or one for each fold.

    Raises:
        ValueError: see ``train`` and ``train_folds``.
    """
    if config.datasets.fold == ALL_FOLDS:
        train_folds(config, console, resume)
        return
    train(config, console, Start(resume))


def train_folds(config: Config, console: Console, resume: str | None = None) -> None:
    """Trains what is not finished yet, fold by fold; then evaluates out of fold, and makes the folder an ensemble.

    Args:
        resume: None refuses a fold that was begun and is not finished; ``last`` and ``auto`` go on with it.

    Raises:
        ValueError: the folder is in use for something else, its runs are of another config or other images, or what
            ``train`` and ``evaluate_folds`` raise.
    """
    assert config.datasets.folds is not None
    runs = FoldRuns(Path(config.output_dir), config.datasets.folds)
    # From here on the processes of a launch know of each other.
    start_accelerator(pick_device(config.device))
    shown = console if process_rank() == 0 else Console(quiet=True)
    with failing_together():
        _refuse_unfit(runs, config, resume)
    for number, run in enumerate(runs.runs):
        of_fold = _config_of(run, config, number)
        if _is_finished(run, of_fold):
            shown.print(f"fold {number}: finished, kept in {run.path}", soft_wrap=True, markup=False, highlight=False)
            continue
        shown.rule(f"fold {number}, {number + 1} of {runs.folds}")
        stopped = train_unless_stopped(of_fold, console, Start(None if resume is None else "auto"))
        with failing_together():
            runs.refuse_other_deals()
        if stopped or not _is_finished(run, of_fold):
            # A signal may have met a training at its end.
            said = f"stopped in fold {number} of {runs.folds}: the same command with --resume goes on"
            shown.print(said, soft_wrap=True, markup=False, highlight=False)
            return
    _conclude(runs, config, shown)


def _conclude(runs: FoldRuns, config: Config, shown: Console) -> None:
    with failing_together():
        if process_rank() == 0:
            runs.record()
    shown.rule("out of fold")
    together = choose_runs(runs.path, device=config.device)
    assert isinstance(together, ChosenEnsemble)
    evaluate_folds(together, shown)
    shown.print(
        f"next: dinoseg predict {shell_word(runs.path)} IMAGES --out predictions/   (the mean of {runs.folds} runs)\n"
        f"      dinoseg eval {shell_word(runs.path)} --split test",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _config_of(run: RunFolder, config: Config, number: int) -> Config:
    return with_changes(config, {"datasets.fold": str(number), "output_dir": str(run.path)})


def _is_finished(run: RunFolder, config: Config) -> bool:
    """Whether nothing is left to train. Raises ValueError where the run is of another config."""
    with failing_together():
        if not _has_begun(run):
            return False
        _, progress, settled = resume_point(run, config, "last")
        return progress.is_finished(settled.scheduler.total_iter, settled.train.early_stopping)


def _has_begun(run: RunFolder) -> bool:
    return find_resume_point(run, "auto") is not None


def _refuse_unfit(runs: FoldRuns, config: Config, resume: str | None) -> None:
    """Before the first step: what would end the training of a later fold, or make the folds no cross-validation."""
    if resume is not None and resume not in RESUME_CHOICES:
        raise ValueError(f"--resume {resume}: choose {', '.join(_RESUME)}")
    if resume is not None and resume not in _RESUME:
        raise ValueError(
            f"--resume {resume} is of one run, and datasets.fold=all of {runs.folds}; go on with that fold alone, "
            f"dinoseg train {shell_word(runs.run(0).path)} --resume {resume}, or with plain --resume"
        )
    if config.scheduler.total_iter == 0:
        raise ValueError(
            "scheduler.total_iter=0 with datasets.fold=all trains nothing: every fold would be load_from as it is; "
            "leave datasets.folds out, or give steps"
        )
    runs.refuse_other_use()
    begun = [(number, run) for number, run in enumerate(runs.runs) if _has_begun(run)]
    if resume == "last" and not begun:
        raise ValueError(
            f"{runs.path}: nothing to resume there (no fold has a checkpoint); leave --resume out to start, or use "
            "--resume auto, which starts when there is nothing to go on with"
        )
    for number, run in begun:
        _, progress, settled = resume_point(run, _config_of(run, config, number), "last")
        if resume is None and not progress.is_finished(settled.scheduler.total_iter, settled.train.early_stopping):
            raise ValueError(
                f"{run.path}: begun, and not finished (step {progress.step}); add --resume to go on with it, or give "
                "another output_dir"
            )
    runs.refuse_other_deals(_to_begin(runs, config, len(begun)))


def _to_begin(runs: FoldRuns, config: Config, begun: int) -> dict[str, FoldImages]:
    """What the first fold that has not begun would hold out now, where others have.

    Known before it is trained: hours later it would be for nothing.
    """
    missing = [number for number, run in enumerate(runs.runs) if not _has_begun(run)]
    if not begun or not missing:
        return {}
    run = runs.run(missing[0])
    made = check_dataset(_config_of(run, config, missing[0]).datasets).made_splits
    return {} if made is None else {run.path.name: FoldImages(train=list(made["train"]), val=list(made["val"]))}
