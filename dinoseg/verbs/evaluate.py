"""Evaluation of a run folder, whole or in shards: what ``dinoseg eval RUN`` does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dinoseg.config import Config
from dinoseg.config.loading import is_given, is_setting
from dinoseg.console.evaluation_table import evaluation_table
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.folders import find_pairs
from dinoseg.data.items import OwnDataset, list_items
from dinoseg.data.pairs import SPLITS, Pair, Split
from dinoseg.data.sampler import spread_subset
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import Evaluation, evaluate, write_evaluation
from dinoseg.evaluation.settings import EvaluationSettings, evaluation_settings
from dinoseg.evaluation.shards import Shard, merge_shards, write_shard
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.run_folder.folder import RunFolder
from dinoseg.system.accelerator import start_accelerator
from dinoseg.system.bars import image_progress
from dinoseg.system.processes import process_rank
from dinoseg.verbs.score import evaluate_label_maps

WHOLE = Shard(1, 1)


def evaluate_run(run: ChosenRun, split: str, console: Console) -> Evaluation:
    """Evaluates a checkpoint on one split, prints the table and writes ``eval/<split>/``.

    Raises:
        ValueError: not a run folder, no such split or checkpoint, no mask for an image, a label id outside the space.
    """
    evaluation = evaluate_split(run, split, console)
    if process_rank() == 0:
        _write(evaluation, RunFolder(Path(run.path)), split, _extra(run, split), console)
    return evaluation


def evaluate_shard(run: ChosenRun, split: str, shard: Shard, console: Console) -> Path:
    """Counts one part of the images and writes it into ``eval/<split>/shards/``; no metrics.json. Returns its file.

    Raises:
        ValueError: see ``evaluate_run``.
    """
    name, opened = _check_split(split), run.open()
    evaluation = _evaluate_split(opened, run, name, console, shard)
    target = opened.folder.evaluation(split)
    if process_rank() == 0:
        # Of the weights that were loaded, whatever lies there by now.
        path = write_shard(evaluation, target, shard, opened.checkpoint.weights_sha256, _extra(run, split))
        counted, every = len(shard.rows(len(evaluation.names))), len(evaluation.names)
        console.print(f"shard {shard}: {counted} of {every} images counted\nwritten: {path}", soft_wrap=True)
        merge = f"dinoseg eval {run.path} --split {split} --merge"
        console.print(f"once all {shard.count} are there: {merge}", soft_wrap=True)
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
    digest = folder.open_checkpoint(checkpoint).weights_sha256
    if digest != merged.checkpoint_sha256:
        raise ValueError(
            f"the shards are of another checkpoint ({merged.checkpoint_sha256[:12]}) than {checkpoint} of {run} is now "
            f"({digest[:12]}); make the shards again"
        )
    _write(merged.evaluation, folder, split, merged.extra, console)
    return merged.evaluation


def evaluate_split(run: ChosenRun, split: str, console: Console) -> Evaluation:
    """Counts one split of the run's data; prints and writes nothing.

    Raises:
        ValueError: see ``evaluate_run``.
    """
    name = _check_split(split)
    return _evaluate_split(run.open(), run, name, console, WHOLE)


def _evaluate_split(opened: OpenedRun, run: ChosenRun, split: Split, console: Console, shard: Shard) -> Evaluation:
    pairs = _find_pairs(opened.config, split)
    return evaluate_pairs(opened, _settings(opened, run), pairs, split, console, shard=shard)


def evaluate_own_data(run: ChosenRun, data: OwnDataset, console: Console) -> Evaluation:
    """Counts a user's own data set, which holds label ids of the run; prints and writes nothing.

    Raises:
        ValueError: not a run folder, no such checkpoint, an item that is no image with a mask, a label id outside.
    """
    opened, items = run.open(), list_items(data, "data")
    if not items:
        raise ValueError("data holds no item: nothing to evaluate")
    return evaluate_pairs(opened, _settings(opened, run), items, "data", console)


def evaluate_pairs(
    opened: OpenedRun,
    settings: EvaluationSettings,
    pairs: Sequence[Pair],
    title: str,
    console: Console,
    *,
    shard: Shard = WHOLE,
) -> Evaluation:
    """Loads the model of an opened run and counts these images; ``title`` names them beside the bar."""
    transform = build_eval_transform(opened.config.transforms)
    accelerator = start_accelerator(opened.device)
    segmenter = opened.load_segmenter().to(accelerator.device)
    dataset = EvaluationDataset(pairs, opened.label_space, transform, opened.config.datasets.white_level)
    images = len(shard.rows(len(spread_subset(len(dataset), settings.max_samples))))
    with image_progress(console, images, f"evaluating {title}") as advance:
        return evaluate(
            segmenter,
            dataset,
            settings,
            accelerator.device,
            on_image=lambda sample, prediction: advance(),
            shard=shard.position,
        )


def _settings(opened: OpenedRun, run: ChosenRun) -> EvaluationSettings:
    settings = evaluation_settings(opened.config, opened.label_space)
    # A subset is for validation during training; a figure asked for by hand is of all images.
    return settings if is_given("eval.max_val_samples", run.overrides) else replace(settings, max_samples=None)


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


def _extra(run: ChosenRun, split: str) -> dict[str, Any]:
    """What metrics.json says beside the figures."""
    return {"checkpoint": run.checkpoint, "split": split, "overrides": list(run.overrides)}


def _write(evaluation: Evaluation, folder: RunFolder, split: str, extra: dict[str, Any], console: Console) -> None:
    write_evaluation(evaluation, folder.evaluation(split), extra)
    console.print(evaluation_table(evaluation.to_dict(), f"{split}, checkpoint {extra['checkpoint']}"))
    console.print(f"written: {folder.evaluation(split)}", soft_wrap=True)


@dataclass(frozen=True)
class EvaluationRequest:
    """The options as they were given; None where one was left out.

    Attributes:
        arguments: the run folder and ``key=value`` settings, in any order.
    """

    arguments: Sequence[str]
    split: str | None = None
    checkpoint: str | None = None
    shard: str | None = None
    merge: bool = False
    predictions: Path | None = None
    masks: Path | None = None
    out: Path | None = None

    @property
    def settings(self) -> list[str]:
        """The ``key=value`` arguments."""
        return [argument for argument in self.arguments if is_setting(argument)]

    @property
    def runs(self) -> list[str]:
        """The other arguments."""
        settings = self.settings
        return [argument for argument in self.arguments if argument not in settings]


def run_request(request: EvaluationRequest, console: Console) -> None:
    """Does what was asked for.

    Raises:
        ValueError: options that do not go together (names them), or whatever the work itself finds wrong.
    """
    if request.predictions is not None or request.masks is not None:
        _score(request, console)
        return
    if request.out is not None:
        raise ValueError("--out goes with --predictions; a run is evaluated into its own folder, eval/<split>")
    if len(request.runs) != 1:
        found = f"found {', '.join(request.runs)}" if request.runs else "found none"
        raise ValueError(f"give one run folder ({found}), or label maps with --predictions DIR --masks DIR")
    path, split = Path(request.runs[0]), "val" if request.split is None else request.split
    run = ChosenRun(path, "best" if request.checkpoint is None else request.checkpoint, None, request.settings)
    if request.merge:
        _refuse("--merge takes everything from the shards", request, ("shard", "checkpoint"))
        if request.settings:
            raise ValueError(f"--merge takes everything from the shards; leave out {', '.join(request.settings)}")
        merge_run(path, split, console)
    elif request.shard is not None:
        evaluate_shard(run, split, Shard.parse(request.shard), console)
    else:
        evaluate_run(run, split, console)


def _score(request: EvaluationRequest, console: Console) -> None:
    if request.predictions is None or request.masks is None:
        given, missing = ("--masks", "--predictions") if request.predictions is None else ("--predictions", "--masks")
        raise ValueError(f"{given} is given without {missing}; give both, to score label maps against masks")
    _refuse("--predictions scores label maps without a run", request, ("split", "checkpoint", "shard", "merge"))
    if request.runs:
        raise ValueError(f"--predictions scores label maps without a run; leave out {', '.join(request.runs)}")
    evaluate_label_maps(request.predictions, request.masks, request.settings, request.out, console)


def _refuse(reason: str, request: EvaluationRequest, options: Sequence[str]) -> None:
    given = [f"--{option}" for option in options if getattr(request, option)]
    if given:
        raise ValueError(f"{reason}; leave out {', '.join(given)}")
