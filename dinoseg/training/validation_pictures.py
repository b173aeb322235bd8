"""The few validation images that a training draws at each evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from dinoseg.config import Config
from dinoseg.data.dataset import EvaluationDataset, Sample
from dinoseg.data.sampler import spread_subset
from dinoseg.drawing.strip import draw_sample
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.folder import RunFolder


@dataclass(frozen=True)
class ValidationPictures:
    """The same images in every evaluation: as many as ``eval.num_visualizations`` asks for.

    Attributes:
        evaluated: rows of ``data`` that an evaluation sees.
    """

    config: Config
    run_folder: RunFolder
    label_space: LabelSpace
    data: EvaluationDataset
    evaluated: Sequence[int]

    @cached_property
    def names(self) -> list[str]:
        """Of the images, in their order."""
        most = self.config.eval.num_visualizations
        rows = spread_subset(len(self.evaluated), most) if most else []
        return [self.data.pairs[self.evaluated[row]].name for row in rows]

    def draw(self, sample: Sample, prediction: Tensor, step: int) -> None:
        """Draws a sample that is one of them."""
        if sample["name"] in self.names:
            folders = [self._folder]
            if self.config.eval.keep_overlays:
                folders.append(self.run_folder.overlays_of_step(step))
            draw_sample(sample, prediction, self.label_space, self.config.transforms, folders)

    def files(self) -> dict[str, Path]:
        """The last ones, by name; those that another machine's process drew into its own folder are not there."""
        drawn = {name: self._folder / f"{name}.png" for name in self.names}
        return {name: file for name, file in drawn.items() if file.exists()}

    @property
    def _folder(self) -> Path:
        return self.run_folder.overlays / "val"
