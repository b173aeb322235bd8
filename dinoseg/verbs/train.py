"""``dinoseg train``: checks the data, prints the plan, runs the loop, says what comes next."""

import os
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from dinoseg.check.check import CheckReport, check_dataset
from dinoseg.config import Config, with_changes
from dinoseg.config.folds import ALL_FOLDS
from dinoseg.config.loading import save_config
from dinoseg.console.check_report import render_findings
from dinoseg.data.pictures import LARGEST_WHITE, BrighterThanWhite
from dinoseg.run_folder.beginning import unchanged_without_a_step
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.fold_runs import refuse_folds_below
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.lock import locked_run
from dinoseg.run_folder.trained_with import describe_learned
from dinoseg.system.accelerator import start_accelerator
from dinoseg.system.device import pick_device, refuse_sharded_weights
from dinoseg.system.files import replace_text
from dinoseg.system.messages import shell_word
from dinoseg.system.processes import any_process, failing_together, process_count
from dinoseg.tracking.trackers import refuse_missing_packages
from dinoseg.training.budget import Planned
from dinoseg.training.feature_cache import fill_feature_cache
from dinoseg.training.interruption import Interruption
from dinoseg.training.journal import Journal
from dinoseg.training.load_from import load_from
from dinoseg.training.load_published import load_address
from dinoseg.training.loop import Trainer
from dinoseg.training.pace import Estimate
from dinoseg.training.plan import describe_plan, estimate_time
from dinoseg.training.progress import Progress
from dinoseg.training.resume import best_progress, restore, resume_point
from dinoseg.training.setup import build_trainer, settle_steps, settled_by_data
from dinoseg.training.verdict import verdict
from dinoseg.verbs.fit_data import OwnData, checked_data
from dinoseg.verbs.learned_images import learned_before, learned_in_words
from dinoseg.zoo.address import Address, is_address

# Notes of the check that belong into the log of a training: what is done to the pictures.
_TOLD = ("white_level", "dropped_channel", "made_splits", "bands", "range", "no_data")


@dataclass(frozen=True)
class Start:
    """What a training starts from, beside its config.

    Attributes:
        resume: one of ``RESUME_CHOICES`` to go on with the training in ``output_dir``.
        own_data: what to train and evaluate on, in place of the config's folders.
        planned: what a plan made the config of; its budget then ends the training.
    """

    resume: str | None = None
    own_data: OwnData | None = None
    planned: Planned | None = None


ANEW = Start()


@dataclass(frozen=True)
class _Beginning:
    """What is known before the first step.

    Attributes:
        report: of the check.
        estimate: of the plan.
        announcement: what is going to happen: text, or what rich can draw.
        planned: what was planned before.
    """

    report: CheckReport
    estimate: Estimate
    announcement: list[Any]
    planned: Planned | None = None


def train(config: Config, console: Console, start: Start = ANEW) -> RunFolder:
    """Trains as the config says and returns the run folder.

    Raises:
        ValueError: the data is not fit for training, or weights are not to be had. An option does not fit, or is not
            that of the run to go on with. A tracker cannot be started, or a checkpoint cannot be read or written. The
            loss became not finite.
    """
    train_unless_stopped(config, console, start)
    return RunFolder(Path(config.output_dir))


def train_unless_stopped(config: Config, console: Console, start: Start = ANEW) -> bool:
    """As ``train``; returns whether a signal asked to stop meanwhile, in any process, be the training done or not."""
    refuse_what_cannot_be(config, start.own_data)
    accelerator = start_accelerator(pick_device(config.device))
    refuse_sharded_weights(accelerator.distributed_type.name)
    run = RunFolder(Path(config.output_dir))
    with ExitStack() as held:
        # What is wrong in one process only, a file missing on its machine, must not leave the others waiting for it.
        with failing_together():
            _refuse_read_only(run.path)
            if accelerator.is_main_process:
                held.enter_context(locked_run(run.path))
                held.enter_context(unchanged_without_a_step(run))
        return _train_in(run, config, console, accelerator, start)


