"""Calibration of a run on its validation images: what ``dinoseg calibrate`` does."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor

from dinoseg.config.loading import is_setting
from dinoseg.config.unused_keys import note_unused_keys
from dinoseg.console.calibration_words import (
    calibration_in_words,
    patches_in_words,
    unknown_in_words,
    weights_in_words,
)
from dinoseg.data.dataset import Sample
from dinoseg.data.pairs import Pair
from dinoseg.data.sampler import spread_subset
from dinoseg.evaluation.class_weights import TunedFigure, tune_class_weights
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.least_patches import PatchCounts
from dinoseg.evaluation.settings import EvaluationSettings
from dinoseg.evaluation.temperature import PixelSample, fit_temperature
from dinoseg.inference.chosen_head import ChosenHead
from dinoseg.inference.chosen_runs import ChosenEnsemble, choose_runs
from dinoseg.inference.decision import Decision
from dinoseg.inference.judged_rows import JudgedRows
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.calibration_file import (
    CalibrationFile,
    CalibrationRecord,
    Figures,
    FittedOn,
    LeastPatches,
    TunedWeights,
)
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.metrics_schema import Window
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.processes import gather_shares, own_share, process_rank
from dinoseg.verbs.evaluate import Listeners, evaluate_pairs, find_scored_pairs, settings_of

# Pixels that a temperature is fitted to; one number needs no more. With many classes fewer: 0.2 GB of probabilities.
PIXELS = 200_000
_VALUES = 50_000_000
SEED = 0
Found = TypeVar("Found", TunedWeights, LeastPatches)
_TUNED: dict[str, TunedFigure] = {"dice": "Dice", "iou": "IoU"}
_SPLITS: dict[str, Literal["train", "val"]] = {"train": "train", "val": "val"}


@dataclass(frozen=True)
class Wanted:
    """What is looked for beside the temperature, each for the mean of a figure; None for nothing.

    Attributes:
        weights: of classes.
        patches: their least sizes.
    """

    weights: TunedFigure | None = None
    patches: TunedFigure | None = None

    @staticmethod
    def parse(tune: str | None, patches: str | None) -> "Wanted":
        """Of the options' values, ``dice`` or ``iou``. Raises ValueError for another."""
        for option, figure in (("--tune", tune), ("--patches", patches)):
            if figure is not None and figure not in _TUNED:
                raise ValueError(f"{option} {figure}: choose {' or '.join(_TUNED)}")
        return Wanted(_TUNED.get(tune or ""), _TUNED.get(patches or ""))


NOTHING_ELSE = Wanted()


def calibrate_arguments(
    arguments: Sequence[str], split: str, checkpoint: str, console: Console, wanted: Wanted = NOTHING_ELSE
) -> None:
    """What the command line asks for: one run folder, and ``key=value``, in any order.

    Raises:
        ValueError: see ``calibrate_run``; or there is not one folder.
    """
    settings = [argument for argument in arguments if is_setting(argument)]
    runs = [argument for argument in arguments if argument not in settings]
    run = choose_runs(runs, checkpoint, None, settings)
    if isinstance(run, ChosenEnsemble):
        raise ValueError(
            f"{run.words}: {len(run.runs)} runs; each is calibrated alone, and their mean takes each at its own "
            "temperature: give one run folder"
        )
    if isinstance(run, ChosenHead) or not run.keeps_figures:
        what = "a published head" if isinstance(run, ChosenHead) else "a run of the Hub"
        raise ValueError(f"{run.words}: {what}, which has no folder for calibration.json; export it first")
    calibrate_run(run, split, console, wanted)
    note_unused_keys(settings, "calibrate")


def calibrate_run(run: ChosenRun, split: str, console: Console, wanted: Wanted = NOTHING_ELSE) -> CalibrationRecord:
    """Fits the temperature of a run's probabilities and writes ``calibration.json``.

    Every image of the split is predicted twice: once to fit and to measure what was before, once to measure what is
    now. The classes that are predicted stay as they are. What else is found is measured in a pass of its own, and kept
    where it helps.

    Raises:
        ValueError: the split is test or none, has no images, or no pixel that counts; or see ``ChosenRun.open``.
    """
    name = _checked(split)
    opened, folder = run.open(), RunFolder(Path(run.path))
    refuse_unwritable(folder.path, "")
    of_split = _Split(name, find_scored_pairs(opened.config, name), opened, settings_of(opened, run), console)
    sample = PixelSample(of_split.pixels_of_image, opened.label_space.ignore_index, SEED)
    before = of_split.measure("before", Decision(), on_rows=sample.take)
    log_probabilities, truth = _gathered(sample, before.names)
    temperature = fit_temperature(log_probabilities, truth)
    # Counted in the pass whose maps they are to change: that of the weights, where these help.
    patches = PatchCounts.empty(opened.label_space.num_classes)
    counting = patches.take if wanted.patches else None
    after = of_split.measure("after", Decision(temperature), on_image=counting)
    tuned, least, plain = None, None, after
    if wanted.weights is not None:
        probabilities = (log_probabilities / temperature).softmax(dim=1).numpy()
        found = tune_class_weights(probabilities, truth.numpy(), wanted.weights)
        mean = after.to_dict()[f"m{wanted.weights}"]
        weights = TunedWeights(figure=wanted.weights, weights=list(found.weights), before=mean, after=mean)
        of_weights = PatchCounts.empty(opened.label_space.num_classes)
        counting = of_weights.take if wanted.patches else None
        weighted = of_split.measure("weighted", Decision(temperature, weights), on_image=counting)
        tuned = _as_measured(weights, weighted)
        patches, plain = (patches, after) if tuned is None else (of_weights, weighted)
    if wanted.patches is not None:
        pixels = PatchCounts.sum_of(gather_shares([patches])).best(wanted.patches)
        mean, with_weights = plain.to_dict()[f"m{wanted.patches}"], tuned is not None
        sizes = LeastPatches(figure=wanted.patches, pixels=pixels, tuned=with_weights, before=mean, after=mean)
        least = _as_measured(sizes, of_split.measure("patched", Decision(temperature, tuned, sizes)))
    record = CalibrationRecord(
        temperature=temperature,
        checkpoint=run.checkpoint,
        weights_sha256=opened.weights_sha256,
        fitted_on=FittedOn(split=name, images=of_split.images, pixels=len(truth), seed=SEED),
        resolution=of_split.settings.window.resolution,
        window=Window.model_validate(of_split.settings.window.describe()),
        before=_figures(before),
        after=_figures(after),
        tuned=tuned,
        least_patches=least,
    )
    if process_rank() == 0:
        file = CalibrationFile(folder.calibration)
        lost = _lost(file, wanted)
        file.write(record)
        said = _in_words(record, wanted, opened.label_space, truth)
        console.print("\n".join([*said, *lost, f"written: {file.path}"]), soft_wrap=True, markup=False, highlight=False)
    return record


