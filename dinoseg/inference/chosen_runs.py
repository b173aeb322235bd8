"""Several runs on the way to their models: chosen, compared, opened; their mean is what is predicted."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dinoseg.config import Config
from dinoseg.config.loading import HUB_PREFIX
from dinoseg.hub.pushed_run import find_pushed_run
from dinoseg.inference.chosen_head import ChosenHead
from dinoseg.inference.chosen_pushed_run import ChosenPushedRun
from dinoseg.inference.decision import asked_of_calibration
from dinoseg.inference.ensemble import Ensemble, Member
from dinoseg.inference.opening import ChosenRun, OpenedRun
from dinoseg.labels import LabelSpace
from dinoseg.labels.agreement import common_space
from dinoseg.models.segmenter import Segmenter, share_backbone
from dinoseg.run_folder.ensemble_folder import EnsembleFolder, is_ensemble
from dinoseg.run_folder.folder import RunFolder
from dinoseg.zoo.address import Address, is_address
from dinoseg.zoo.catalogue import find_head

# One run, or several to be averaged.
Runs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class ChosenEnsemble:
    """Several runs as a user names them.

    Attributes:
        runs: two or more.
        folder: that of the ensemble, where the runs lie in one.
    """

    runs: tuple[ChosenRun | ChosenHead, ...]
    folder: Path | None = None

    def open(self) -> "OpenedEnsemble":
        """Reads and checks all that loads no weights.

        Raises:
            ValueError: see ``ChosenRun.open``; or runs of different classes, or one that is given twice.
        """
        self._refuse_same_folders()
        members = tuple(run.open() for run in self.runs)
        for member in members:
            for asked in asked_of_calibration(member.config):
                raise ValueError(
                    f"{asked.key}=true: {asked.noun} are of one run alone, and several are given; leave it out"
                )
        space = self._common_space([member.label_space for member in members])
        said: dict[str, str] = {}
        for run, member in zip(self._names, members, strict=True):
            # By the head alone: settings, backbone and file of an export are not those of its run. Runs of one folder
            # are in one form, and folds that hardly trained may have learned the same.
            digest = member.source.head_sha256 if self.folder is None else member.weights_sha256
            other = said.setdefault(digest, run)
            if other != run:
                raise ValueError(
                    f"{other} and {run} are one run (the same weights); each run has one say: leave one out"
                )
        return OpenedEnsemble(members, space)

    def with_overrides(self, overrides: Iterable[str]) -> "ChosenEnsemble":
        """The same with more changes of the config of each."""
        overrides = tuple(overrides)
        return replace(self, runs=tuple(run.with_overrides(overrides) for run in self.runs))

    def absolute(self) -> "ChosenEnsemble":
        """The same from any working folder."""
        return replace(self, runs=tuple(run.absolute() for run in self.runs))

    def read_labels(self) -> LabelSpace:
        """The label space of what is predicted. Raises ValueError for runs of different classes."""
        return self._common_space([run.read_labels() for run in self.runs])

    @property
    def words(self) -> str:
        """What a command names them by."""
        return " ".join(self._names) if self.folder is None else str(self.folder)

    @property
    def keeps_figures(self) -> bool:
        """Whether figures have a place of their own."""
        return self.folder is not None

    def evaluation(self, split: str) -> Path:
        """Folder of the figures of one split.

        Raises:
            ValueError: no such split, or the runs lie in no folder of the ensemble's own.
        """
        if self.folder is None:
            instance = f"{self.runs[0].place}+{Path(self.runs[1].place).name}/{split}"
            raise ValueError(
                f"{len(self.runs)} runs as one have no folder of their own for figures; give one with --out (from "
                f"Python, write=FOLDER), for instance --out {instance}"
            )
        return RunFolder(self.folder).evaluation(split)

    def hash_of(self, checkpoint: str) -> str:
        """Names the weights of a checkpoint of each. Raises ValueError when one has none, or it is damaged."""
        return _hash_of_all(run.hash_of(checkpoint) for run in self.runs)

    @property
    def checkpoint(self) -> str:
        """Of each run; a published head has one of its own."""
        return next((run for run in self.runs if isinstance(run, ChosenRun)), self.runs[0]).checkpoint

    @property
    def device(self) -> str | None:
        """Of all."""
        return self.runs[0].device

    @property
    def overrides(self) -> Sequence[str]:
        """Of each."""
        return self.runs[0].overrides

    @property
    def _names(self) -> list[str]:
        return [run.words for run in self.runs]

    def _common_space(self, spaces: list[LabelSpace]) -> LabelSpace:
        return common_space(list(zip(self._names, spaces, strict=True)))

    def _refuse_same_folders(self) -> None:
        owners: dict[Path | str, str] = {}
        for name in self._names:
            place = name if is_address(name) else Path(name).resolve()
            if place in owners:
                twice = (
                    f"{name} is given twice" if owners[place] == name else f"{owners[place]} and {name} are one folder"
                )
                raise ValueError(f"{twice}; each run has one say: leave one out")
            owners[place] = name


@dataclass(frozen=True)
class OpenedEnsemble:
    """Several runs whose settings are known to be right; their weights are not loaded yet.

    Attributes:
        members: in the order in which they were given.
        label_space: the classes, which all have; what any of them ignores is ignored.
    """

    members: tuple[OpenedRun, ...]
    label_space: LabelSpace

    @property
    def config(self) -> Config:
        """The first run's: where the data lies, and what is measured."""
        return self.members[0].config

    @property
    def device(self) -> torch.device:
        """Where all models are to run. Raises ValueError when this machine has no such device."""
        return self.members[0].device

    @property
    def weights_sha256(self) -> str:
        """Names the weights of all. Raises ValueError when some are damaged."""
        return _hash_of_all(member.weights_sha256 for member in self.members)

    def load_ensemble(self, device: torch.device) -> Ensemble:
        """The runs on one device; those whose backbones are equal hold one of them.

        Raises:
            ValueError: see ``OpenedRun.load_segmenter``.
        """
        members: list[Member] = []
        segmenters: list[Segmenter] = []
        for opened in self.members:
            segmenter = opened.load_segmenter().to(device)
            any(share_backbone(other, segmenter) for other in segmenters)
            segmenters.append(segmenter)
            members.append(opened.member(segmenter))
        return Ensemble(tuple(members), device)


