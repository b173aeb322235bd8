"""A pushed run as a user names it: a run whose folder lies in the cache, and is nobody's to write into."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinoseg.config.loading import HUB_PREFIX, is_given
from dinoseg.hub.pushed_run import PushedRun
from dinoseg.hub.sent_backbone import published_name
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.run_source import RunSource
from dinoseg.system.messages import named_as


@dataclass(frozen=True)
class ChosenPushedRun(ChosenRun):
    """A run on the Hub, or in a folder of its layout.

    Attributes:
        pushed: its files on this disk; ``path`` is the run folder made of them.
    """

    pushed: PushedRun | None = None

    @staticmethod
    def of(
        pushed: PushedRun, checkpoint: str = "best", device: str | None = "auto", overrides: Sequence[str] = ()
    ) -> "ChosenPushedRun":
        """The run of these files.

        Raises:
            ValueError: another checkpoint than ``best``, as which the only one is taken.
        """
        if checkpoint != "best":
            raise ValueError(
                f"--checkpoint {checkpoint}: {pushed.address.text} holds one checkpoint alone, whichever was pushed; "
                "leave the option out"
            )
        return ChosenPushedRun(pushed.folder, checkpoint, device, overrides, pushed=pushed)

    @property
    def _run(self) -> PushedRun:
        assert self.pushed is not None
        return self.pushed

    def open(self) -> OpenedRun:
        """As ``ChosenRun.open``.

        Raises:
            ValueError: the backbone's weights are a file, and it is not given; and whatever ``ChosenRun.open`` finds.
        """
        backbone = self._run.backbone
        if self._run.needs_weights and not is_given("model.weights", self.overrides):
            published = published_name(backbone.name) is not None
            raise ValueError(
                f"{self.words}: its backbone, {backbone.name}, had its weights from a file that was not pushed "
                f"(SHA-256 of its tensors {backbone.sha256[:12]}...); get that file from whoever pushed the run, and "
                f"give it as model.weights=FILE{' (hub, if it is the published one)' if published else ''}"
            )
        with named_as(self.path, self.words):
            opened = super().open()
        assert isinstance(opened.source, RunSource)
        return replace(opened, source=replace(opened.source, address=self.words))

    def absolute(self) -> "ChosenPushedRun":
        """The same from any working folder."""
        return replace(self, pushed=replace(self._run, address=self._run.address.absolute()))

    @property
    def words(self) -> str:
        """Its address."""
        return self._run.address.text

    @property
    def place(self) -> str:
        """The folder that figures of it may be called after."""
        return Path(self._run.address.repository or self.words.removeprefix(HUB_PREFIX)).name

    @property
    def keeps_figures(self) -> bool:
        """Whether figures have a place of their own."""
        return False

    def evaluation(self, split: str) -> Path:
        """Raises ValueError: neither the cache nor a folder that is to be sent is a place for figures."""
        raise ValueError(
            f"{self.words} has no folder of its own for figures; give one with --out (from Python, write=FOLDER), for "
            f"instance --out figures/{self.place}/{split}"
        )

    def hash_of(self, checkpoint: str) -> str:
        """SHA-256 of the weights. Raises ValueError when they are damaged."""
        with named_as(self.path, self.words):
            return super().hash_of(checkpoint)

    def read_labels(self) -> LabelSpace:
        """The label space of what is predicted. Raises ValueError when labels.json is damaged."""
        with named_as(self.path, self.words):
            return super().read_labels()
