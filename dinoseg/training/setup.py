"""From a config to a training: checks the data, builds everything, prints the plan, runs the loop."""

from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from dinoseg.backbone import backbone_hash
from dinoseg.config import Config
from dinoseg.config_loading import save_config
from dinoseg.data.check import CheckReport, check_dataset
from dinoseg.data.check_report import render_findings
from dinoseg.data.dataset import EvaluationDataset, SegmentationDataset
from dinoseg.data.folders import find_pairs
from dinoseg.data.transforms import build_eval_transform, build_train_transform
from dinoseg.inference.policy import window_policy
from dinoseg.labels import LabelSpace
from dinoseg.losses.build import build_criterion
from dinoseg.models.segmenter import build_segmenter
from dinoseg.processes import process_rank
from dinoseg.run_folder import RunFolder
from dinoseg.training.checkpoint import find_checkpoint, load_weights, read_trainer
from dinoseg.training.device import pick_device
from dinoseg.training.interruption import Interruption
from dinoseg.training.journal import Journal
from dinoseg.training.load_from import load_head
from dinoseg.training.loop import Progress, Trainer
from dinoseg.training.plan import describe_plan, estimate_seconds


def train(config: Config, console: Console, resume: bool = False) -> RunFolder:
    """Trains as the config says and returns the run folder.

    Raises:
        ValueError: the data is not fit for training, an option does not fit, weights are not to be had, or the loss
            became not finite.
    """
    device = pick_device(config.device)
    accelerator = Accelerator(cpu=device.type == "cpu")
    run = RunFolder(Path(config.output_dir))
    _check_folder(run, resume)
    label_space, report = _check_data(config, console)
    if resume and run.read_labels() != label_space:
        raise ValueError(f"{run.path}: the masks now give other labels than labels.json; resume on the same data")
    trainer = _build_trainer(config, run, label_space, report, accelerator)
    started_from = ""
    if resume:
        _restore(trainer)
    elif config.load_from:
        started_from = load_head(trainer.segmenter, Path(config.load_from))
    seconds = estimate_seconds(trainer)
    if accelerator.is_main_process:
        trainer.journal = _open_journal(trainer, console, resume)
        trainer.journal.say(describe_plan(trainer, report, seconds))
        if any(finding.severity == "warning" for finding in report.findings):
            trainer.journal.say(render_findings(report))
        if started_from:
            trainer.journal.say(started_from)
    try:
        with Interruption() as interruption:
            trainer.run(interruption)
        if trainer.journal:
            trainer.journal.say(_last_words(trainer))
    finally:
        if trainer.journal:
            trainer.journal.close()
    return run


def _check_folder(run: RunFolder, resume: bool) -> None:
    there = run.checkpoint("last").exists() or run.checkpoint("best").exists()
    if resume and not there:
        raise ValueError(f"{run.path}: nothing to resume there; leave --resume out to start")
    if there and not resume:
        raise ValueError(
            f"{run.path}: holds a training already; add --resume to go on with it, or give another output_dir"
        )


def _check_data(config: Config, console: Console) -> tuple[LabelSpace, CheckReport]:
    main = process_rank() == 0
    report = check_dataset(config.datasets, config.decoder_head.num_classes, console=console if main else None)
    if not report.ok or report.label_space is None:
        errors = [finding for finding in report.findings if finding.severity == "error"]
        if len(errors) == 1:
            raise ValueError("; ".join(text for text in (errors[0].message, errors[0].advice) if text))
        if main:
            console.print(render_findings(report))
        raise ValueError(f"the data set is not fit for training ({len(errors)} errors, listed above)")
    return report.label_space, report


def _build_trainer(
    config: Config, run: RunFolder, label_space: LabelSpace, report: CheckReport, accelerator: Accelerator
) -> Trainer:
    # The transforms and the window are checked before the weights are loaded: a wrong option costs no waiting.
    train_transform = build_train_transform(config.transforms, label_space.ignore_index)
    window = window_policy(config)
    criterion = build_criterion(config, label_space, report.class_pixels("train"), report.most_classes)
    torch.manual_seed(config.seed)
    segmenter = build_segmenter(config, label_space.num_classes)
    metadata = {
        "format": "dinoseg 1",
        "backbone": config.model.dino_hub,
        "backbone_sha256": backbone_hash(segmenter.backbone.state_dict()),
        "backbone_saved": "true" if _saves_backbone(config) else "false",
    }
    return Trainer(
        config=config,
        run_folder=run,
        label_space=label_space,
        segmenter=segmenter.to(accelerator.device),
        criterion=criterion,
        train_data=SegmentationDataset(
            find_pairs(config.datasets, "train").pairs, label_space, train_transform, config.seed
        ),
        val_data=EvaluationDataset(
            find_pairs(config.datasets, "val").pairs, label_space, build_eval_transform(config.transforms)
        ),
        window=window,
        accelerator=accelerator,
        checkpoint_metadata=metadata,
    )


def _saves_backbone(config: Config) -> bool:
    # A random backbone is to be had nowhere else, and a trained one neither.
    return config.model.save_backbone or config.model.mode == "full" or config.model.weights == "none"


def _restore(trainer: Trainer) -> None:
    folder = find_checkpoint(trainer.run_folder.checkpoint("last"))
    load_weights(folder, trainer.segmenter)
    state = read_trainer(folder)
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.progress = Progress(state["step"], state["best_metric"], state["best_step"])


def _open_journal(trainer: Trainer, console: Console, resume: bool) -> Journal:
    run = trainer.run_folder
    run.path.mkdir(parents=True, exist_ok=True)
    save_config(trainer.config, run.config)
    trainer.label_space.save(run.labels)
    return Journal(run, console, trainer.progress.step if resume else None)


def _last_words(trainer: Trainer) -> str:
    run, progress, metric = trainer.run_folder.path, trainer.progress, trainer.config.metric_to_save
    if progress.step < trainer.config.scheduler.total_iter:
        return (
            f"stopped after step {progress.step}; saved as {run}/checkpoints/last\n"
            f"go on with: dinoseg train config={run}/config.yaml --resume"
        )
    best = "n/a" if progress.best_metric is None else f"{progress.best_metric:.2f}"
    return (
        f"done: best {metric} {best} at step {progress.best_step}\n"
        f"next: dinoseg eval {run}\n      dinoseg predict {run} IMAGES --out predictions/"
    )