def _in_words(record: CalibrationRecord, wanted: Wanted, space: LabelSpace, truth: Int[Tensor, " pixels"]) -> list[str]:
    """What was found, a line or more each."""
    said = [calibration_in_words(record)]
    said += [weights_in_words(record.tuned, wanted.weights, space)] if wanted.weights else []
    said += [patches_in_words(record.least_patches, wanted.patches, space)] if wanted.patches else []
    held = torch.bincount(truth, minlength=space.num_classes).tolist()
    unknown = [name for name, pixels in zip(space.class_names, held, strict=True) if not pixels]
    return said + ([unknown_in_words(unknown)] if unknown and wanted != NOTHING_ELSE else [])


@dataclass(frozen=True)
class _Split:
    """The images that a run is calibrated on, and how they are measured."""

    name: Literal["train", "val"]
    pairs: Sequence[Pair]
    opened: OpenedRun
    settings: EvaluationSettings
    console: Console

    @property
    def images(self) -> int:
        """How many are counted."""
        return len(spread_subset(len(self.pairs), self.settings.max_samples))

    @property
    def pixels_of_image(self) -> int:
        """How many of each are kept to fit to."""
        return max(1, min(PIXELS, _VALUES // self.opened.label_space.num_classes) // self.images)

    def measure(
        self,
        title: str,
        decision: Decision,
        on_rows: Callable[[Sample, JudgedRows], None] | None = None,
        on_image: Callable[[Sample, Tensor], None] | None = None,
    ) -> Evaluation:
        """Counts every image, decided so."""
        judged, title = self.opened.deciding_by(decision), f"{self.name}, {title}"
        tell = Listeners(on_image, on_rows)
        return evaluate_pairs(judged, self.settings, self.pairs, title, self.console, tell=tell)


def _checked(split: str) -> Literal["train", "val"]:
    if split == "test":
        raise ValueError(
            "--split test: what is fitted to the test images says nothing of others any more; calibrate on val, and "
            "look at test with dinoseg eval"
        )
    if split not in _SPLITS:
        raise ValueError(f"--split {split}: choose {' or '.join(_SPLITS)}")
    if split == "train":
        warnings.warn(
            "--split train: a model is surer of images that it learned from than it is right elsewhere; calibrate on "
            "images that it has not seen",
            stacklevel=2,
        )
    return _SPLITS[split]


def _as_measured(found: Found, measured: Evaluation) -> Found | None:
    """The same with what was reached on every pixel; None where that is nothing: a sample may promise too much."""
    after = measured.to_dict()[f"m{found.figure}"]
    return found.model_copy(update={"after": after}) if after > found.before else None


def _gathered(
    sample: PixelSample, names: Sequence[str]
) -> tuple[Float[Tensor, "pixels classes"], Int[Tensor, " pixels"]]:
    """The kept pixels of all images of all processes, in the order of the images."""
    parts = [part for image in gather_shares([sample.of_image(name) for name in own_share(names)]) for part in image]
    if not parts:
        raise ValueError("no pixel counts in these images: nothing to fit a temperature to")
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _figures(evaluation: Evaluation) -> Figures:
    found = evaluation.to_dict()["calibration"]
    return Figures(ECE=found["ECE"], NLL=found["NLL"])


def _lost(file: CalibrationFile, wanted: Wanted) -> list[str]:
    """What the file holds, and is not looked for this time."""
    try:
        before = file.read("")
    except ValueError:
        return []  # damaged, and written anew
    if before is None:
        return []
    found = (
        ("weights of classes", before.tuned, wanted.weights, "--tune"),
        ("least sizes of patches", before.least_patches, wanted.patches, "--patches"),
    )
    return [
        f"note: the {noun} that were found before are gone; {option} {old.figure.lower()} finds them again"
        for noun, old, asked, option in found
        if old is not None and asked is None
    ]
