"""Evaluation of a run folder, whole or in shards: what ``dinoseg eval RUN`` does."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from dinoseg.config import Config
from dinoseg.config_loading import is_given
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.folders import Pair, Split, find_pairs
from dinoseg.data.sampler import spread_subset
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from dinoseg.evaluation.measures import build_measures
from dinoseg.evaluation.merging import merge_shards
from dinoseg.evaluation.shards import Shard, write_shard
from dinoseg.file_hash import file_sha256
from dinoseg.inference.policy import window_policy
from dinoseg.processes import process_rank
from dinoseg.report.progress import image_progress
from dinoseg.report.table import evaluation_table
from dinoseg.run_folder import RunFolder, load_segmenter
from dinoseg.training.checkpoint import MODEL_FILE, find_checkpoint
from dinoseg.training.device import DTYPES, pick_device

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def evaluate_run(run: Path, overrides: Iterable[str], split: str, checkpoint: str, console: Console) -> Evaluation:
    """Evaluates a checkpoint on one split, prints the table and writes ``eval/<split>/``.

    Raises:
        ValueError: not a run folder, no such split or checkpoint, no mask for an image, a label id outside the space.
    """
    folder, overrides = RunFolder(run), list(overrides)
    evaluation = _evaluate(folder, overrides, split, checkpoint, Shard(1, 1), console)
    if process_rank() == 0:
        _write(evaluation, folder, split, _extra(checkpoint, split, overrides), console)
    return evaluation


def evaluate_shard(
    run: Path, overrides: Iterable[str], split: str, checkpoint: str, shard: Shard, console: Console
) -> Path:
    """Counts one part of the images and writes it into ``eval/<split>/shards/``; no metrics.json. Returns its file.

    Raises:
        ValueError: see ``evaluate_run``.
    """
    folder, overrides = RunFolder(run), list(overrides)
    evaluation = _evaluate(folder, overrides, split, checkpoint, shard, console)
    target = folder.evaluation(split)
    if process_rank() == 0:
        digest = file_sha256(find_checkpoint(folder.checkpoint(checkpoint)) / MODEL_FILE)
        path = write_shard(evaluation, target, shard, digest, _extra(checkpoint, split, overrides))
        counted, every = len(shard.rows(len(evaluation.names))), len(evaluation.names)
        console.print(f"shard {shard}: {counted} of {every} images counted\nwritten: {path}", soft_wrap=True)
        console.print(f"once all {shard.count} are there: dinoseg eval {run} --split {split} --merge", soft_wrap=True)
    return target / "shards"


def merge_run(run: Path, split: str, console: Console) -> Evaluation:
    """Puts the shards of one split together and writes what ``evaluate_run`` would have; loads no model.

    Raises:
        ValueError: not a run folder, or shards that do not make one evaluation of this run; see ``merge_shards``.
    """
    folder = RunFolder(run)
    _check_split(split)
    label_space = folder.read_labels()
    merged = merge_shards(folder.evaluation(split), f"`dinoseg eval {run} --split {split}`")
    if merged.evaluation.label_space != label_space:
        raise ValueError(f"{folder.labels}: not the label space of the shards; make the shards again")
    checkpoint = merged.extra["checkpoint"]
    digest = file_sha256(find_checkpoint(folder.checkpoint(checkpoint)) / MODEL_FILE)
    if digest != merged.checkpoint_sha256:
        raise ValueError(
            f"the shards are of another checkpoint ({merged.checkpoint_sha256[:12]}) than {checkpoint} of {run} is now "
            f"({digest[:12]}); make the shards again"
        )
    _write(merged.evaluation, folder, split, merged.extra, console)
    return merged.evaluation


def _evaluate(
    folder: RunFolder, overrides: list[str], split: str, checkpoint: str, shard: Shard, console: Console
) -> Evaluation:
    name = _check_split(split)
    config = folder.read_config(overrides)
    if not is_given("eval.max_val_samples", overrides):
        # A subset is for validation during training; a figure asked for by hand is of all images.
        config.eval.max_val_samples = None
    label_space = folder.read_labels()
    window = window_policy(config)
    measures = build_measures(config.eval, label_space)
    pairs = _find_pairs(config, name)
    accelerator = Accelerator(cpu=pick_device(config.device).type == "cpu")
    segmenter = load_segmenter(folder, config, label_space, checkpoint).to(accelerator.device)
    dataset = EvaluationDataset(pairs, label_space, build_eval_transform(config.transforms))
    images = len(shard.rows(len(spread_subset(len(dataset), config.eval.max_val_samples))))
    with image_progress(console, images, f"evaluating {split}") as advance:
        return evaluate(
            segmenter,
            dataset,
            window,
            label_space,
            accelerator.device,
            DTYPES[config.model_dtype],
            config.num_workers,
            config.eval.max_val_samples,
            measures,
            lambda sample, prediction: advance(),
            shard=shard.position,
        )


def _check_split(split: str) -> Split:
    names = {name: name for name in SPLITS}
    if split not in names:
        raise ValueError(f"--split {split}: choose {', '.join(SPLITS)}")
    return names[split]


def _find_pairs(config: Config, split: Split) -> tuple[Pair, ...]:
    listing = find_pairs(config.datasets, split)
    if listing.images_without_mask:
        raise ValueError(
            f"--split {split}: {len(listing.images_without_mask)} images have no mask, the first is "
            f"{listing.images_without_mask[0]}; add their masks or move them away"
        )
    if not listing.pairs:
        raise ValueError(f"--split {split}: no image with a mask in datasets.{split}={getattr(config.datasets, split)}")
    return listing.pairs


def _extra(checkpoint: str, split: str, overrides: list[str]) -> dict[str, Any]:
    """What metrics.json says beside the figures."""
    return {"checkpoint": checkpoint, "split": split, "overrides": overrides}


def _write(evaluation: Evaluation, folder: RunFolder, split: str, extra: dict[str, Any], console: Console) -> None:
    write_evaluation(evaluation, folder.evaluation(split), extra)
    console.print(evaluation_table(evaluation.to_dict(), f"{split}, checkpoint {extra['checkpoint']}"))
    console.print(f"written: {folder.evaluation(split)}", soft_wrap=True)
