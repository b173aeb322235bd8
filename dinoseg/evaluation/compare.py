"""Two evaluations of the same images side by side: differences of IoU, and which of them chance would not explain."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from dinoseg.evaluation.bootstrap import Interval, paired_bootstrap_intervals
from dinoseg.evaluation.comparable import check_comparable, policy_differences
from dinoseg.evaluation.metrics import AbsentPolicy, Metrics, image_iou, metrics_from_counts
from dinoseg.evaluation.volume_figures import counts_by_volume
from dinoseg.run_folder.ensemble_folder import is_ensemble
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.recorded_evaluation import RecordedEvaluation, read_evaluation, read_evaluation_folder
from dinoseg.system.messages import plural, shell_word
from dinoseg.zoo.address import is_address

# With fewer images, not even a difference of one sign in all of them is beyond chance (sign test: 2 * 0.5 ** 5 > 5 %).
# The bootstrap alone would call it so, since resamples of few images hardly vary.
FEWEST_IMAGES = 6


@dataclass(frozen=True)
class Difference:
    """One figure in both evaluations, in percent; ``difference`` is second less first, in percentage points.

    Attributes:
        first, second, difference: None where the figure is undefined.
        interval: 95 %, over images; None where there is no difference, or one image alone.
        images: how many it rests on: for a class, those with a pixel of it in the truth or in either prediction.
    """

    first: float | None
    second: float | None
    difference: float | None
    interval: Interval | None
    images: int

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval excludes 0 and the images are enough (``FEWEST_IMAGES``) for it to mean something."""
        lower, upper = self.interval or (0.0, 0.0)
        return self.images >= FEWEST_IMAGES and not lower <= 0 <= upper

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"beyond_chance": self.beyond_chance}


@dataclass(frozen=True)
class ImageDifference:
    """Mean IoU of one image over its classes, in percent."""

    name: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """What two evaluations of the same images say of each other.

    Attributes:
        first, second: the folders that were compared, as they were given.
        classes: (label id, name, difference of IoU) by class index.
        volumes: where images are slices: how many volumes they are of, which are what is resampled and listed.
        better, worse: images with the largest gain and loss of the second over the first, largest first.
        unlike: what else differs between the two, in words: it is part of what is compared.
        remarks: what to keep in mind while reading.
    """

    first: str
    second: str
    images: int
    volumes: int | None
    absent_classes: str
    miou: Difference
    classes: tuple[tuple[int, str, Difference], ...]
    better: tuple[ImageDifference, ...]
    worse: tuple[ImageDifference, ...]
    unlike: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def units(self) -> str:
        """What is resampled, with how many there are."""
        return plural(self.images, "image") if self.volumes is None else plural(self.volumes, "volume")

    def to_dict(self) -> dict[str, Any]:
        """The comparison for ``--json``."""
        return {
            "first": self.first,
            "second": self.second,
            "images": self.images,
            "volumes": self.volumes,
            "absent_classes": self.absent_classes,
            "mIoU": self.miou.to_dict(),
            "per_class_IoU": [
                {"class_index": index, "label_id": label_id, "name": name, **difference.to_dict()}
                for index, (label_id, name, difference) in enumerate(self.classes)
            ],
            "better": [asdict(entry) | {"difference": entry.difference} for entry in self.better],
            "worse": [asdict(entry) | {"difference": entry.difference} for entry in self.worse],
            "unlike": list(self.unlike),
            "remarks": list(self.remarks),
        }


def read_compared(folder: Path, split: str) -> RecordedEvaluation:
    """The evaluation that a run folder holds of the split, or that lies in the folder itself.

    Raises:
        ValueError: there is none, or its files are damaged or of two evaluations; names the command that makes it.
    """
    if is_address(str(folder)):
        raise ValueError(
            f"{folder}: what is on the Hub has no figures by image, which a comparison needs; make them with "
            f"`dinoseg eval {shell_word(folder)} datasets.root=DATA --split {split} --out FIGURES`, and compare FIGURES"
        )
    is_run = (folder / "config.yaml").is_file() or is_ensemble(folder)
    if not is_run and (folder / "eval" / "metrics.json").is_file():
        # Where `eval --predictions` writes, beside the label maps; those may lie in a run, whose own figures are meant.
        folder = folder / "eval"
    if (folder / "metrics.json").is_file():
        recorded = read_evaluation_folder(folder, "`dinoseg eval`")
        path = folder
    elif is_run:
        run = RunFolder(folder)
        # Of several runs as one, figures name the classes.
        space = run.read_labels() if run.config.is_file() else None
        recorded, path = read_evaluation(run, split, space), run.evaluation(split)
    else:
        raise ValueError(
            f"{folder}: neither a run folder (no config.yaml) nor an evaluation (no metrics.json); give the output_dir "
            "of a training, or score label maps with `dinoseg eval --predictions DIR --masks DIR`"
        )
    total = [[row[key] for row in recorded.metrics["per_class"]] for key in ("intersection", "prediction", "truth")]
    if not np.array_equal(recorded.counts.sum(axis=0), np.array(total)):
        raise ValueError(
            f"{path}: the counts of per_image.npz do not add up to those of metrics.json (an interrupted evaluation?); "
            "evaluate again"
        )
    return recorded


