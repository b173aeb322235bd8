"""Going on with a training: from which checkpoint, whether config and data are still those it began with."""

import hashlib
from collections.abc import Sequence

import torch

from dinoseg.config import Config, all_keys, get_key, with_changes
from dinoseg.config.bands import Percentiles, parse_range
from dinoseg.config.option import show_value
from dinoseg.data.pairs import Pair
from dinoseg.run_folder.checkpoint import PREVIOUS, TRAINER_FILE, Checkpoint
from dinoseg.run_folder.checkpoint_manifest import CONTENTS_FILE, REMEDY
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.trained_with import describe_learned, read_learned
from dinoseg.run_folder.training_records import read_training_records
from dinoseg.system.json_files import check_document
from dinoseg.system.messages import shell_word
from dinoseg.tracking.trackers import refuse_damaged_state
from dinoseg.training.loop import Trainer
from dinoseg.training.progress import Progress

# Options that, left out, are settled by the data when a run begins.
_FOUND_AT_START = ("datasets.white_level", "train.cache_features", "transforms.mean", "transforms.std")
RESUME_CHOICES = ("last", "auto", PREVIOUS, "best")


def find_resume_point(run: RunFolder, resume: str | None) -> Checkpoint | None:
    """The checkpoint to go on from; None to start from the beginning.

    Args:
        resume: None: start; ``last``: go on from there, or from the checkpoint nearest to it when a kill left none;
            ``auto``: as ``last``, but start when there is no checkpoint yet; ``previous`` or ``best``: from that one.

    Raises:
        ValueError: nothing to resume, or a training to be started where there is one.
    """
    if resume is not None and resume not in RESUME_CHOICES:
        raise ValueError(f"--resume {resume}: choose {', '.join(RESUME_CHOICES)}")
    names = ("last", "best") if resume in (None, "auto", "last") else (resume,)
    found = [checkpoint for name in names if (checkpoint := Checkpoint.find(run.checkpoint(name))) is not None]
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


def resume_point(run: RunFolder, config: Config, resume: str | None) -> tuple[Checkpoint | None, Progress, Config]:
    """The checkpoint to go on from, None to start; where the training stands; the config, settled as the run's.

    Config and folder are checked.

    Raises:
        ValueError: see ``find_resume_point``, ``refuse_changed_config`` and ``read_resume_progress``.
    """
    checkpoint = find_resume_point(run, resume)
    if checkpoint is None:
        return None, Progress(), config
    # Found when the run began; what was added to the data since does not change it.
    recorded = run.read_config()
    found = {key: get_key(recorded, key) for key in _FOUND_AT_START if get_key(config, key) is None}
    if recorded.datasets.range is not None and isinstance(parse_range(config.datasets.range), Percentiles):
        found["datasets.range"] = recorded.datasets.range
    config = with_changes(config, found)
    refuse_changed_config(run, config)
    run.refuse_other_training(checkpoint, resumed=True)
    if config.train.cache_features is None:
        # A run from before there was a cache.
        config = with_changes(config, {"train.cache_features": False})
    return checkpoint, read_resume_progress(checkpoint), config


def read_resume_progress(checkpoint: Checkpoint) -> Progress:
    """Where the training stood at a checkpoint.

    Raises:
        ValueError: its ``checkpoint.json`` is missing or damaged.
    """
    source = str(checkpoint.folder / CONTENTS_FILE)
    return check_document(checkpoint.progress, Progress, source, REMEDY, within="progress")


def refuse_changed_config(run: RunFolder, config: Config) -> None:
    """Raises ValueError when a key that shapes the training differs from the run's; names all, with both values."""
    recorded, lines = run.read_config(), []
    for entry in all_keys():
        before, now = get_key(recorded, entry.key), get_key(config, entry.key)
        if before != now and entry.option.resume != "free":
            advice = (
                f"it decides which checkpoint is best; `dinoseg eval {shell_word(run.path)} {entry.key}=...` measures "
                "with it"
                if entry.option.resume == "decides best"
                else "it would be another training"
            )
            lines.append(f"  {entry.key}: {show_value(before)} in the run, {show_value(now)} now; {advice}")
    if lines:
        # A fold that began with the run of another one would have learned from what it holds out.
        start = "" if config.datasets.folds is not None else f"load_from={shell_word(run.path)} "
        raise ValueError(
            "\n".join(
                [
                    f"{run.path}: cannot go on with another config:",
                    *lines,
                    f"leave these as they were, or start another run: dinoseg train config=... {start}output_dir=NEW",
                ]
            )
        )


