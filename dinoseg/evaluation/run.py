"""Evaluation of a run folder: what ``dinoseg eval`` does."""

from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.folders import Split, find_pairs
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from dinoseg.inference.policy import window_policy
from dinoseg.report.progress import image_progress
from dinoseg.report.table import evaluation_table
from dinoseg.run_folder import RunFolder, load_segmenter
from dinoseg.training.device import DTYPES, pick_device

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def evaluate_run(run: Path, overrides: Iterable[str], split: str, checkpoint: str, console: Console) -> Evaluation:
    """Evaluates a checkpoint on one split, prints the table and writes ``eval/<split>/``.

    Raises:
        ValueError: not a run folder, no such split or checkpoint, no mask for an image, a label id outside the space.
    """
    names = {name: name for name in SPLITS}
    if split not in names:
        raise ValueError(f"--split {split}: choose {', '.join(SPLITS)}")
    folder, overrides = RunFolder(run), list(overrides)
    config = folder.read_config(overrides)
    if not any(override.startswith("eval.max_val_samples=") for override in overrides):
        # A subset is for validation during training; a figure asked for by hand is of all images.
        config.eval.max_val_samples = None
    label_space = folder.read_labels()
    window = window_policy(config)
    listing = find_pairs(config.datasets, names[split])
    pairs = listing.pairs
    if listing.images_without_mask:
        raise ValueError(
            f"--split {split}: {len(listing.images_without_mask)} images have no mask, the first is "
            f"{listing.images_without_mask[0]}; add their masks or move them away"
        )
    if not pairs:
        raise ValueError(f"--split {split}: no image with a mask in datasets.{split}={getattr(config.datasets, split)}")
    accelerator = Accelerator(cpu=pick_device(config.device).type == "cpu")
    segmenter = load_segmenter(folder, config, label_space, checkpoint).to(accelerator.device)
    dataset = EvaluationDataset(pairs, label_space, build_eval_transform(config.transforms))
    with image_progress(console, len(dataset), f"evaluating {split}") as advance:
        evaluation = evaluate(
            segmenter,
            dataset,
            window,
            label_space,
            accelerator.device,
            DTYPES[config.model_dtype],
            config.num_workers,
            config.eval.max_val_samples,
            config.eval.compute_metric_per_image,
            lambda sample, prediction: advance(),
        )
    if accelerator.is_main_process:
        write_evaluation(
            evaluation, folder.evaluation(split), {"checkpoint": checkpoint, "split": split, "overrides": overrides}
        )
        console.print(evaluation_table(evaluation.to_dict(), f"{split}, checkpoint {checkpoint}"))
        console.print(f"written: {folder.evaluation(split)}", soft_wrap=True)
    return evaluation
