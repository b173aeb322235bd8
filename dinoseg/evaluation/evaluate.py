"""Evaluation of a segmenter on one split: native size, one confusion matrix, figures that name their policy."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from dinoseg.backbone import FeatureMap
from dinoseg.data.dataset import EvaluationDataset, Sample, outlive_signals, samples_of
from dinoseg.data.pairs import Pair
from dinoseg.data.sampler import spread_subset
from dinoseg.data.slices import volumes_of
from dinoseg.data.tiles import Tile
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.metrics import Metrics, metrics_from_counts
from dinoseg.evaluation.metrics_json import CountedImages, evaluation_contents
from dinoseg.evaluation.settings import EvaluationSettings
from dinoseg.evaluation.volume_figures import volume_names
from dinoseg.features.store import feature_maps
from dinoseg.inference.ensemble import Ensemble
from dinoseg.inference.judged_rows import JudgedRows, OnRows
from dinoseg.inference.tta import SemanticModel
from dinoseg.inference.windows import predict_class_map
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import plain_label
from dinoseg.models.segmenter import Segmenter
from dinoseg.system.files import replace_text, replaced_file
from dinoseg.system.messages import spreadsheet_text
from dinoseg.system.processes import any_process, evaluation_shard, failing_together, process_count, process_rank

ClassMap = Integer[Tensor, "height width"]


class BrokenOff(Exception):
    """An evaluation was asked to stop before its last image; nothing of it counts."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        counts: of all images of all processes.
        names: of the images, in the order of the data set.
        policy: how the images were predicted and which were counted: resolution, window, TTA, images.
        measures: which figures are derived from the counts, and by which rules.
        volumes: the volume that each image is a slice of, empty for others; nothing where there are none.
    """

    counts: Counts
    names: tuple[str, ...]
    policy: dict[str, Any]
    label_space: LabelSpace
    measures: Measures
    volumes: tuple[str, ...] = ()

    @property
    def matrix(self) -> Int[Tensor, "classes classes"]:
        """Rows truth, columns prediction."""
        return self.counts.matrix

    @property
    def image_counts(self) -> Int[Tensor, "images 3 classes"]:
        """Pixels in intersection, prediction and truth of every class, by image."""
        return self.counts.image_counts

    @cached_property
    def metrics(self) -> Metrics:
        """Figures derived from the counts."""
        total = self.image_counts.sum(dim=0).numpy()
        return metrics_from_counts(total, self.measures.absent_classes, self.measures.beta)

    @property
    def images(self) -> CountedImages:
        """Names of the images, and of their volumes."""
        return CountedImages(self.names, self.volumes)

    @cached_property
    def _contents(self) -> dict[str, Any]:
        # Once: thousands of images cost a second or two of resampling.
        return evaluation_contents(self.metrics, self.counts, self.images, self.policy, self.label_space, self.measures)

    def to_dict(self) -> dict[str, Any]:
        """The contents of metrics.json."""
        return dict(self._contents)


def evaluate(
    model: SemanticModel | Ensemble,
    dataset: EvaluationDataset,
    settings: EvaluationSettings,
    device: torch.device,
    *,
    on_image: Callable[[Sample, ClassMap], None] | None = None,
    on_rows: Callable[[Sample, JudgedRows], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    shard: tuple[int, int] = (0, 1),
) -> Evaluation:
    """Predicts every image of the data set at native size and counts; any number of processes gives the same integers.

    Args:
        model: an ensemble cuts images as its members say, not as the settings do; the data set has the image as each
            reads it.
        on_image: called after each image of this process with the sample and its predicted class map, at native size.
        on_rows: told of each stripe of an image as it is decided, with its probabilities.
        stop: asked before each image; once it says yes in any process, the evaluation is broken off in all.
        shard: (i, n) counts the i-th of n parts of the images alone, i from 0; the rows of the others stay 0.

    Raises:
        ValueError: an image or mask cannot be read.
        BrokenOff: ``stop`` said yes.
    """
    space, measures = settings.label_space, settings.measures
    chosen = spread_subset(len(dataset), settings.max_samples)
    rows = _own_rows(len(chosen), shard)
    # A process fills the rows of its unpadded share; the sum over processes, added once, has all of them.
    counts = Counts.empty(len(chosen), space.num_classes, measures, device)
    samples, stopped = _samples(dataset, [chosen[row] for row in rows], settings.num_workers), False
    with failing_together():
        for row, sample in zip(rows, samples, strict=True):
            if stopped := stop():
                break
            reader = _row_reader(sample, counts, space.ignore_index, on_rows)
            class_map = _predict(model, sample, settings, device, reader)
            counts.count(row, class_map, sample["class_map"], space.ignore_index, measures)
            if on_image:
                on_image(sample, class_map)
    if any_process(stopped):
        raise BrokenOff
    names = tuple(dataset.pairs[index].name for index in chosen)
    origin = model.describe() if isinstance(model, Ensemble) else settings.window.describe_origin()
    pairs = [dataset.pairs[row] for row in chosen]
    policy = origin | counted_policy(space, pairs, len(dataset))
    return Evaluation(counts.over_processes(), names, policy, space, measures, volume_names(pairs))


def _own_rows(images: int, shard: tuple[int, int]) -> list[int]:
    """What this process counts of a shard."""
    part = evaluation_shard(images, *shard)
    return [part[place] for place in evaluation_shard(len(part), process_rank(), process_count())]


def _row_reader(
    sample: Sample, counts: Counts, ignore_index: int, on_rows: Callable[[Sample, JudgedRows], None] | None
) -> OnRows | None:
    """What is told of the stripes of an image; None where nobody asks for probabilities, which cost time."""
    if counts.reliability is None and on_rows is None:
        return None

    def read(rows: JudgedRows) -> None:
        counts.count_rows(rows, sample["class_map"], ignore_index)
        if on_rows is not None:
            on_rows(sample, rows)

    return read


def _predict(
    model: SemanticModel | Ensemble,
    sample: Sample,
    settings: EvaluationSettings,
    device: torch.device,
    on_rows: OnRows | None,
) -> ClassMap:
    """On the CPU, as the sample is."""
    if isinstance(model, Ensemble):
        return model.class_map([sample["image"], *sample.get("other_images", [])], on_rows)
    if "features" in sample:
        assert isinstance(model, Segmenter)
        known = (sample["features"], sample["class_tokens"], sample["prefix_tokens"])
        model = _Informed(model, feature_maps(*([tensor[None] for tensor in tensors] for tensors in known)))
    return predict_class_map(
        model,
        sample["image"],
        settings.window,
        device=device,
        autocast_dtype=settings.autocast_dtype,
        on_rows=on_rows,
    )


class _Informed:
    """A segmenter that knows the features of the image it is asked about."""

    def __init__(self, segmenter: Segmenter, features: list[FeatureMap]) -> None:
        device = next(segmenter.parameters()).device
        self.num_classes = segmenter.num_classes
        self.scores_are_probabilities = segmenter.scores_are_probabilities
        self._segmenter = segmenter
        self._features = [feature.to(device) for feature in features]

    def features(self, image: Tensor) -> list[FeatureMap]:
        """Those of the whole image."""
        return self._features

    def semantic_logits(self, image: Tensor, features: list[FeatureMap] | None = None) -> Tensor:
        """Scores of the whole image."""
        return self._segmenter.semantic_logits(image, features or self._features)


def _samples(dataset: EvaluationDataset, indices: list[int], num_workers: int) -> Iterator[Sample]:
    loader = DataLoader(
        Subset(dataset, indices), batch_size=None, num_workers=num_workers, worker_init_fn=outlive_signals
    )
    return samples_of(loader)


def counted_policy(label_space: LabelSpace, pairs: Sequence[Pair], available: int) -> dict[str, Any]:
    """The part of a policy that says what was counted; how it was predicted stands before it."""
    regions = sum(pair.region is not None for pair in pairs)
    tiles = sum(isinstance(pair, Tile) for pair in pairs)
    slices = volumes_of(pairs)
    return {
        "images": len(pairs),
        **({"regions": regions} if regions else {}),
        **({"tiles": tiles} if tiles else {}),
        **({"slices": sum(map(len, slices.values())), "volumes": len(slices)} if slices else {}),
        "images_available": available,
        "ignored_label_ids": [plain_label(label_id, label_space.kind) for label_id in label_space.ignored_ids],
        "reduce_zero_label": label_space.reduce_zero_label,
    }


def write_evaluation(evaluation: Evaluation, folder: Path, extra: dict[str, Any]) -> dict[str, Any]:
    """Writes metrics.json, per_class.csv, confusion.csv and per_image.npz; each appears whole or not at all. Returns
    what the first holds.

    metrics.json goes first and comes last: whoever finds it finds the others complete and of the same evaluation.
    """
    contents = evaluation.to_dict() | extra
    names = list(evaluation.label_space.class_names)
    (folder / "metrics.json").unlink(missing_ok=True)
    replace_text(folder / "per_class.csv", _csv(_class_table(contents["per_class"])))
    rows = ([name, *row] for name, row in zip(names, evaluation.matrix.tolist(), strict=True))
    replace_text(folder / "confusion.csv", _csv([["truth \\ prediction", *names], *rows]))
    arrays: dict[str, Any] = evaluation.counts.to_arrays()
    del arrays["matrix"]
    arrays.pop("reliability", None)
    with replaced_file(folder / "per_image.npz") as temporary:
        arrays |= evaluation.images.to_arrays()
        np.savez_compressed(temporary, counts=arrays.pop("image_counts"), **arrays)
    replace_text(folder / "metrics.json", json.dumps(contents, indent=2) + "\n")
    return contents


def _class_table(per_class: list[dict[str, Any]]) -> list[list[Any]]:
    """Columns and rows of per_class.csv: an interval takes two columns."""
    table = []
    for row in per_class:
        lower, upper = row["IoU_interval"] or (None, None)
        flat = {key: value for key, value in row.items() if key != "IoU_interval"}
        table.append(flat | {"IoU_lower": lower, "IoU_upper": upper})
    return [list(table[0]), *(list(row.values()) for row in table)]


def _csv(rows: list[list[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([spreadsheet_text(cell) for cell in row] for row in rows)
    return buffer.getvalue()
