"""What an evaluation left in the run folder, read back and checked."""

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import label_number, plain_label
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.metrics_schema import MetricsRecord
from dinoseg.system.array_files import ArrayForm, read_arrays
from dinoseg.system.json_files import check_document, load_json
from dinoseg.system.messages import list_names, shell_word, spreadsheet_text


@dataclass(frozen=True)
class RecordedEvaluation:
    """The files of ``eval/<split>/``.

    Attributes:
        metrics: contents of metrics.json.
        matrix: rows truth, columns prediction, in pixels.
        names: of the images counted.
        volumes: the volume of each that is a slice, empty for others; nothing where there are none.
        counts: pixels in intersection, prediction and truth of every class, by image.
        date: when metrics.json was written.
    """

    split: str
    metrics: dict[str, Any]
    matrix: Int[np.ndarray, "classes classes"]
    names: tuple[str, ...]
    volumes: tuple[str, ...]
    counts: Int[np.ndarray, "images 3 classes"]
    date: datetime

    @property
    def policy(self) -> dict[str, Any]:
        """What the figures were measured with."""
        return self.metrics["policy"]

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint that was evaluated."""
        return self.metrics.get("checkpoint", "best")

    def is_of(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is the one that was evaluated, as far as the file tells."""
        said, step = self.metrics.get("weights_sha256"), self.metrics.get("step")
        if self.metrics.get("checkpoint") != checkpoint.name:
            return False
        if said is not None:
            return bool(said == checkpoint.weights_sha256)
        # Evaluations of the training have a step; those of earlier versions neither.
        return not step or checkpoint.metadata.get("step") in (None, str(step))

    @property
    def overrides(self) -> tuple[str, ...]:
        """The ``key=value`` changes of the run's config that it was evaluated with."""
        # Those of label maps that were scored without a checkpoint are no changes of a run.
        return tuple(self.metrics.get("overrides", ())) if "checkpoint" in self.metrics else ()


def read_evaluation(run: RunFolder, split: str, label_space: LabelSpace | None) -> RecordedEvaluation:
    """Reads the evaluation of one split; its classes are checked against a label space where one is given.

    Raises:
        ValueError: the split was not evaluated, or a file is missing, damaged or of another label space; names the file
            and the command that writes it.
    """
    folder = run.evaluation(split)
    command = f"`dinoseg eval {shell_word(run.path)} --split {split}`"
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
    path, remedy = folder / "metrics.json", f"write it anew with {command}"
    metrics = load_json(path, remedy)
    record = check_document(metrics, MetricsRecord, str(path), remedy)
    _check_classes(path, record, metrics["per_class"], label_space, remedy)
    date = datetime.fromtimestamp(path.stat().st_mtime)
    matrix = _read_matrix(folder / "confusion.csv", record, remedy)
    arrays = _read_images(folder / "per_image.npz", record, remedy)
    names, volumes = (tuple(str(name) for name in arrays.get(key, ())) for key in ("names", "volumes"))
    return RecordedEvaluation(folder.name, metrics, matrix, names, volumes, arrays["counts"], date)


def _check_classes(
    path: Path, record: MetricsRecord, rows: list[dict[str, Any]], label_space: LabelSpace | None, remedy: str
) -> None:
    for index, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            other = sorted(row.keys() ^ rows[0].keys())
            raise ValueError(f"{path}: per_class[{index}]: {other[0]} is not in every class; {remedy}")
    if record.constant is not None and record.constant.class_index >= len(rows):
        raise ValueError(
            f"{path}: constant.class_index: {record.constant.class_index} found, one of {len(rows)} classes "
            f"(0 to {len(rows) - 1}) expected; {remedy}"
        )
    if label_space is None:
        return
    found = [(row.name, row.label_id) for row in record.per_class]
    expected = [(entry.name, plain_label(entry.label_ids[0], label_space.kind)) for entry in label_space.classes]
    # Evaluations of earlier versions have colours as numbers.
    if [(name, label_number(label)) for name, label in found] != [(n, label_number(label)) for n, label in expected]:
        raise ValueError(
            f"{path}: per_class: its classes {_in_words(found)} are not those of labels.json, {_in_words(expected)}; "
            f"{remedy}"
        )


def _in_words(classes: list[tuple[str, int | str]]) -> str:
    return list_names([f"{name} (label id {label_id})" for name, label_id in classes], 12)


def _read_matrix(path: Path, record: MetricsRecord, remedy: str) -> Int[np.ndarray, "classes classes"]:
    """Rows and columns must be the classes of metrics.json, and their sums its counts."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        values = [[int(value) for value in row[1:]] for row in rows[1:]]
        header, names = rows[:1], [row[:1] for row in rows[1:]]
        matrix = np.array(values, dtype=np.int64)
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ValueError(f"{path}: {reason}; {remedy}") from None
    except (ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"{path}: damaged ({error}); {remedy}") from None
    classes = [row.name for row in record.per_class]
    if matrix.shape != (len(classes), len(classes)):
        shape = " x ".join(map(str, matrix.shape))
        raise ValueError(f"{path}: {shape} counts where {len(classes)} x {len(classes)} are expected; {remedy}")
    shown = [spreadsheet_text(name) for name in classes]
    if header[0][1:] != shown or names != [[name] for name in shown]:
        raise ValueError(f"{path}: its classes are not those of metrics.json, {list_names(classes, 12)}; {remedy}")
    # Pixels of label maps that are ignored there are of no column.
    missing = np.array(record.unpredicted or [0] * len(classes), dtype=np.int64)
    if len(missing) != len(classes):
        found_there = f"unpredicted: {len(missing)} found, {len(classes)} expected"
        raise ValueError(f"metrics.json beside {path}: {found_there}; {remedy}")
    truth = (matrix.sum(axis=1) + missing).tolist()
    found = zip(matrix.diagonal().tolist(), matrix.sum(axis=0).tolist(), truth, strict=True)
    if list(found) != [(row.intersection, row.prediction, row.truth) for row in record.per_class]:
        raise ValueError(f"{path}: its counts are not those of metrics.json beside it; {remedy}")
    return matrix


def _read_images(path: Path, record: MetricsRecord, remedy: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    images = record.policy.images
    forms = {
        "names": ArrayForm("texts", (images,)),
        "counts": ArrayForm("whole numbers", (images, 3, len(record.per_class))),
    }
    if record.policy.volumes:
        forms["volumes"] = ArrayForm("texts", (images,))
    return read_arrays(path, forms, remedy)
