"""A published head as a user names it: what stands in the place of a run folder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinoseg.config.loading import HUB_PREFIX
from dinoseg.inference.opening import OpenedRun, asked_device
from dinoseg.labels import LabelSpace
from dinoseg.zoo.address import Address
from dinoseg.zoo.files import head_file
from dinoseg.zoo.published import DESCRIBING, PublishedSource, published_config, published_labels


@dataclass(frozen=True)
class ChosenHead:
    """A published head as a user names it.

    Attributes:
        address: on the Hub, or of a folder.
        device: see ``ChosenRun``.
        overrides: ``key=value`` changes of its config; of a head that is not known by name, what it was trained on.
    """

    address: Address
    device: str | None = "auto"
    overrides: Sequence[str] = ()

    def open(self) -> OpenedRun:
        """Finds or fetches its file, and checks that it is what the settings say; the backbone's is not read.

        Raises:
            ValueError: the file is not to be had, holds no such head, or an option is wrong.
        """
        # What costs nothing is asked before anything is fetched.
        label_space = published_labels(self.address, self.overrides)
        file = head_file(self.address)
        config = published_config(self.address, file, self.overrides)
        device = asked_device(self.device, config, self.overrides)
        return OpenedRun(PublishedSource(self.address, file, config.model.weights), config, label_space, device)

    def with_overrides(self, overrides: Iterable[str]) -> "ChosenHead":
        """The same with more changes of the config."""
        return replace(self, overrides=(*self.overrides, *overrides))

    def absolute(self) -> "ChosenHead":
        """The same from any working folder."""
        return replace(self, address=self.address.absolute())

    @property
    def words(self) -> str:
        """What a command names it by."""
        return self.address.text

    @property
    def checkpoint(self) -> str:
        """What stands in the place of a checkpoint's name."""
        return "published"

    @property
    def place(self) -> str:
        """The folder that figures of it may be called after."""
        return Path(self.address.repository or self.address.text.removeprefix(HUB_PREFIX)).name

    @property
    def keeps_figures(self) -> bool:
        """Whether figures have a place of their own."""
        return False

    @property
    def describing_keys(self) -> tuple[str, ...]:
        """Keys of the overrides that say what it is; none of a head that is known."""
        return DESCRIBING if self.address.head is None else ()

    def evaluation(self, split: str) -> Path:
        """Raises ValueError: a published head has no folder for figures."""
        raise ValueError(
            f"{self.words} has no folder of its own for figures; give one with --out (from Python, write=FOLDER), for "
            f"instance --out {self.place}/{split}"
        )

    def hash_of(self, checkpoint: str) -> str:
        """Names the weights. Raises ValueError when the file is not to be had."""
        return self.open().weights_sha256

    def read_labels(self) -> LabelSpace:
        """The label space of what is predicted. Raises ValueError for a head that is not known and not described."""
        return published_labels(self.address, self.overrides)
