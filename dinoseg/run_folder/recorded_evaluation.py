"""What an evaluation left in the run folder, read back and checked."""

import csv
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int

from dinoseg.labels import LabelSpace
from dinoseg.run_folder.folder import RunFolder

_FIGURES = ("mIoU", "mDice", "mAcc", "aAcc", "confidence")
_PIXELS = ("intersection", "prediction", "truth")
_CLASS_FIGURES = ("label_id", "name", "IoU", "IoU_interval", "Dice", "precision", "recall", *_PIXELS)


@dataclass(frozen=True)
class RecordedEvaluation:
    """The files of ``eval/<split>/``.

    Attributes:
        metrics: contents of metrics.json.
        matrix: rows truth, columns prediction, in pixels.
        names: of the images counted.
        counts: pixels in intersection, prediction and truth of every class, by image.
        date: when metrics.json was written.
    """

    split: str
    metrics: dict[str, Any]
    matrix: Int[np.ndarray, "classes classes"]
    names: tuple[str, ...]
    counts: Int[np.ndarray, "images 3 classes"]
    date: datetime

    @property
    def policy(self) -> dict[str, Any]:
        """What the figures were measured with."""
        return self.metrics["policy"]


def read_evaluation(run: RunFolder, split: str, label_space: LabelSpace) -> RecordedEvaluation:
    """Reads the evaluation of one split.

    Raises:
        ValueError: the split was not evaluated, or a file is missing, damaged or of another label space; names the file
            and the command that writes it.
    """
    folder = run.evaluation(split)
    command = f"`dinoseg eval {run.path} --split {split}`"
    if not (folder / "metrics.json").is_file():
        raise ValueError(f"{run.path}: split {split} is not evaluated yet; run {command} first")
    return read_evaluation_folder(folder, command, label_space)


def read_evaluation_folder(folder: Path, command: str, label_space: LabelSpace | None = None) -> RecordedEvaluation:
    """Reads a folder that holds a metrics.json.

    Args:
        command: what writes it, for messages.
        label_space: checked against the classes when given.

    Raises:
        ValueError: a file is missing, damaged or of another label space; names the file and the command.
    """
    path = folder
    try:
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        _check_metrics(metrics, label_space)
        classes = len(metrics["per_class"])
        date = datetime.fromtimestamp(path.stat().st_mtime)
        path = folder / "confusion.csv"
        matrix = _read_matrix(path, classes)
        path = folder / "per_image.npz"
        names, counts = _read_images(path, classes)
    except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else error
        raise ValueError(f"{path}: damaged ({reason}); write it anew with {command}") from None
    return RecordedEvaluation(folder.name, metrics, matrix, names, counts, date)


def _check_metrics(metrics: Any, label_space: LabelSpace | None) -> None:
    if not isinstance(metrics, dict):
        raise ValueError("not an object")
    missing = [key for key in (*_FIGURES, "per_class", "policy") if key not in metrics]
    if missing:
        raise ValueError(f"without {', '.join(missing)}")
    rows, policy = metrics["per_class"], metrics["policy"]
    if not isinstance(policy, dict) or "images" not in policy:
        raise ValueError("its policy does not say how many images were counted")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("per_class is not a list of objects")
    for row in rows:
        if absent := [key for key in _CLASS_FIGURES if key not in row]:
            raise ValueError(f"a class without {', '.join(absent)}")
    found = [row["name"] for row in rows]
    if label_space is not None and found != list(label_space.class_names):
        raise ValueError(f"its classes {found} are not those of labels.json, {list(label_space.class_names)}")


def _read_matrix(path: Path, classes: int) -> Int[np.ndarray, "classes classes"]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    matrix = np.array([[int(value) for value in row[1:]] for row in rows], dtype=np.int64)
    if matrix.shape != (classes, classes):
        raise ValueError(f"{matrix.shape} counts where {classes} x {classes} are expected")
    return matrix


def _read_images(path: Path, classes: int) -> tuple[tuple[str, ...], Int[np.ndarray, "images 3 classes"]]:
    with np.load(path, allow_pickle=False) as content:
        names, counts = tuple(str(name) for name in content["names"]), content["counts"]
    if counts.shape != (len(names), 3, classes) or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(f"{counts.dtype} counts {counts.shape} do not belong to {len(names)} images")
    return names, counts