def restore(trainer: Trainer, checkpoint: Checkpoint) -> str:
    """Loads a checkpoint into the trainer; returns what the user should know, or an empty text.

    Raises:
        ValueError: the checkpoint, metrics.jsonl or trackers.json is damaged, or it was trained on other images or on
            another backbone.
    """
    _refuse_changed_inputs(trainer, checkpoint)
    # What the journal goes on with, before anything is written.
    refuse_damaged_state(trainer.run_folder.path)
    read_training_records(trainer.run_folder.metrics)
    progress = read_resume_progress(checkpoint)
    checkpoint.load_into(trainer.segmenter)
    _restore_optimizer(trainer, checkpoint)
    trainer.progress = progress
    # The run that it began with may lie there no more.
    trainer.checkpoint_metadata |= describe_learned(read_learned(checkpoint.metadata))
    remark = _protect_best(trainer)
    if checkpoint.name == "last":
        return remark
    return "\n".join([f"going on from checkpoints/{checkpoint.name}, step {progress.step}", remark]).strip()


def _restore_optimizer(trainer: Trainer, checkpoint: Checkpoint) -> None:
    state = checkpoint.trainer_state()
    try:
        trainer.optimizer.load_state_dict(state["optimizer"])
        _refuse_other_averages(trainer.optimizer)
        if trainer.average is not None:
            trainer.average.resume(state["trained"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        file = checkpoint.folder / TRAINER_FILE
        raise ValueError(f"{file}: not the state of this training ({error!r}); {REMEDY}") from None


def _refuse_other_averages(optimizer: torch.optim.Optimizer) -> None:
    """torch takes averages of any shape, and stumbles over them at the next step."""
    for parameter, values in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            if values[name].shape != parameter.shape:
                raise ValueError(f"{name} {tuple(values[name].shape)} in place of {tuple(parameter.shape)}")


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


def _refuse_changed_inputs(trainer: Trainer, checkpoint: Checkpoint) -> None:
    recorded, ours, config = checkpoint.metadata, trainer.checkpoint_metadata, trainer.config
    checkpoint.refuse_other_backbone(ours["backbone_sha256"], config.model.weights)
    remedies = {
        "train_images": f"give back the images of datasets.train in {config.datasets.root}",
        "val_images": f"give back the images of datasets.val in {config.datasets.root}",
        "images_per_batch": "bs times the number of processes must stay",
    }
    for key, remedy in remedies.items():
        if recorded.get(key) != ours[key]:
            raise ValueError(
                f"{checkpoint.folder}: {key.replace('_', ' ')}: {recorded.get(key)} in the run, {ours[key]} now; "
                f"{remedy}, or start another run"
            )


def best_progress(run: RunFolder) -> Progress | None:
    """Where the training stood at ``best``; None where that is missing or damaged."""
    try:
        found = Checkpoint.open(run.checkpoint("best"))
        # Its progress speaks of whole weights only.
        _ = found.weights_sha256
        return read_resume_progress(found)
    except ValueError:
        return None


def _protect_best(trainer: Trainer) -> str:
    """Sets the figure to beat to that of ``best``, which may be of a later step than the checkpoint gone on from."""
    progress, best = trainer.progress, best_progress(trainer.run_folder)
    if best is None:
        known = progress.best_metric
        progress.set_best(None, 0)
        folder = trainer.run_folder.checkpoint("best")
        return "" if known is None else f"{folder}: missing or damaged; the next evaluation writes it anew"
    if progress.best_metric is None or (best.best_metric is not None and best.best_metric > progress.best_metric):
        progress.set_best(best.best_metric, best.best_step)
    return ""
