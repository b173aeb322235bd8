"""What a recipe depends on: of the data set, from the scan of ``check`` and a sample of its masks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dinoseg.check.check import CheckReport
from dinoseg.check.split_summary import label_rows
from dinoseg.data.dataset import read_encoded
from dinoseg.data.pairs import Split
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.sampler import spread_subset
from dinoseg.planning.positions import LEAST_IMAGES, Positions, class_grid
from dinoseg.planning.widths import Width, middle_widths

# Masks that are looked at, however long there is.
_MOST_MASKS = 24


@dataclass(frozen=True)
class ClassPrint:
    """Of a class.

    Attributes:
        share: of the training pixels that count, 0..1.
        images: share of the training images that hold it, 0..1.
        width: None where no mask that was looked at holds it.
    """

    name: str
    share: float
    images: float
    width: Width | None


@dataclass(frozen=True)
class Fingerprint:
    """Of a data set.

    Attributes:
        images: of each split.
        size: height and width of the most frequent kind of training image.
        largest: of the image with most pixels, of any split.
        bands: that the model sees.
        classes: in the order of their index.
        positions: where in the images they lie.
        masks: that were looked at for widths.
    """

    images: Mapping[Split, int]
    size: tuple[int, int]
    largest: tuple[int, int]
    bands: int
    classes: tuple[ClassPrint, ...]
    positions: Positions
    masks: int

    @property
    def learned(self) -> tuple[ClassPrint, ...]:
        """Classes with a pixel in the training images: no other can be learned."""
        return tuple(entry for entry in self.classes if entry.share > 0)

    @property
    def most_frequent(self) -> ClassPrint:
        return max(self.classes, key=lambda entry: entry.share)

    @property
    def rarest(self) -> ClassPrint:
        """Of those that can be learned."""
        return min(self.learned, key=lambda entry: entry.share)

    @property
    def thinnest(self) -> ClassPrint | None:
        """By median width; None where no width is known."""
        known = [entry for entry in self.learned if entry.width is not None]
        return min(known, key=lambda entry: entry.width.median if entry.width else 0.0, default=None)

    def thinner_than(self, pixels: float) -> tuple[ClassPrint, ...]:
        """Classes of which half lies in structures that are narrower; the most frequent class is none of them."""
        others = (entry for entry in self.learned if entry is not self.most_frequent)
        return tuple(entry for entry in others if entry.width is not None and entry.width.median < pixels)


def take_fingerprint(report: CheckReport, form: PictureForm, seconds: float) -> Fingerprint:
    """The fingerprint of a checked data set.

    Args:
        form: how its pictures are read.
        seconds: for widths; those of one mask are measured in any case. As long again may pass for those of classes
            that were not met so far, and for positions, of eight masks in any case.

    Raises:
        ValueError: there are no training images.
    """
    space = report.label_space
    assert space is not None
    if not report.pairs.get("train"):
        raise ValueError("no training image: there is nothing to plan for; see the findings of `dinoseg check`")
    pixels, masks = report.class_pixels("train"), _masks_of_class(report)
    widths, positions, looked_at = _look_at_masks(report, form, seconds)
    total, images = max(1, sum(pixels)), {name: len(pairs) for name, pairs in report.pairs.items()}
    sizes = next(summary.image_sizes for summary in report.splits if summary.name == "train")
    parsed = {_parsed(size): count for size, count in sizes.items()}
    everywhere = [_parsed(size) for summary in report.splits for size in summary.image_sizes]
    return Fingerprint(
        images=images,
        size=max(parsed, key=lambda size: parsed[size]),
        largest=max(everywhere, key=lambda size: size[0] * size[1]),
        bands=form.channels,
        classes=tuple(
            ClassPrint(entry.name, pixels[index] / total, masks[index], widths[index])
            for index, entry in enumerate(space.classes)
        ),
        positions=positions,
        masks=looked_at,
    )


def _masks_of_class(report: CheckReport) -> list[float]:
    space = report.label_space
    assert space is not None
    shares = [0.0] * space.num_classes
    for summary in report.splits:
        if summary.name == "train":
            for row in label_rows(summary, space):
                if row.class_index is not None:
                    # Label ids that are merged into one class may stand in one mask: it counts once, as near as told.
                    shares[row.class_index] = max(shares[row.class_index], row.masks / max(1, summary.masks))
    return shares


def _look_at_masks(report: CheckReport, form: PictureForm, seconds: float) -> tuple[list[Width | None], Positions, int]:
    space, pairs = report.label_space, report.pairs["train"]
    assert space is not None
    found: list[list[np.ndarray]] = [[] for _ in range(space.num_classes)]
    grids, measured = [], 0
    chosen = spread_subset(len(pairs), min(len(pairs), _MOST_MASKS))
    # Should time run out, what was looked at is spread over the data set all the same.
    order = np.random.default_rng(0).permutation(len(chosen))
    started = time.monotonic()

    def has_time(known: bool) -> bool:
        """A class that was not met so far goes before one that was."""
        return time.monotonic() - started < (seconds if known else 2 * seconds)

    for index in (chosen[place] for place in order):
        _, class_map = read_encoded(pairs[index], space, form)
        grids.append(class_grid(class_map, space.num_classes))
        before = sum(map(len, found))
        for class_index in np.unique(class_map[class_map < space.num_classes]):
            # The clock is asked before each: there may be many, and of a large mask each takes its time.
            if not measured or has_time(bool(found[class_index])):
                found[class_index].append(middle_widths(class_map == class_index))
        measured += sum(map(len, found)) > before
        if len(grids) >= LEAST_IMAGES and not has_time(False):
            # Where classes lie is told from a mask in no time: reading it is what takes some.
            break
    widths = [Width.of(np.concatenate(values)) if values else None for values in found]
    return widths, Positions.of(grids), measured


def _parsed(size: str) -> tuple[int, int]:
    """Height and width of ``565 x 584``, which the check writes width first."""
    width, height = size.split(" x ")
    return int(height), int(width)
