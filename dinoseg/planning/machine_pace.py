"""How long the parts of a training take on this machine: measured by the parts themselves, on an image or two."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from accelerate import Accelerator
from rich.console import Console

from dinoseg.check.check import CheckReport
from dinoseg.config import Config, with_changes
from dinoseg.data.dataset import stored_size
from dinoseg.data.pairs import Pair, Split
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.sampler import spread_subset
from dinoseg.evaluation.evaluate import evaluate
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.folder import RunFolder
from dinoseg.training.feature_cache import fill_feature_cache
from dinoseg.training.loop import Trainer
from dinoseg.training.setup import build_trainer

# Seconds of an evaluated image, beside which what is done once does not matter, and a second one costs too much.
_SLOW_IMAGE = 2.0
# Images whose sizes are read, to measure on one that is like them.
_LOOKED_AT = 24


@dataclass(frozen=True)
class MeasuredPace:
    """Of one way to train.

    Attributes:
        scale: of the backbone, at which it was measured.
        build_seconds: to load the backbone and build model and data sets.
        picture_seconds: to compute and keep the features of an image; 0 where none are kept.
        step_seconds: of a training step, data included.
        image_seconds: to evaluate an image of the validation split, features that are kept aside.
    """

    scale: float
    build_seconds: float
    picture_seconds: float
    step_seconds: float
    image_seconds: float

    def at(self, scale: float) -> "MeasuredPace":
        """What it would be with the backbone at another scale: features by its pixels, the rest as it was."""
        return replace(self, scale=scale, picture_seconds=self.picture_seconds * (scale / self.scale) ** 2)


def measure_pace(config: Config, report: CheckReport, accelerator: Accelerator, seconds: float) -> MeasuredPace:
    """Builds the training of a config, computes features of two images, evaluates one and does a few real steps.

    Args:
        config: settled, of the training to be; its folders stay as they are.
        seconds: for steps; three are done in any case.

    Raises:
        ValueError: an option does not fit, a file cannot be read, or weights are not to be had.
    """
    space = report.label_space
    assert space is not None
    form = PictureForm.of(config.datasets)
    few: Mapping[Split, tuple[Pair, ...]] = {
        name: _typical(report.pairs.get(name, ()), space, form) for name in ("train", "val")
    }
    with TemporaryDirectory(prefix="dinoseg-pace-") as folder:
        started = time.perf_counter()
        # Of any length: a step takes as long in the warm-up.
        long = {"scheduler.total_iter": 10_000, "scheduler.constructor_kwargs": {}}
        aside = with_changes(config, {"train.cache_folder": folder} | long)
        run = RunFolder(Path(folder) / "run")
        trainer = build_trainer(aside, run, space, replace(report, pairs=few), accelerator)
        built = time.perf_counter()
        fill_feature_cache(trainer, Console(quiet=True))
        filled = time.perf_counter()
        image_seconds = _evaluation_seconds(trainer)
        steps = trainer.timed_steps(seconds)
    pictures = 0
    if trainer.features is not None:
        pictures = len(trainer.features.views(trainer.train_data)) + (trainer.val_data.features is not None)
    return MeasuredPace(
        scale=config.model.backbone_scale,
        build_seconds=built - started,
        picture_seconds=(filled - built) / pictures if pictures else 0.0,
        step_seconds=sum(steps) / len(steps),
        image_seconds=image_seconds,
    )


def _typical(pairs: Sequence[Pair], space: LabelSpace, form: PictureForm) -> tuple[Pair, ...]:
    """Of some of the pairs the smallest one whose image has as many pixels as they have in the mean."""
    looked_at = [pairs[index] for index in spread_subset(len(pairs), min(len(pairs), _LOOKED_AT))]
    pixels = [math.prod(stored_size(pair, space, form)) for pair in looked_at]
    enough = [place for place, found in enumerate(pixels) if found * len(pixels) >= sum(pixels)]
    return (looked_at[min(enough, key=lambda place: pixels[place])],) if enough else ()


def _evaluation_seconds(trainer: Trainer) -> float:
    """Of one image. What is done for the first one only, such as loading kernels, is not counted where it matters."""
    settings = replace(trainer.evaluation_settings, max_samples=1)
    for _ in range(2):
        started = time.perf_counter()
        evaluate(trainer.segmenter.eval(), trainer.val_data, settings, trainer.accelerator.device)
        seconds = time.perf_counter() - started
        if seconds > _SLOW_IMAGE:
            break
    return seconds
