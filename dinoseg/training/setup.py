"""From a config and a checked data set to a trainer."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator

from dinoseg.backbone import backbone_hash
from dinoseg.check.check import CheckReport
from dinoseg.config import Config, with_changes
from dinoseg.data.dataset import EvaluationDataset, SegmentationDataset
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.transforms import build_eval_transform, build_train_transform
from dinoseg.evaluation.settings import evaluation_settings
from dinoseg.inference.decision import asked_of_calibration
from dinoseg.labels import LabelSpace
from dinoseg.losses.criterion import build_criterion
from dinoseg.models.segmenter import build_segmenter
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.trained_with import describe_training
from dinoseg.system.messages import duration_in_words, plural
from dinoseg.system.processes import process_count
from dinoseg.training.budget import FEWEST_STEPS, evaluation_interval
from dinoseg.training.feature_cache import settle_feature_cache
from dinoseg.training.loop import Trainer
from dinoseg.training.optim import build_schedule, scaled_options
from dinoseg.training.progress import Progress
from dinoseg.training.resume import describe_inputs

# Of the time that is left, for steps that only tell how long a step takes.
_REHEARSAL = 0.03
# By a step that takes so many times what it was measured to take, or so many times less, another way may be the best.
_FAR = 2.0


def settled_by_data(config: Config, report: CheckReport) -> Config:
    """The config with what the check found of the pictures: white level, mean, deviation and range."""
    return with_changes(config, {"datasets.white_level": report.white_level} | report.measured.changes(config))


def build_trainer(
    config: Config,
    run: RunFolder,
    label_space: LabelSpace,
    report: CheckReport,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None = None,
) -> Trainer:
    """Data, model, loss, window and measures of a training, ready for its first step.

    Args:
        checkpoint: that the training goes on from; a backbone that it holds takes the place of ``model.weights``.

    Raises:
        ValueError: an option does not fit, or the backbone's weights are not to be had.
    """
    # Transforms, window and measures are checked before the weights are loaded: a wrong option costs no waiting.
    train_transform = build_train_transform(config.transforms, label_space.ignore_index)
    evaluation_settings(config, label_space)
    _refuse_calibrated(config)
    criterion = build_criterion(config, label_space, report.class_pixels("train"), report.most_classes)
    torch.manual_seed(config.seed)
    segmenter = build_segmenter(config, label_space.num_classes)
    backbone_sha256 = backbone_hash(segmenter.backbone.frozen_state())
    holds_another = False
    if checkpoint is not None and checkpoint.holds_backbone and config.model.mode != "full":
        # Before features are looked up by its hash.
        checkpoint.load_into(segmenter)
        given, backbone_sha256 = backbone_sha256, backbone_hash(segmenter.backbone.frozen_state())
        holds_another = given != backbone_sha256
    train_pairs, val_pairs = report.pairs["train"], report.pairs["val"]
    form = PictureForm.of(config.datasets)
    metadata = {
        "format": "dinoseg 1",
        "backbone": config.model.dino_hub,
        "backbone_sha256": backbone_sha256,
        "backbone_saved": "true" if _saves_backbone(config) or holds_another else "false",
        **describe_inputs(train_pairs, val_pairs, config.bs * process_count()),
    }
    train_data = SegmentationDataset(train_pairs, label_space, train_transform, config.seed, form)
    val_data = EvaluationDataset(val_pairs, label_space, build_eval_transform(config.transforms), form)
    config, features, words = settle_feature_cache(config, segmenter.backbone, backbone_sha256, train_data, val_data)
    # Test-time augmentation follows what was settled.
    settings = evaluation_settings(config, label_space)
    metadata |= describe_training(config, label_space)
    return Trainer(
        config=config,
        run_folder=run,
        label_space=label_space,
        segmenter=segmenter.to(accelerator.device),
        criterion=criterion,
        train_data=train_data,
        val_data=val_data,
        evaluation_settings=settings,
        accelerator=accelerator,
        checkpoint_metadata=metadata,
        features=features,
        features_in_words=words,
    )


def settle_steps(trainer: Trainer) -> str:
    """Gives the training as many steps as its budget has room for now, before the first of them; says how many.

    Nothing without a budget, or where steps were given.

    Raises:
        ValueError: as ``Trainer.run``.
    """
    if trainer.budget is None or not trainer.budget.settles_steps:
        return ""
    measured = trainer.budget.step_seconds
    budget = trainer.budget = replace(trainer.budget, step_seconds=_rehearsed_step(trainer, trainer.budget.left()))
    before, steps = trainer.config.scheduler.total_iter, budget.room()
    if steps < FEWEST_STEPS <= before:
        return (
            f"warning: features took so long that there is room for {plural(steps, 'step')} of {before}: the schedule "
            "stays, and the budget ends it; --resume goes on to its end, or start anew: the features are kept"
        )
    changes: dict[str, Any] = {"scheduler.total_iter": steps}
    options = trainer.config.scheduler.constructor_kwargs
    if not budget.keeps_options or options.get("warmup_iters", 0) >= steps:
        changes["scheduler.constructor_kwargs"] = scaled_options(options, before, steps)
    if budget.interval is None:
        changes["eval.eval_interval"] = evaluation_interval(steps, budget.evaluations)
    trainer.config = with_changes(trainer.config, changes)
    trainer.schedule = build_schedule(trainer.config.scheduler)
    trainer.checkpoint_metadata |= describe_training(trainer.config, trainer.label_space)
    left = duration_in_words(budget.left())
    pace = f"{budget.step_seconds:.2g} s each"
    said = f"steps        {steps} of {pace} in the {left} that are left (planned before: {before})"
    return "\n".join([said, *_far_from_plan(measured, budget.step_seconds)])


def _far_from_plan(measured: float, rehearsed: float) -> list[str]:
    """What to know where a plan was made by seconds of a step that are not those of the training."""
    if not measured or 1 / _FAR < rehearsed / measured < _FAR:
        return []
    return [
        f"warning: a step takes {rehearsed:.2g} s, and took {measured:.2g} s when the plan was made: the machine was "
        "busy with something else, then or now, and another plan may be better; stop this one, and start it anew, "
        "where that matters"
    ]


def _rehearsed_step(trainer: Trainer, left: float) -> float:
    """Seconds of a step, of steps that a copy does on the data and features of the training, which stays as it is.

    The plan measured on one image, in a process that had just begun: CamVid, 0.14 s where the training then took 0.09.

    Args:
        left: seconds of the budget.
    """
    # Of any length: a step takes as long in the warm-up.
    long = with_changes(trainer.config, {"scheduler.total_iter": 10_000, "scheduler.constructor_kwargs": {}})
    copy = deepcopy(trainer.segmenter)
    rehearsal = replace(trainer, config=long, segmenter=copy, journal=None, budget=None, progress=Progress())
    steps = rehearsal.timed_steps(_REHEARSAL * left)
    return sum(steps) / len(steps)


def _saves_backbone(config: Config) -> bool:
    # A random backbone is to be had nowhere else, and a trained one neither; resampling differs a little by machine.
    resampled = config.model.patch_size is not None
    return config.model.save_backbone or config.model.mode == "full" or config.model.weights == "none" or resampled


def _refuse_calibrated(config: Config) -> None:
    for asked in asked_of_calibration(config):
        raise ValueError(
            f"{asked.key}=true: {asked.noun} are found once a run is trained, by `dinoseg calibrate RUN "
            f"{asked.found_by()}`; leave it out of the training, and give it to eval and predict"
        )
