"""Evaluation of a segmenter on one split: native size, one confusion matrix, figures that name their policy."""

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from dinoseg.data.dataset import EvaluationDataset, Sample
from dinoseg.data.loading import outlive_signals, samples_of
from dinoseg.data.sampler import evaluation_shard, spread_subset
from dinoseg.evaluation.confusion import confusion_matrix
from dinoseg.evaluation.metrics import Metrics, counts_from_confusion, metrics_from_confusion
from dinoseg.evaluation.per_image import per_image_figures
from dinoseg.inference.windows import SemanticModel, WindowPolicy, predict_class_map
from dinoseg.labels import LabelSpace
from dinoseg.processes import process_count, process_rank, sum_over_processes

ClassMap = Integer[Tensor, "height width"]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        matrix: rows truth, columns prediction, over all images of all processes.
        names: of the images, in the order of the data set.
        image_counts: pixels in intersection, prediction and truth of every class, by image.
        metrics: figures derived from the matrix.
        policy: what the figures were measured with: resolution, window, TTA, absent classes, images counted.
        per_image: whether metrics.json also has the mean of per-image figures and the worst images.
    """

    matrix: Int[Tensor, "classes classes"]
    names: tuple[str, ...]
    image_counts: Int[Tensor, "images 3 classes"]
    metrics: Metrics
    policy: dict[str, Any]
    label_space: LabelSpace
    per_image: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The contents of metrics.json."""
        contents = self.metrics.to_dict(self.label_space, self.policy)
        if self.per_image:
            contents["per_image"] = per_image_figures(self.names, self.image_counts.numpy())
        return contents


def evaluate(
    model: SemanticModel,
    dataset: EvaluationDataset,
    window: WindowPolicy,
    label_space: LabelSpace,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
    num_workers: int = 0,
    max_samples: int | None = None,
    per_image: bool = False,
    on_image: Callable[[Sample, ClassMap], None] | None = None,
) -> Evaluation:
    """Predicts every image of the data set at native size and counts.

    Each process takes its unpadded share of the images and the matrices are added once, so that any number of
    processes gives the same integers.

    Args:
        max_samples: evaluate an evenly spread, fixed subset of this size.
        per_image: see ``Evaluation``.
        on_image: called after each image of this process with the sample and its predicted class map, at native size.

    Raises:
        ValueError: an image or mask cannot be read.
    """
    chosen = spread_subset(len(dataset), max_samples)
    rows = evaluation_shard(len(chosen), process_rank(), process_count())
    classes = label_space.num_classes
    # One row an image: a process fills those of its share, and the sum over processes has all of them.
    counts = torch.zeros(len(chosen), 3, classes, dtype=torch.int64, device=device)
    matrix = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    loader = DataLoader(
        Subset(dataset, [chosen[row] for row in rows]),
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=outlive_signals,
    )
    for row, sample in zip(rows, samples_of(loader), strict=True):
        prediction = predict_class_map(model, sample["image"], window, device=device, autocast_dtype=autocast_dtype)
        truth = sample["class_map"].to(prediction.device)
        found = confusion_matrix(prediction, truth, classes, label_space.ignore_index).to(device)
        counts[row] = counts_from_confusion(found)
        matrix += found
        if on_image:
            on_image(sample, prediction)
    matrix, counts = sum_over_processes(matrix).cpu(), sum_over_processes(counts).cpu()
    policy = {
        "resolution": "native"
        if window.img_size is None
        else f"short side {window.img_size}, scores resized to native",
        "window": window.describe(),
        "images": len(chosen),
        "images_available": len(dataset),
        "ignored_label_ids": list(label_space.ignored_ids),
        "reduce_zero_label": label_space.reduce_zero_label,
    }
    names = tuple(dataset.pairs[index].name for index in chosen)
    return Evaluation(matrix, names, counts, metrics_from_confusion(matrix), policy, label_space, per_image)


def write_evaluation(evaluation: Evaluation, folder: Path, extra: dict[str, Any]) -> None:
    """Writes metrics.json, per_class.csv, confusion.csv and per_image.npz; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = evaluation.to_dict() | extra
    names = list(evaluation.label_space.class_names)
    columns = list(contents["per_class"][0])
    write_atomically(
        folder / "per_class.csv", _csv([columns, *([row[c] for c in columns] for row in contents["per_class"])])
    )
    rows = ([name, *row] for name, row in zip(names, evaluation.matrix.tolist(), strict=True))
    write_atomically(folder / "confusion.csv", _csv([["truth \\ prediction", *names], *rows]))
    temporary = folder / ".per_image.new.npz"
    np.savez_compressed(temporary, names=np.array(evaluation.names), counts=evaluation.image_counts.numpy())
    os.replace(temporary, folder / "per_image.npz")
    # Last: whoever finds metrics.json finds the others complete.
    write_atomically(folder / "metrics.json", json.dumps(contents, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Writes beside the target and renames, so that no reader sees half a file."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _csv(rows: list[list[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
