"""Calibration of a run on its validation images: what ``dinoseg calibrate`` does."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor

from dinoseg.config.loading import is_setting
from dinoseg.config.unused_keys import note_unused_keys
from dinoseg.data.dataset import Sample
from dinoseg.data.pairs import Pair
from dinoseg.data.sampler import spread_subset
from dinoseg.evaluation.class_weights import ClassWeights, TunedFigure, tune_class_weights
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.settings import EvaluationSettings
from dinoseg.evaluation.temperature import HIGHEST, LOWEST, PixelSample, fit_temperature
from dinoseg.inference.chosen_head import ChosenHead
from dinoseg.inference.chosen_runs import ChosenEnsemble, choose_runs
from dinoseg.inference.judged_rows import JudgedRows
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.run_folder.calibration_file import CalibrationFile, CalibrationRecord, Figures, FittedOn, TunedWeights
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.metrics_schema import Window
from dinoseg.system.files import refuse_unwritable
from dinoseg.system.processes import gather_shares, own_share, process_rank
from dinoseg.verbs.evaluate import evaluate_pairs, find_scored_pairs, settings_of

# Pixels that a temperature is fitted to; one number needs no more. With many classes fewer: 0.2 GB of probabilities.
PIXELS = 200_000
_VALUES = 50_000_000
SEED = 0
_TUNED: dict[str, TunedFigure] = {"dice": "Dice", "iou": "IoU"}
_SPLITS: dict[str, Literal["train", "val"]] = {"train": "train", "val": "val"}


def calibrate_arguments(
    arguments: Sequence[str], split: str, checkpoint: str, console: Console, tune: str | None = None
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
    calibrate_run(run, split, console, tune)
    note_unused_keys(settings, "calibrate")


def calibrate_run(run: ChosenRun, split: str, console: Console, tune: str | None = None) -> CalibrationRecord:
    """Fits the temperature of a run's probabilities and writes ``calibration.json``.

    Every image of the split is predicted twice: once to fit and to measure what was before, once to measure what is
    now. The classes that are predicted stay as they are.

    Args:
        tune: ``dice`` or ``iou``: weights of classes are tuned for its mean, too, and measured in a third pass.

    Raises:
        ValueError: the split is test or none, has no images, or no pixel that counts; or see ``ChosenRun.open``.
    """
    name, figure = _checked(split), _tuned_figure(tune)
    opened, folder = run.open(), RunFolder(Path(run.path))
    refuse_unwritable(folder.path, "")
    of_split = _Split(name, find_scored_pairs(opened.config, name), opened, settings_of(opened, run), console)
    sample = PixelSample(of_split.pixels_of_image, opened.label_space.ignore_index, SEED)
    before = of_split.measure("before", 1.0, on_rows=sample.take)
    log_probabilities, truth = _gathered(sample, before.names)
    temperature = fit_temperature(log_probabilities, truth)
    after = of_split.measure("after", temperature)
    tuned = None
    if figure is not None:
        probabilities = (log_probabilities / temperature).softmax(dim=1).numpy()
        found = _weights(tune_class_weights(probabilities, truth.numpy(), figure), figure, after)
        tuned = _as_measured(found, of_split.measure("weighted", temperature, found))
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
    )
    if process_rank() == 0:
        CalibrationFile(folder.calibration).write(record)
        _say(record, figure, folder.calibration, console)
    return record


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
        temperature: float,
        tuned: TunedWeights | None = None,
        on_rows: Callable[[Sample, JudgedRows], None] | None = None,
    ) -> Evaluation:
        """Counts every image at a temperature, and with weights of classes where some are given."""
        judged, title = self.opened.calibrated_by(temperature, tuned), f"{self.name}, {title}"
        return evaluate_pairs(judged, self.settings, self.pairs, title, self.console, on_rows=on_rows)


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


def _tuned_figure(tune: str | None) -> TunedFigure | None:
    if tune is not None and tune not in _TUNED:
        raise ValueError(f"--tune {tune}: choose {' or '.join(_TUNED)}")
    return None if tune is None else _TUNED[tune]


def _weights(found: ClassWeights, figure: TunedFigure, plain: Evaluation) -> TunedWeights:
    mean = plain.to_dict()[f"m{figure}"]
    return TunedWeights(figure=figure, weights=list(found.weights), before=mean, after=mean)


def _as_measured(tuned: TunedWeights, weighted: Evaluation) -> TunedWeights | None:
    """The same with what was reached on every pixel; None where that is nothing: a sample may promise too much."""
    after = weighted.to_dict()[f"m{tuned.figure}"]
    return tuned.model_copy(update={"after": after}) if after > tuned.before else None


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


def _say(record: CalibrationRecord, figure: TunedFigure | None, file: Path, console: Console) -> None:
    fitted, before, after = record.fitted_on, record.before, record.after
    lines = [
        f"temperature {record.temperature:.4f}, fitted to {fitted.pixels:,} pixels of {fitted.images} images of "
        f"{fitted.split}",
        f"ECE {before.ECE:.2f} % -> {after.ECE:.2f} %   NLL {before.NLL:.4f} -> {after.NLL:.4f}   (every pixel)",
    ]
    if figure is not None and record.tuned is None:
        lines.append(f"mean {figure} is best without weights of classes: none are kept")
    elif record.tuned is not None:
        weights = ", ".join(f"{weight:.2f}" for weight in record.tuned.weights)
        lines.append(
            f"mean {record.tuned.figure} {record.tuned.before:.2f} % -> {record.tuned.after:.2f} % with weights of "
            f"classes {weights}, used with eval.tuned=true"
        )
    if not LOWEST * 1.01 < record.temperature < HIGHEST / 1.01:
        lines.append(
            f"note: that is the end of the range {LOWEST:g} to {HIGHEST:g}; a model that is right, or wrong, on nearly "
            "every pixel has no temperature of its own: give it more images"
        )
    console.print("\n".join([*lines, f"written: {file}"]), soft_wrap=True, markup=False, highlight=False)
