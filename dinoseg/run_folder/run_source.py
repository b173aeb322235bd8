"""A run as the source of a model: its folder, and the checkpoint that was chosen."""

from dataclasses import dataclass
from pathlib import Path

from dinoseg.config import Config
from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.folder import RunFolder, load_segmenter
from dinoseg.system.messages import named_as


@dataclass(frozen=True)
class RunSource:
    """Where the weights of a run come from.

    Attributes:
        checkpoint: the chosen one; each part is verified when it is read.
        address: what a command names it by where that is not its folder.
    """

    folder: RunFolder
    checkpoint: Checkpoint
    address: str | None = None

    @property
    def words(self) -> str:
        """The run folder, or its address."""
        return str(self.folder.path) if self.address is None else self.address

    @property
    def version(self) -> str:
        """Name of the checkpoint."""
        return self.checkpoint.name

    @property
    def weights_sha256(self) -> str:
        """Of the weights file. Raises ValueError when it is damaged."""
        return self.checkpoint.weights_sha256

    @property
    def all_weights_sha256(self) -> str:
        """The same: its metadata has the hash of the backbone. Raises ValueError when the file is damaged."""
        return self.weights_sha256

    @property
    def head_sha256(self) -> str:
        """Of the checkpoint's head. Raises ValueError when the file is damaged."""
        return self.checkpoint.head_sha256

    @property
    def metadata(self) -> dict[str, str]:
        """That of the weights file. Raises ValueError when it is damaged."""
        return self.checkpoint.metadata

    @property
    def calibration(self) -> Path:
        """In the run folder."""
        return self.folder.calibration

    def load(self, config: Config, label_space: LabelSpace) -> Segmenter:
        """The trained segmenter in evaluation mode, on the CPU.

        Raises:
            ValueError: a damaged checkpoint, or the backbone's weights are not to be had.
        """
        with named_as(self.folder.path, self.words):
            return load_segmenter(self.checkpoint, config, label_space)