def _train_in(run: RunFolder, config: Config, console: Console, accelerator: Accelerator, start: Start) -> bool:
    with failing_together():
        checkpoint, progress, config = resume_point(run, config, start.resume)
        if progress.is_finished(config.scheduler.total_iter, config.train.early_stopping):
            if accelerator.is_main_process:
                console.print("nothing left to train", highlight=False)
                console.print(_last_words(run, config, progress), soft_wrap=True, markup=False, highlight=False)
            return False
        if accelerator.is_local_main_process and process_count() > 1 and start.own_data is None:
            # It reads every mask; all processes then take what it found from the cache.
            check_dataset(config.datasets, config.decoder_head.num_classes, console=console)
    with failing_together():
        resumed_white = config.datasets.white_level or LARGEST_WHITE
        asked = config
        if checkpoint is not None:
            asked = run.with_recorded_splits(with_changes(config, {"datasets.white_level": resumed_white}))
        label_space, report = checked_data(asked, console, start.own_data)
        if checkpoint is None:
            config = settled_by_data(config, report)
        if checkpoint is not None and run.read_labels() != label_space:
            raise ValueError(f"{run.path}: the masks now give other labels than labels.json; resume on the same data")
        trainer = build_trainer(config, run, label_space, report, accelerator, checkpoint)
        remark = _starting_point(trainer, checkpoint)
    trainer.budget = None if start.planned is None else start.planned.budget
    estimate = estimate_time(trainer) if trainer.budget is None else trainer.budget.estimate(config)
    beginning = _Beginning(report, estimate, _announcement(trainer, report, estimate, remark), start.planned)
    if accelerator.is_main_process:
        # Before the pass over the images, which may take long: whoever sees a wrong label table stops it here.
        for part in beginning.announcement:
            console.print(part, soft_wrap=isinstance(part, str), markup=not isinstance(part, str))
    fill_feature_cache(trainer, console)
    beginning = _with_settled_steps(beginning, trainer, console)
    _start(trainer, console, checkpoint, beginning)
    return any_process(_run(trainer, report))


def _with_settled_steps(beginning: _Beginning, trainer: Trainer, console: Console) -> _Beginning:
    """With as many steps as there is room for after the features."""
    settled = settle_steps(trainer)
    if trainer.budget is None:
        return beginning
    if settled:
        console.print(settled, soft_wrap=True, markup=False, highlight=False)
    announcement = [*beginning.announcement, settled] if settled else beginning.announcement
    return replace(beginning, estimate=trainer.budget.estimate(trainer.config), announcement=announcement)


def refuse_what_cannot_be(config: Config, own_data: OwnData | None = None) -> None:
    """Raises ValueError for what no data can make a training of; nothing is read but the folder to write into."""
    if config.scheduler.total_iter == 0 and not config.load_from:
        raise ValueError(
            "scheduler.total_iter=0 trains nothing: give load_from, whose head is then evaluated, or steps"
        )
    if config.decoder_head.type == "eomt" and config.model.mode == "freeze":
        raise ValueError(
            "model.mode=freeze with decoder_head.type=eomt: its queries go through the backbone's own last blocks, "
            "which never met such tokens and must learn to answer them; set model.mode=full, or lora where memory is "
            "short, or decoder_head.type=pmt, which is made for a frozen backbone"
        )
    if own_data is not None and config.datasets.root:
        raise ValueError(
            f"datasets.root={config.datasets.root} and data sets of your own are both given; give one of them"
        )
    _refuse_folds(config, own_data)
    refuse_folds_below(Path(config.output_dir))
    refuse_missing_packages(config.trackers)
    if config.load_from and is_address(config.load_from):
        Address.parse(config.load_from)


def _refuse_folds(config: Config, own_data: OwnData | None) -> None:
    folds, fold = config.datasets.folds, config.datasets.fold
    if own_data is not None and folds is not None:
        raise ValueError(
            f"datasets.folds={folds} deals files, and data sets of your own are given; deal these yourself"
        )
    if fold == ALL_FOLDS:
        raise ValueError(f"datasets.fold=all: {folds} trainings, and this is one; name a fold, 0 to {(folds or 0) - 1}")


def _start(trainer: Trainer, console: Console, checkpoint: Checkpoint | None, beginning: _Beginning) -> None:
    """Opens the journal of the first process, which begins with what was announced."""
    if checkpoint is not None and checkpoint.name != "last":
        # So that a second restart goes on from it, too.
        trainer.save("last")
    with failing_together():
        if trainer.accelerator.is_main_process:
            resumed = checkpoint is not None
            trainer.journal = _open_journal(trainer, console, resumed)
            if not resumed:
                trainer.run_folder.record_splits(beginning.report.made_splits)
                if beginning.planned is not None:
                    replace_text(trainer.run_folder.plan, beginning.planned.recipe)
                    trainer.journal.note(beginning.planned.words)
            trainer.journal.estimate = beginning.estimate
            for part in beginning.announcement:
                trainer.journal.note(part)


