"""Evaluation of a run folder, or of several as one, whole or in shards: what ``dinoseg eval RUN`` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from dinoseg.config import Config
from dinoseg.config.loading import is_given
from dinoseg.console.evaluation_table import evaluation_table
from dinoseg.console.volume_table import volume_table
from dinoseg.data.dataset import EvaluationDataset, Sample
from dinoseg.data.folders import find_pairs
from dinoseg.data.georeference import refuse_misfits
from dinoseg.data.items import OwnDataset, list_items
from dinoseg.data.pairs import SPLITS, Pair, Split
from dinoseg.data.sampler import spread_subset
from dinoseg.evaluation.evaluate import ClassMap, Evaluation, evaluate, write_evaluation
from dinoseg.evaluation.settings import EvaluationSettings, evaluation_settings
from dinoseg.evaluation.shards import Shard, merge_shards, write_shard
from dinoseg.inference.chosen_runs import Chosen, Opened, OpenedEnsemble
from dinoseg.inference.judged_rows import JudgedRows
from dinoseg.system.accelerator import start_accelerator
from dinoseg.system.bars import image_progress
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.messages import shell_word
from dinoseg.system.processes import process_rank
from dinoseg.verbs.figures_folder import refuse_other_figures
from dinoseg.verbs.learned_images import warn_of_learned_images

WHOLE = Shard(1, 1)


def evaluate_run(run: Chosen, split: str, console: Console, out: Path | None = None) -> Evaluation:
    """Evaluates a checkpoint on one split, prints the table and writes ``eval/<split>/``.

    Args:
        out: folder for the figures in place of that; several runs that lie in no ensemble's folder need one.

    Raises:
        ValueError: not a run folder, no such split or checkpoint, no mask for an image, a label id outside the space;
            of several runs, no folder for the figures, or runs that cannot be averaged.
    """
    name, opened = checked_split(split, out), run.open()
    target = figures_target(run, split, out)
    evaluation = _evaluate_split(opened, run, name, console, WHOLE)
    if process_rank() == 0:
        write_and_show(evaluation, target, extra_of(run, split, opened.weights_sha256), console)
    return evaluation


def evaluate_shard(run: Chosen, split: str, shard: Shard, console: Console, out: Path | None = None) -> Path:
    """Counts one part of the images and writes it into ``shards/`` of the folder for figures; no metrics.json.

    Returns:
        The folder of the shards.

    Raises:
        ValueError: see ``evaluate_run``.
    """
    name, opened = checked_split(split, out), run.open()
    target = figures_target(run, split, out)
    evaluation = _evaluate_split(opened, run, name, console, shard)
    if process_rank() == 0:
        # Of the weights that were loaded, whatever lies there by now.
        digest = opened.weights_sha256
        path = write_shard(evaluation, target, shard, digest, extra_of(run, split, digest))
        counted, every = len(shard.rows(len(evaluation.names))), len(evaluation.names)
        said = f"shard {shard}: {counted} of {every} images counted\nwritten: {path}"
        console.print(said, soft_wrap=True, markup=False)
        merge = f"{_command(run, split, out)} --merge"
        console.print(f"once all {shard.count} are there: {merge}", soft_wrap=True, markup=False)
    return target / "shards"


def merge_run(run: Chosen, split: str, console: Console, out: Path | None = None) -> Evaluation:
    """Puts the shards of one split together and writes what ``evaluate_run`` would have; loads no model.

    Raises:
        ValueError: not a run folder, or shards that do not make one evaluation of this run; see ``merge_shards``.
    """
    checked_split(split, out)
    label_space, target = run.read_labels(), figures_target(run, split, out)
    merged = merge_shards(target, f"`{_command(run, split, out)}`")
    if merged.evaluation.label_space != label_space:
        raise ValueError(f"{run.words}: labels.json is not the label space of the shards; make the shards again")
    checkpoint = merged.extra["checkpoint"]
    digest = run.hash_of(checkpoint)
    if digest != merged.checkpoint_sha256:
        raise ValueError(
            f"the shards are of another checkpoint ({merged.checkpoint_sha256[:12]}) than {checkpoint} of {run.words} "
            f"is now ({digest[:12]}); make the shards again"
        )
    write_and_show(merged.evaluation, target, merged.extra, console)
    return merged.evaluation


def figures_target(run: Chosen, split: str, out: Path | None) -> Path:
    """Folder of the figures."""
    if out is not None:
        return out
    folder = run.evaluation(split)
    refuse_unwritable(folder, "")
    return folder


def _command(run: Chosen, split: str, out: Path | None) -> str:
    place = "" if out is None else f" --out {shell_word(out)}"
    return f"dinoseg eval {shell_word(run.words)} --split {split}{place}"


def evaluate_split(run: Chosen, split: str, console: Console) -> Evaluation:
    """Counts one split of the run's data; prints and writes nothing.

    Raises:
        ValueError: see ``evaluate_run``.
    """
    name = checked_split(split, None)
    return _evaluate_split(run.open(), run, name, console, WHOLE)


def _evaluate_split(opened: Opened, run: Chosen, split: Split, console: Console, shard: Shard) -> Evaluation:
    pairs = find_scored_pairs(opened.config, split)
    if isinstance(opened, OpenedEnsemble) and process_rank() == 0:
        warn_of_learned_images(opened.members, pairs, split)
    return evaluate_pairs(opened, settings_of(opened, run), pairs, split, console, shard=shard)


def evaluate_own_data(run: Chosen, data: OwnDataset, console: Console) -> Evaluation:
    """Counts a user's own data set, which holds label ids of the run; prints and writes nothing.

    Raises:
        ValueError: not a run folder, no such checkpoint, an item that is no image with a mask, a label id outside.
    """
    opened, items = run.open(), list_items(data, "data")
    if not items:
        raise ValueError("data holds no item: nothing to evaluate")
    return evaluate_pairs(opened, settings_of(opened, run), items, "data", console)


@dataclass(frozen=True)
class Listeners:
    """Who is told while images are counted; see ``evaluation/evaluate.py::evaluate``."""

    on_image: Callable[[Sample, ClassMap], None] | None = None
    on_rows: Callable[[Sample, JudgedRows], None] | None = None


NOBODY = Listeners()


def evaluate_pairs(
    opened: Opened,
    settings: EvaluationSettings,
    pairs: Sequence[Pair],
    title: str,
    console: Console,
    *,
    shard: Shard = WHOLE,
    tell: Listeners = NOBODY,
) -> Evaluation:
    """Loads the models of opened runs and counts these images; ``title`` names them beside the bar."""
    accelerator = start_accelerator(opened.device)
    ensemble = opened.load_ensemble(accelerator.device)
    reading, *others = ensemble.readings
    dataset = EvaluationDataset(pairs, opened.label_space, reading.transform, reading.form)
    dataset.other_readings = tuple(others)
    images = len(shard.rows(len(spread_subset(len(dataset), settings.max_samples))))
    with image_progress(console, images, f"evaluating {title}") as advance:
        # Of another size each time.
        def on_image(sample: Sample, class_map: Tensor) -> None:
            if tell.on_image is not None:
                tell.on_image(sample, class_map)
            advance()

        return evaluate(
            ensemble,
            dataset,
            settings,
            accelerator.device,
            on_image=on_image,
            on_rows=tell.on_rows,
            shard=shard.position,
        )


def settings_of(opened: Opened, run: Chosen) -> EvaluationSettings:
    """How a run is evaluated when it is asked for by hand: more is measured than during its training."""
    settings = evaluation_settings(opened.config, opened.label_space)
    settings = replace(settings, measures=replace(settings.measures, reliability=True))
    # A subset is for validation during training; a figure asked for by hand is of all images.
    return settings if is_given("eval.max_val_samples", run.overrides) else replace(settings, max_samples=None)


def checked_split(split: str, out: Path | None) -> Split:
    """The split, where there is one of that name and its figures may go to ``out``: asked before any run is opened."""
    names = {name: name for name in SPLITS}
    if split not in names:
        raise ValueError(f"--split {split}: choose {', '.join(SPLITS)}")
    if out is not None:
        refuse_other_figures(out, split)
    return names[split]


def find_scored_pairs(config: Config, split: Split) -> tuple[Pair, ...]:
    """The images of a split. Raises ValueError where there are none, or one has no mask or does not fit it."""
    listing = find_pairs(config.datasets, split)
    if listing.images_without_mask:
        raise ValueError(
            f"--split {split}: {len(listing.images_without_mask)} images have no mask, the first is "
            f"{listing.images_without_mask[0]}; add their masks or move them away"
        )
    refuse_misfits(listing.misfits, f"--split {split}")
    if not listing.pairs:
        raise ValueError(f"--split {split}: no image with a mask in datasets.{split}={getattr(config.datasets, split)}")
    return listing.pairs


def extra_of(run: Chosen, split: str, weights_sha256: str) -> dict[str, Any]:
    """What metrics.json says beside the figures.

    Args:
        weights_sha256: of what was evaluated: a checkpoint of the same name may be another one later.
    """
    named = {"checkpoint": run.checkpoint, "weights_sha256": weights_sha256, "split": split}
    return named | {"overrides": list(run.overrides)}


def write_and_show(evaluation: Evaluation, folder: Path, extra: dict[str, Any], console: Console) -> None:
    """Writes the figures and prints the table."""
    contents = write_evaluation(evaluation, folder, extra)
    members, folds = evaluation.policy.get("members"), evaluation.policy.get("out_of_fold")
    mean = f"mean of {len(members)} runs, " if members else ""
    title = f"out of fold, {len(folds)} runs" if folds else str(extra["split"])
    console.print(evaluation_table(contents, f"{title}, {mean}checkpoint {extra['checkpoint']}"))
    if "per_volume" in contents:
        console.print(volume_table(contents["per_volume"]))
    console.print(f"written: {folder}", soft_wrap=True, markup=False)
