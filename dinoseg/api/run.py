"""A run as an object: what a training left, and what can be done with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinoseg.config import Config
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.recorded_evaluation import read_evaluation
from dinoseg.run_folder.training_records import read_training_records


@dataclass(frozen=True)
class Run:
    """One training and everything it wrote. Stands wherever the path of a run folder does.

    Attributes:
        path: the run folder.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Config:
        """The config of the training, complete. Raises ValueError when the folder is no run folder."""
        return RunFolder(self.path).read_config()

    @property
    def label_space(self) -> LabelSpace:
        """What is learned and what is ignored. Raises ValueError when labels.json is missing or damaged."""
        return RunFolder(self.path).read_labels()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: ``kind`` (train or val), ``step``, and the figures of that step.

        Empty without the file. Raises ValueError when it is damaged; a last line that a kill cut short is left out.
        """
        return read_training_records(RunFolder(self.path).metrics)

    def figures(self, split: str = "val") -> dict[str, Any]:
        """The contents of ``eval/<split>/metrics.json``; those of ``val`` are of the best checkpoint of the training.

        Raises:
            ValueError: the split is not evaluated yet, or its files are damaged.
        """
        return read_evaluation(RunFolder(self.path), split, self.label_space).metrics

    def load(self, checkpoint: str = "best", device: str = "auto", overrides: Sequence[str] = ()) -> Predictor:
        """The predictor; see ``dinoseg.load``."""
        return Predictor.load(ChosenRun(self.path, checkpoint, device, tuple(overrides)).open())
