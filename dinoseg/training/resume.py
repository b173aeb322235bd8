"""Going on with a training: from which checkpoint, whether config and data are still those it began with."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dinoseg.config import Config, get_key
from dinoseg.config.loading import describe_keys, show_value
from dinoseg.data.folders import Pair
from dinoseg.run_folder.checkpoint import (
    MODEL_FILE,
    PREVIOUS,
    find_checkpoint,
    load_weights,
    read_metadata,
    read_trainer,
    refuse_other_backbone,
)
from dinoseg.run_folder.checkpoint_manifest import read_progress, verify
from dinoseg.run_folder.folder import RunFolder
from dinoseg.training.loop import Trainer
from dinoseg.training.progress import Progress

RESUME_CHOICES = ("last", "auto", PREVIOUS, "best")

# What may change in mid-training. Data, weights and the batch are compared by what they are, not by how they are given.
_FREE = (
    "bs",
    "num_workers",
    "device",
    "output_dir",
    "trackers",
    "model.weights",
    "model.save_backbone",
    "model.gradient_checkpointing",
    "decoder_head.activation_checkpointing",
    "datasets.root",
    "datasets.test",
    "train.log_interval",
    "train.checkpoint_interval",
    "train.early_stopping",
    "eval.batch_size",
    "eval.eval_interval",
    "eval.compute_metric_per_image",
    "eval.boundary_iou",
    "eval.boundary_width",
    "eval.cldice",
    "eval.num_visualizations",
)
_DECIDES_BEST = ("metric_to_save", "eval.", "transforms.eval.")


def find_resume_point(run: RunFolder, resume: str | None) -> Path | None:
    """The folder of the checkpoint to go on from; None to start from the beginning.

    Args:
        resume: None: start; ``last``: go on from there, or from the checkpoint nearest to it when a kill left none;
            ``auto``: as ``last``, but start when there is no checkpoint yet; ``previous`` or ``best``: from that one.

    Raises:
        ValueError: nothing to resume, or a training to be started where there is one.
    """
    if resume is not None and resume not in RESUME_CHOICES:
        raise ValueError(f"--resume {resume}: choose {', '.join(RESUME_CHOICES)}")
    names = ("last", "best") if resume in (None, "auto", "last") else (resume,)
    found = [folder for name in names if (folder := _existing(run.checkpoint(name))) is not None]
    if resume is None:
        if found:
            raise ValueError(
                f"{run.path}: holds a training already; add --resume to go on with it, or give another output_dir"
            )
        return None
    if found:
        return found[0]
    if resume == "auto":
        return None
    if resume != "last":
        raise ValueError(f"{run.checkpoint(resume)}: no checkpoint there; plain --resume goes on from the last one")
    why = "it ended before its first checkpoint" if run.config.is_file() else "no run in that folder"
    raise ValueError(
        f"{run.path}: nothing to resume there ({why}); leave --resume out to start, or use --resume auto, "
        "which starts when there is nothing to go on with"
    )


def read_resume_progress(checkpoint: Path) -> Progress:
    """Where the training stood at a checkpoint.

    Raises:
        ValueError: its ``checkpoint.json`` is missing or damaged.
    """
    return Progress(**read_progress(checkpoint))


def refuse_changed_config(run: RunFolder, config: Config) -> None:
    """Raises ValueError when a key that shapes the training differs from the run's; names all, with both values."""
    recorded, lines = run.read_config(), []
    for entry in describe_keys():
        before, now = get_key(recorded, entry.key), get_key(config, entry.key)
        if before != now and entry.key not in _FREE:
            advice = (
                f"it decides which checkpoint is best; `dinoseg eval {run.path} {entry.key}=...` measures with it"
                if entry.key.startswith(_DECIDES_BEST)
                else "it would be another training"
            )
            lines.append(f"  {entry.key}: {show_value(before)} in the run, {show_value(now)} now; {advice}")
    if lines:
        raise ValueError(
            "\n".join(
                [
                    f"{run.path}: cannot go on with another config:",
                    *lines,
                    "leave these as they were, or start another run: "
                    f"dinoseg train config=... load_from={run.path} output_dir=NEW",
                ]
            )
        )


def restore(trainer: Trainer, checkpoint: Path) -> str:
    """Loads a checkpoint into the trainer; returns what the user should know, or an empty text.

    Raises:
        ValueError: the checkpoint is damaged, or was trained on other images or on another backbone.
    """
    _refuse_changed_inputs(trainer, read_metadata(checkpoint), checkpoint)
    progress = read_resume_progress(checkpoint)
    load_weights(checkpoint, trainer.segmenter)
    state = read_trainer(checkpoint)
    trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.average is not None:
        trainer.average.resume(state["trained"])
    trainer.progress = progress
    remark = _protect_best(trainer)
    if checkpoint.name == "last":
        return remark
    return "\n".join([f"going on from checkpoints/{checkpoint.name}, step {progress.step}", remark]).strip()


def describe_inputs(train_pairs: Sequence[Pair], val_pairs: Sequence[Pair], images_per_batch: int) -> dict[str, str]:
    """What a training must find again to go on with the same samples: metadata of its checkpoints."""
    return {
        "train_images": _fingerprint(train_pairs),
        "val_images": _fingerprint(val_pairs),
        "images_per_batch": str(images_per_batch),
    }


def _fingerprint(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256("\n".join(pair.identity for pair in pairs).encode()).hexdigest()
    return f"{len(pairs)} (SHA-256 of their names {digest[:12]}...)"


def _existing(folder: Path) -> Path | None:
    try:
        return find_checkpoint(folder)
    except ValueError:
        return None


def _refuse_changed_inputs(trainer: Trainer, recorded: dict[str, str], checkpoint: Path) -> None:
    ours, config = trainer.checkpoint_metadata, trainer.config
    refuse_other_backbone(checkpoint, recorded, ours["backbone_sha256"], config.model.weights)
    remedies = {
        "train_images": f"give back the images of datasets.train in {config.datasets.root}",
        "val_images": f"give back the images of datasets.val in {config.datasets.root}",
        "images_per_batch": "bs times the number of processes must stay",
    }
    for key, remedy in remedies.items():
        if recorded.get(key) != ours[key]:
            raise ValueError(
                f"{checkpoint}: {key.replace('_', ' ')}: {recorded.get(key)} in the run, {ours[key]} now; {remedy}, "
                "or start another run"
            )


def _protect_best(trainer: Trainer) -> str:
    """Sets the figure to beat to that of ``best``, which may be of a later step than the checkpoint gone on from."""
    progress, folder = trainer.progress, trainer.run_folder.checkpoint("best")
    try:
        found = find_checkpoint(folder)
        verify(found / MODEL_FILE)
        best = read_resume_progress(found)
    except ValueError:
        known = progress.best_metric
        progress.set_best(None, 0)
        return "" if known is None else f"{folder}: missing or damaged; the next evaluation writes it anew"
    if progress.best_metric is None or (best.best_metric is not None and best.best_metric > progress.best_metric):
        progress.set_best(best.best_metric, best.best_step)
    return ""