def compare(first: Path, second: Path, split: str = "val", most_images: int = 5) -> Comparison:
    """Compares two evaluations; differences are the second less the first.

    Windows, test-time augmentation and resolution may differ, since they are part of a system whose predictions are
    judged at native size all the same; they are listed. Whatever changes what is counted must not.

    Args:
        first, second: run folders, or folders that hold a metrics.json.
        split: which evaluation of a run folder.
        most_images: how many images are listed in either direction.

    Raises:
        ValueError: a split that was not evaluated, or evaluations that cannot be compared; gives both values.
    """
    one, other = read_compared(first, split), read_compared(second, split)
    names = (str(first), str(second))
    check_comparable(one, other, names)
    # The same images in another order.
    position = {name: row for row, name in enumerate(other.names)}
    counts = one.counts, other.counts[[position[name] for name in one.names]]
    policy: AbsentPolicy = one.policy["absent_classes"]
    figures = [metrics_from_counts(part.sum(axis=0), policy) for part in counts]
    # What is independent: images, or the volumes that they are slices of.
    units, first_counts = counts_by_volume(counts[0], one.names, one.volumes)
    counts = first_counts, counts_by_volume(counts[1], one.names, one.volumes)[1]
    intervals = paired_bootstrap_intervals(*counts, policy=policy)
    images = _images_by_class(*counts)
    classes = tuple(
        (row["label_id"], row["name"], _difference(figures[0].iou[i], figures[1].iou[i], intervals.iou[i], images[i]))
        for i, row in enumerate(one.metrics["per_class"])
    )
    noun = "volumes" if one.volumes else "images"
    better, worse = _extreme_images(units, *counts, most_images)
    return Comparison(
        *names,
        images=len(one.names),
        volumes=len(units) if one.volumes else None,
        absent_classes=policy,
        miou=_difference(figures[0].means["mIoU"], figures[1].means["mIoU"], intervals.miou, len(units)),
        classes=classes,
        better=better,
        worse=worse,
        unlike=policy_differences(one, other),
        remarks=_remarks(len(units), noun, [name for _, name, _ in classes], images, figures),
    )


def _difference(first: float | None, second: float | None, interval: Interval | None, images: int) -> Difference:
    if first is None or second is None:
        return Difference(first, second, None, None, images)
    return Difference(first, second, second - first, interval, images)


def _images_by_class(
    first: Int[np.ndarray, "images 3 classes"], second: Int[np.ndarray, "images 3 classes"]
) -> list[int]:
    """How many images have a pixel of the class, in the truth or in a prediction."""
    occurs = (first[:, 1:] > 0).any(axis=1) | (second[:, 1:] > 0).any(axis=1)
    return [int(count) for count in occurs.sum(axis=0)]


def _extreme_images(
    names: Sequence[str],
    first: Int[np.ndarray, "images 3 classes"],
    second: Int[np.ndarray, "images 3 classes"],
    most: int,
) -> tuple[tuple[ImageDifference, ...], tuple[ImageDifference, ...]]:
    values = 100 * image_iou(first), 100 * image_iou(second)
    found = [
        ImageDifference(name, float(a), float(b))
        for name, a, b in zip(names, *values, strict=True)
        if not np.isnan(a - b)
    ]
    ordered = sorted(found, key=lambda entry: (-entry.difference, entry.name))
    better = tuple(entry for entry in ordered[:most] if entry.difference > 0)
    worse = tuple(entry for entry in reversed(ordered[-most:]) if entry.difference < 0) if most else ()
    return better, worse


def _remarks(
    images: int, noun: str, names: list[str], images_by_class: list[int], figures: Sequence[Metrics]
) -> tuple[str, ...]:
    remarks = []
    if images < FEWEST_IMAGES:
        remarks.append(f"{images} {noun}: too few to call any difference beyond chance (at least {FEWEST_IMAGES})")
    else:
        few = [name for name, count in zip(names, images_by_class, strict=True) if 0 < count < FEWEST_IMAGES]
        if few:
            remarks.append(f"in too few {noun} to call a difference beyond chance: {', '.join(few)}")
    lone = [
        name for name, a, b in zip(names, figures[0].iou, figures[1].iou, strict=True) if (a is None) != (b is None)
    ]
    if lone:
        remarks.append(
            f"only one of the two has a figure for {', '.join(lone)} (predicted where it never occurs): the two mIoU "
            "are means over different classes"
        )
    return tuple(remarks)
