"""``calibration.json`` of a run folder: the temperature of its probabilities, and what it was fitted on."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dinoseg.run_folder.checkpoint_manifest import Sha256
from dinoseg.run_folder.metrics_schema import Percent, Temperature, Window
from dinoseg.system.files import replace_text
from dinoseg.system.json_files import Record, read_json


class FittedOn(Record):
    """The pixels that a temperature was fitted on: a seeded choice of those that count."""

    split: Literal["train", "val"]
    images: Annotated[int, Field(ge=1)]
    pixels: Annotated[int, Field(ge=1)]
    seed: int


class Figures(Record):
    """Calibration error in percent and negative log-likelihood in nats, over every pixel that counts."""

    ECE: Percent
    NLL: Annotated[float, Field(ge=0)]


class TunedWeights(Record):
    """Weights by class index, tuned for the mean of a figure; and that mean over every pixel of the split, in percent,
    without weights and with them."""

    figure: Literal["Dice", "IoU"]
    weights: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    before: Percent
    after: Percent


class LeastPatches(Record):
    """Least sizes of patches by class index, in pixels at native size (0 leaves a class as it is), found for the mean
    of a figure; and that mean over every pixel of the split, in percent, without them and with them."""

    figure: Literal["Dice", "IoU"]
    pixels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    # Whether they are of maps that weights of classes decided.
    tuned: bool
    before: Percent
    after: Percent


class CalibrationRecord(Record):
    """The whole file.

    Attributes:
        temperature: divides the logarithms of the probabilities.
        checkpoint, weights_sha256: whose probabilities they are.
        resolution, window: how images were predicted.
        before, after: figures of the split at temperature 1, and at this one.
        tuned: weights that ``eval.tuned`` decides by; null where none were asked for, or none helped.
        least_patches: sizes that ``eval.least_patches`` goes by; likewise.
    """

    temperature: Temperature
    checkpoint: Annotated[str, Field(min_length=1)]
    weights_sha256: Sha256
    fitted_on: FittedOn
    resolution: str
    window: Window
    before: Figures
    after: Figures
    tuned: TunedWeights | None = None
    least_patches: LeastPatches | None = None


@dataclass(frozen=True)
class CalibrationFile:
    """Where the calibration of a run lies."""

    path: Path

    def read(self, command: str) -> CalibrationRecord | None:
        """What it says; None where there is none.

        Args:
            command: writes it, for messages.

        Raises:
            ValueError: it is damaged; names file and key.
        """
        if not self.path.exists():
            return None
        return read_json(self.path, CalibrationRecord, f"write it anew with {command}, or remove it")

    def read_for(self, weights_sha256: str, command: str) -> CalibrationRecord | None:
        """What it says of these weights. Warns where it is of others. Raises ValueError where it is damaged."""
        record = self.read(command)
        if record is None or record.weights_sha256 == weights_sha256:
            return record
        warnings.warn(
            f"{self.path} is of other weights (checkpoint {record.checkpoint} as it was then) and is not used: "
            f"probabilities are not calibrated; run {command}",
            stacklevel=2,
        )
        return None

    def write(self, record: CalibrationRecord) -> None:
        """Writes the file, whole or not at all."""
        replace_text(self.path, json.dumps(record.model_dump(), indent=2) + "\n")
