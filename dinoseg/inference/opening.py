"""A run on the way to its model: first what costs nothing (config, labels, checkpoint), then the weights."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from dinoseg.config import Config
from dinoseg.config.loading import is_given
from dinoseg.data.picture_form import PictureForm
from dinoseg.inference.decision import BY_SCORES, Decision, asked_of_calibration
from dinoseg.inference.ensemble import Ensemble, Member, Origin
from dinoseg.inference.fingerprint import digest_of, settings_fingerprint
from dinoseg.inference.policy import window_policy
from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.calibration_file import CalibrationFile, CalibrationRecord
from dinoseg.run_folder.checkpoint import PREVIOUS
from dinoseg.run_folder.ensemble_folder import MEMBER_REMEDY
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.metrics_schema import Window
from dinoseg.run_folder.run_source import RunSource
from dinoseg.system.device import pick_device
from dinoseg.system.messages import shell_word
from dinoseg.zoo.address import is_address


@dataclass(frozen=True)
class ChosenRun:
    """A run as a user names it.

    Attributes:
        path: the run folder.
        checkpoint: ``best``, ``last`` or ``previous``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; None is the device of the run's config.
        overrides: ``key=value`` changes of the run's config; ``device=cpu`` among them says the same as ``device``.
        weights_sha256: what the weights file must be; None for any.
    """

    path: str | os.PathLike[str]
    checkpoint: str = "best"
    device: str | None = "auto"
    overrides: Sequence[str] = ()
    weights_sha256: str | None = None

    def open(self) -> "OpenedRun":
        """Reads and checks all that loads no weights.

        Warns where ``model.weights`` is given to a run that holds its own backbone.

        Raises:
            ValueError: not a run folder, no such checkpoint, a wrong option, two devices, or a config or labels that
                the checkpoint was not trained with.
        """
        folder = RunFolder(Path(self.path))
        config = folder.read_config(self.overrides)
        device = asked_device(self.device, config, self.overrides)
        config = folder.with_recorded_splits(config, self.overrides)
        label_space, checkpoint = folder.read_labels(), folder.open_checkpoint(self.checkpoint)
        folder.refuse_other_training(checkpoint)
        if self.weights_sha256 not in (None, checkpoint.weights_sha256):
            raise ValueError(
                f"{checkpoint.folder}: not the weights that ensemble.json beside the run names; {MEMBER_REMEDY}"
            )
        if is_given("model.weights", self.overrides) and checkpoint.holds_backbone:
            warnings.warn(
                f"model.weights={config.model.weights} is not used: {checkpoint.folder} holds its own backbone",
                stacklevel=2,
            )
        return OpenedRun(RunSource(folder, checkpoint), config, label_space, device)

    def with_overrides(self, overrides: Iterable[str]) -> "ChosenRun":
        """The same with more changes of the config."""
        return replace(self, overrides=(*self.overrides, *overrides))

    def absolute(self) -> "ChosenRun":
        """The same from any working folder."""
        return replace(self, path=Path(self.path).absolute())

    @property
    def words(self) -> str:
        """What a command names it by."""
        return os.fspath(self.path)

    @property
    def place(self) -> str:
        """The folder that figures of it beside others may be called after."""
        return self.words

    @property
    def keeps_figures(self) -> bool:
        """Whether figures have a place of their own."""
        return True

    def evaluation(self, split: str) -> Path:
        """Folder of the figures of one split. Raises ValueError for no such split."""
        return RunFolder(Path(self.path)).evaluation(split)

    def hash_of(self, checkpoint: str) -> str:
        """SHA-256 of the weights of a checkpoint. Raises ValueError when there is none, or it is damaged."""
        return RunFolder(Path(self.path)).open_checkpoint(checkpoint).weights_sha256

    def read_labels(self) -> LabelSpace:
        """The label space of what is predicted. Raises ValueError when labels.json is missing or damaged."""
        return RunFolder(Path(self.path)).read_labels()


def asked_device(device: str | None, config: Config, overrides: Sequence[str]) -> str:
    """The device that a user asks for, by option or override; else the config's.

    Raises:
        ValueError: the two disagree.
    """
    # The run's own device is where it was trained; another machine may have another.
    if device is None or is_given("device", overrides):
        if device not in (None, "auto", config.device):
            raise ValueError(f"--device {device} and device={config.device} disagree; give one of them")
        return config.device
    return device


@runtime_checkable
class ModelSource(Protocol):
    """Where the weights of a model come from: a run, or a published head."""

    @property
    def words(self) -> str:
        """What a command names it by."""

    @property
    def version(self) -> str:
        """Which of its weights, such as the name of a checkpoint."""

    @property
    def weights_sha256(self) -> str:
        """Names the weights. Raises ValueError when they are damaged."""

    @property
    def all_weights_sha256(self) -> str:
        """Names the weights of head and backbone, wherever these lie. Raises ValueError when they are damaged."""

    @property
    def head_sha256(self) -> str:
        """Names the weights of the head: the same of a run, of its export and of what is pushed of it.

        Raises ValueError when they are damaged.
        """

    @property
    def metadata(self) -> dict[str, str]:
        """What a checkpoint says of them."""

    @property
    def calibration(self) -> Path | None:
        """The file that says what their probabilities are worth; None where there can be none."""

    def load(self, config: Config, label_space: LabelSpace) -> Segmenter:
        """The segmenter in evaluation mode, on the CPU.

        Raises:
            ValueError: damaged weights, or the backbone's are not to be had.
        """


@dataclass(frozen=True)
class OpenedRun:
    """A run, or a published head, whose settings are known to be right; its weights are not loaded yet.

    Attributes:
        source: of the weights.
        config: the run's, with the changes.
        device_name: the device that was asked for.
        given: in place of what calibration.json says.
    """

    source: ModelSource
    config: Config
    label_space: LabelSpace
    device_name: str
    given: Decision | None = None

    @cached_property
    def device(self) -> torch.device:
        """Where the model is to run. Raises ValueError when this machine has no such device."""
        return pick_device(self.device_name)

    @property
    def weights_sha256(self) -> str:
        """Of the weights file. Raises ValueError when it is damaged."""
        return self.source.weights_sha256

    def load_segmenter(self) -> Segmenter:
        """The trained segmenter in evaluation mode, on the CPU.

        Raises:
            ValueError: a damaged checkpoint, or the backbone's weights are not to be had.
        """
        return self.source.load(self.config, self.label_space)

    def load_merged(self) -> Segmenter:
        """The same with its adapters merged into the backbone's weights.

        Raises:
            ValueError: see ``load_segmenter``.
        """
        segmenter = self.load_segmenter()
        if segmenter.backbone.mode == "lora":
            segmenter.backbone.merge_adapters()
        return segmenter

    @property
    def picture_form(self) -> PictureForm:
        """How it reads pictures."""
        return PictureForm.of(self.config.datasets)

    def load_ensemble(self, device: torch.device) -> Ensemble:
        """The run alone, on a device.

        Raises:
            ValueError: see ``load_segmenter``.
        """
        return Ensemble((self.member(self.load_segmenter().to(device)),), device)

    def member(self, segmenter: Segmenter) -> Member:
        """The run with its segmenter, where that is to run."""
        return Member(segmenter, self.config, self.fingerprint, self.origin, self.decision)

    @cached_property
    def calibration(self) -> CalibrationRecord | None:
        """What ``dinoseg calibrate`` found for these weights; None where it was not run since they were trained.

        Warns where it was found with other windows, sizes or views.

        Raises:
            ValueError: calibration.json, or the weights are damaged.
        """
        if self.source.calibration is None:
            return None
        command = f"`{self._calibrating}`"
        record = CalibrationFile(self.source.calibration).read_for(self.weights_sha256, command)
        if record is not None:
            now = window_policy(self.config)
            if record.resolution != now.resolution or record.window != Window.model_validate(now.describe()):
                warnings.warn(
                    f"{self.source.calibration} was fitted with other windows, sizes or test-time augmentation; its "
                    f"temperature may not fit: run {command} with the settings that are used now",
                    stacklevel=2,
                )
        return record

    @cached_property
    def decision(self) -> Decision:
        """What it decides by beside its scores.

        Raises:
            ValueError: see ``Decision.of``.
        """
        if self.given is not None:
            return self.given
        asked = asked_of_calibration(self.config)
        if asked and self.source.calibration is None:
            raise ValueError(f"{asked[0].key}=true: {self.source.words} has no {asked[0].noun}; leave it out")
        words, classes = self.source.words, self.label_space.num_classes
        return Decision.of(self.calibration, self.config, words, self._calibrating, classes)

    @property
    def _calibrating(self) -> str:
        """The command that calibrates it. What lies on the Hub has no folder for calibration.json: its export has."""
        words = self.source.words
        if is_address(words):
            return f"dinoseg export {shell_word(words)} FOLDER && dinoseg calibrate FOLDER datasets.root=DATA"
        other = " --checkpoint last" if self.source.version in ("last", PREVIOUS) else ""
        return f"dinoseg calibrate {shell_word(words)}{other}"

    def deciding_by(self, decision: Decision) -> "OpenedRun":
        """The same, whatever calibration.json and the keys that ask for it say."""
        return replace(self, given=decision)

    def for_label_maps(self) -> "OpenedRun":
        """The same for label maps alone, which do not change with a temperature.

        Where nothing else is asked of calibration.json, that is not read, and may be damaged.
        """
        return self if asked_of_calibration(self.config) else self.deciding_by(BY_SCORES)

    @property
    def origin(self) -> Origin:
        """What names it. Raises ValueError when the weights are damaged."""
        return Origin(self.source.words, self.source.version, self.source.weights_sha256)

    @property
    def members(self) -> tuple["OpenedRun", ...]:
        """Itself: of one run and of several, the runs are the members."""
        return (self,)

    @property
    def fingerprint(self) -> str:
        """Names what decides its predictions beside the image. Raises ValueError when the weights are damaged."""
        window = window_policy(self.config)
        settings = settings_fingerprint(self.source.all_weights_sha256, self.label_space, self.config, window)
        return digest_of(f"{settings}{self.decision.fingerprint}") if self.decision.fingerprint else settings