def _run(trainer: Trainer, report: CheckReport) -> bool:
    """Trains to the end, or until a signal asks to stop; returns whether one did."""
    try:
        with Interruption() as interruption, warnings.catch_warnings():
            # The check named those pictures.
            warnings.simplefilter("ignore", BrighterThanWhite)
            progress = trainer.run(interruption)
        if trainer.journal:
            finished = progress.is_finished(trainer.config.scheduler.total_iter, trainer.config.train.early_stopping)
            # Not where a signal came while the last evaluation was saved.
            ended_evaluated = not interruption.requested and progress.evaluated_step == progress.step
            out_of_time = trainer.budget is not None and not finished and ended_evaluated
            if (finished or out_of_time) and (remark := verdict(trainer, report)):
                trainer.journal.say(remark)
            if trainer.budget is not None and out_of_time:
                factor, steps = trainer.schedule(progress.step), trainer.config.scheduler.total_iter
                trainer.journal.say(trainer.budget.end_in_words(progress.step, steps, factor))
            trainer.journal.say(_last_words(trainer.run_folder, trainer.config, trainer.progress))
        return interruption.requested
    finally:
        if trainer.journal:
            trainer.journal.close()


def _refuse_read_only(folder: Path) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        raise ValueError(
            f"output_dir={folder}: {existing} cannot be written to; give another output_dir, or make it writable"
        )


def _starting_point(trainer: Trainer, checkpoint: Checkpoint | None) -> str:
    """Loads what the training starts from; returns what the user should know of it, or an empty text."""
    if checkpoint is not None:
        return restore(trainer, checkpoint)
    source = trainer.config.load_from
    if not source:
        return ""
    if is_address(source):
        remark = load_address(trainer.segmenter, Address.parse(source), trainer.label_space)
    else:
        remark = load_from(trainer.segmenter, Path(source), trainer.label_space)
    if trainer.average is not None:
        trainer.average.restart()
    held_out = trainer.val_data.pairs
    learned = learned_before(trainer.config, held_out)
    trainer.checkpoint_metadata |= describe_learned(learned)
    return "\n".join([remark, learned_in_words(source, learned, len(held_out))]).strip()


def _announcement(trainer: Trainer, report: CheckReport, estimate: Estimate, remark: str) -> list[Any]:
    """What is going to happen: text, or what rich can draw."""
    parts: list[Any] = [describe_plan(trainer, report, estimate)]
    if any(finding.severity == "warning" or finding.code in _TOLD for finding in report.findings):
        parts.append(render_findings(report))
    return [*parts, remark] if remark else parts


def _open_journal(trainer: Trainer, console: Console, resumed: bool) -> Journal:
    run = trainer.run_folder
    run.path.mkdir(parents=True, exist_ok=True)
    save_config(trainer.config, run.config)
    trainer.label_space.save(run.labels)
    progress = trainer.progress
    return Journal(
        run,
        console,
        trainer.config,
        trainer.label_space,
        progress.step if resumed else None,
        progress.evaluated_step,
    )


def _last_words(run: RunFolder, config: Config, progress: Progress) -> str:
    patience = config.train.early_stopping
    if progress == Progress():
        return "stopped before the first step: nothing is kept; the same command starts again"
    if not progress.is_finished(config.scheduler.total_iter, patience):
        saved = (
            f"stopped after step {progress.step}; saved as {run.path}/checkpoints/last\n"
            f"go on with: dinoseg train {shell_word(run.path)} --resume"
        )
        return f"{saved}\n{_next_words(run, progress)}" if progress.evaluated_step == progress.step else saved
    best = "n/a" if progress.best_metric is None else f"{progress.best_metric:.2f}"
    done = "done"
    if progress.step < config.scheduler.total_iter:
        done = (
            f"stopped early after step {progress.step} of {config.scheduler.total_iter}, "
            f"{progress.evaluations_since_best} evaluations without a better {config.metric_to_save} "
            f"(train.early_stopping={patience})"
        )
    return f"{done}: best {config.metric_to_save} {best} at step {progress.best_step}\n{_next_words(run, progress)}"


def _next_words(run: RunFolder, progress: Progress) -> str:
    # Where no evaluation had a figure, as of masks in which all is ignored, there is no best checkpoint.
    has_best = progress.best_metric is not None and best_progress(run) is not None
    which = shell_word(run.path) + ("" if has_best else " --checkpoint last")
    return f"next: dinoseg eval {which}\n      dinoseg predict {which} IMAGES --out predictions/"