# One run or several: as a user names them, and with their settings known to be right.
Chosen = ChosenRun | ChosenHead | ChosenEnsemble
Opened = OpenedRun | OpenedEnsemble


def describing_keys(run: Chosen) -> tuple[str, ...]:
    """Keys of the overrides that say what a published head among these is."""
    heads = run.runs if isinstance(run, ChosenEnsemble) else (run,)
    return tuple({key: None for head in heads if isinstance(head, ChosenHead) for key in head.describing_keys})


def _hash_of_all(digests: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def choose_runs(
    runs: Runs, checkpoint: str = "best", device: str | None = "auto", overrides: Sequence[str] = ()
) -> Chosen:
    """One run or several, as a user names them; of a folder that holds several, its runs are meant.

    ``hf:owner/name`` is a run that was pushed, or a published head, which stands for a run; a name that is not known is
    looked up on the Hub.

    Raises:
        ValueError: no run, an ``ensemble.json`` that is damaged, an address where nothing is, or not to be had, the
            name of a head that is not told as such, or a checkpoint of a published head alone.
    """
    given = runs if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]
    paths: list[str | os.PathLike[str]] = []
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"{path!r} is no run; give the path of a run folder, or a list of such")
        paths.append(path)
    if not paths:
        raise ValueError("no run is given; give one or more run folders")
    chosen: list[ChosenRun | ChosenHead] = []
    for path in paths:
        if is_address(path):
            chosen.append(_chosen_address(Address.parse(os.fspath(path)), checkpoint, device, overrides))
        elif is_ensemble(Path(path)):
            members = EnsembleFolder(Path(path)).members()
            # The file names the weights of the best checkpoint of each.
            digests = [digest if checkpoint == "best" else None for _, digest in members]
            listed = zip(members, digests, strict=True)
            chosen += [ChosenRun(folder, checkpoint, device, overrides, digest) for (folder, _), digest in listed]
        else:
            _refuse_without_prefix(os.fspath(path))
            chosen.append(ChosenRun(path, checkpoint, device, overrides))
    if len(chosen) == 1:
        if isinstance(chosen[0], ChosenHead) and checkpoint != "best":
            raise ValueError(f"{chosen[0].words}: a published head has one set of weights; leave --checkpoint out")
        return chosen[0]
    return ChosenEnsemble(tuple(chosen), Path(paths[0]) if len(paths) == 1 else None)


def _chosen_address(
    address: Address, checkpoint: str, device: str | None, overrides: Sequence[str]
) -> ChosenRun | ChosenHead:
    pushed = find_pushed_run(address)
    if pushed is not None:
        return ChosenPushedRun.of(pushed, checkpoint, device, overrides)
    return ChosenHead(address, device, overrides)


def _refuse_without_prefix(name: str) -> None:
    if find_head(name) is not None and not os.path.exists(name):
        raise ValueError(f"{name}: no such folder; the published head of that name is {HUB_PREFIX}{name}")
