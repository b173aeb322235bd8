"""The run folder: where each file of a run lies, and how a run is opened again."""

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dinoseg.backbone import backbone_hash
from dinoseg.config import Config, with_changes
from dinoseg.config.loading import is_given, load_config
from dinoseg.config.overriding import Trained, override
from dinoseg.data.pairs import SPLITS, Split
from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.run_folder.checkpoint import PREVIOUS, Checkpoint
from dinoseg.run_folder.trained_with import refuse_other_labels, refuse_other_settings
from dinoseg.system.files import replace_text
from dinoseg.system.messages import shell_word

# By which a user names other images than those of the training.
_SPLIT_KEYS = tuple(f"datasets.{key}" for key in ("split", "train", "val", "test", "images", "masks"))

# What a folder of several runs as one has in place of a config; see ``ensemble_folder.py``.
ENSEMBLE_FILE = "ensemble.json"
CHECKPOINTS = ("best", "last", PREVIOUS)


def names_other_images(overrides: Iterable[str]) -> bool:
    """Whether ``key=value`` changes of a run's config name other images than those of its training."""
    overrides = list(overrides)
    return any(is_given(key, overrides) for key in _SPLIT_KEYS)


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def labels(self) -> Path:
        return self.path / "labels.json"

    @property
    def splits(self) -> Path:
        """The images of every split, where the data has no splits of its own."""
        return self.path / "splits.json"

    @property
    def calibration(self) -> Path:
        """The temperature of its probabilities, see ``calibration_file.py``."""
        return self.path / "calibration.json"

    @property
    def plan(self) -> Path:
        """The recipe with its reasons, where the training was planned (``minutes=``)."""
        return self.path / "plan.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def overlays(self) -> Path:
        return self.path / "overlays"

    def overlays_of_step(self, step: int) -> Path:
        """Where ``eval.keep_overlays`` keeps the pictures of the evaluation after so many steps."""
        return self.overlays / "val" / f"step_{step:06}"

    def kept_overlays(self) -> list[tuple[int, Path]]:
        """The steps of which pictures were kept, and their folders, in order."""
        found = [(path.name.removeprefix("step_"), path) for path in (self.overlays / "val").glob("step_*")]
        return sorted((int(step), path) for step, path in found if step.isdecimal() and path.is_dir())

    def checkpoint(self, name: str) -> Path:
        """Folder of the checkpoint ``last`` or ``best``."""
        return self.path / "checkpoints" / name

    def open_checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint ``last``, ``best`` or ``previous``, to read from.

        Raises:
            ValueError: another name, or there is none.
        """
        if name not in CHECKPOINTS:
            raise ValueError(f"{self.path}: there is no checkpoint {name!r}; choose {', '.join(CHECKPOINTS)}")
        return Checkpoint.open(self.checkpoint(name))

    def evaluation(self, split: str) -> Path:
        """Folder of the figures of one split.

        Raises:
            ValueError: no split of that name: a name may not lead out of the run folder.
        """
        if split not in SPLITS:
            raise ValueError(f"--split {split}: choose {', '.join(SPLITS)}")
        return self.path / "eval" / split

    def read_config(self, overrides: Iterable[str] = ()) -> Config:
        """The run's config with overrides on top.

        Raises:
            ValueError: not a run folder, or an override is wrong.
        """
        if not self.config.is_file():
            what = "not a run folder (no config.yaml in it)" if self.path.exists() else "no such folder"
            if self.path.is_file():
                what = "a file, where a run folder is wanted"
            predicted = (self.path / "labels").is_dir() and (self.path / "predictions.json").is_file()
            other = (
                f", or score its label maps with --predictions {shell_word(self.path / 'labels')}" if predicted else ""
            )
            if self.path.suffix.lower() == ".onnx" and self.path.is_file():
                other = f", or predict from Python: dinoseg.onnx.load({str(self.path)!r}).predict(IMAGE)"
            elif os.path.lexists(self.path / ENSEMBLE_FILE):
                what = f"several runs as one ({ENSEMBLE_FILE}), where one is wanted"
                other = ", or one of the folders in it"
            elif any(self.path.glob("fold_*/config.yaml")):
                what = "a cross-validation that has not ended"
                other = ", go on with the command that began it and --resume, or give one of the folders in it"
            raise ValueError(f"{self.path}: {what}; give the output_dir of a training{other}")
        trained = Trained("run", labels=self.labels.name, settings=str(self.config))
        return override(self._recorded_config(), list(overrides), trained)

    def record_splits(self, made: Mapping[Split, Sequence[str]] | None) -> None:
        """Writes which images were given to which split; removes what an older beginning wrote where none were."""
        if made is None:
            self.splits.unlink(missing_ok=True)
        else:
            replace_text(self.splits, json.dumps(made, indent=1) + "\n")

    def with_recorded_splits(self, config: Config, overrides: Iterable[str] = ()) -> Config:
        """The config with the splits that were made when the run began: images added since belong to none.

        Args:
            overrides: where they name other splits, those are meant.
        """
        undealt = {"datasets.folds": None, "datasets.fold": None}
        if names_other_images(overrides):
            return with_changes(config, undealt)
        if self.splits.exists():
            return with_changes(config, undealt | {"datasets.split": str(self.splits.absolute())})
        return config

    def _recorded_config(self) -> Config:
        remedy = "copy the whole folder of the run again"
        try:
            contents = self.config.read_bytes()
        except OSError as error:
            raise ValueError(f"{self.config}: cannot be read ({error.strerror}); {remedy}") from None
        if not contents:
            raise ValueError(f"{self.config}: damaged (it is empty); {remedy}")
        try:
            return _loaded(self.config, contents)
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from None

    def read_labels(self) -> LabelSpace:
        """The label space that the run was trained with.

        Raises:
            ValueError: labels.json is missing or damaged.
        """
        if not self.labels.is_file():
            raise ValueError(f"{self.path}: labels.json is missing; copy the whole run folder")
        return LabelSpace.load(self.labels)

    def refuse_other_training(self, checkpoint: Checkpoint, resumed: bool = False) -> None:
        """Compares config.yaml and labels.json with what the checkpoint was trained with.

        Args:
            resumed: the training goes on, so that every setting counts that shapes it.

        Raises:
            ValueError: one of them is another run's, or was edited since; names file and key.
        """
        try:
            refuse_other_labels(checkpoint.metadata, self.read_labels(), self.labels)
            refuse_other_settings(checkpoint.metadata, self.read_config(), self.config, resumed)
        except ValueError:
            # It may be the weights that are another run's: their hash says so.
            _ = checkpoint.weights_sha256
            raise


@lru_cache(maxsize=16)
def _loaded(file: Path, contents: bytes) -> Config:
    """The config in a file that holds this: a command asks for it several times, and parsing is most of reading it."""
    return load_config([f"config={file}"])


def settings_of_run(arguments: Iterable[str]) -> list[str]:
    """Arguments of ``train`` in which a run folder may stand for its ``config=`` and ``output_dir=``.

    Beside a ``config=`` of its own the folder is only where the run is, or will be.

    Raises:
        ValueError: an argument that is neither key=value nor a run folder, or two folders.
    """
    arguments = list(arguments)
    # Not Path.is_dir, which raises for what is too long to be a name, such as a mapping of many classes.
    folders = [entry for entry in arguments if "=" not in entry or os.path.isdir(entry)]
    if not folders:
        return arguments
    if len(folders) > 1:
        raise ValueError(f"{folders[0]} and {folders[1]}: give one run folder, and options as key=value")
    run, rest = RunFolder(Path(folders[0])), [entry for entry in arguments if entry != folders[0]]
    base = [f"output_dir={run.path}"]
    if not is_given("config", rest):
        if not run.config.is_file():
            raise ValueError(_no_run_in_words(run.path))
        base.append(f"config={run.config}")
    return base + rest


def _no_run_in_words(path: Path) -> str:
    """Why an argument is no run to go on with, and what was likely meant."""
    if path.is_file():
        return f"{path}: a file, where key=value or a run folder is wanted; give it as config={shell_word(path)}"
    if not path.exists():
        return (
            f"{path}: neither key=value nor a run folder: no such folder; to go on, give the folder (output_dir) of a "
            f"run; to start one, give dinoseg train datasets.root=DATA output_dir={shell_word(path)}"
        )
    fold = next(iter(sorted(path.glob("fold_*/config.yaml"))), None)
    if fold is not None:
        return (
            f"{path}: holds the runs of folds; the command that began it goes on with all of them, with --resume; one "
            f"alone goes on by dinoseg train {shell_word(fold.parent)} --resume"
        )
    return (
        f"{path}: neither key=value nor a run folder (no config.yaml in it): nothing to resume; start with: dinoseg "
        f"train datasets.root={shell_word(path)} output_dir=NEW if it holds the data, or dinoseg train config=FILE "
        f"output_dir={shell_word(path)}"
    )


def load_segmenter(checkpoint: Checkpoint, config: Config, label_space: LabelSpace) -> Segmenter:
    """The trained segmenter in evaluation mode.

    Args:
        config: of the run that the checkpoint belongs to.

    Raises:
        ValueError: the checkpoint is damaged, or the backbone's weights are not to be had.
    """
    whole = checkpoint.holds_backbone
    if whole:
        # The weights come from the checkpoint; "none" would warn of random initialisation for nothing.
        config = with_changes(config, {"model.weights": "none"})
    with warnings.catch_warnings():
        if whole:
            warnings.simplefilter("ignore")
        segmenter = build_segmenter(config, label_space.num_classes)
    checkpoint.load_into(segmenter)
    if not whole:
        checkpoint.refuse_other_backbone(backbone_hash(segmenter.backbone.frozen_state()), config.model.weights)
    return segmenter.eval()
