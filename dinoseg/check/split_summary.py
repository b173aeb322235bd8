"""What a split holds, counted: files, sizes, modes, and the pixels of every label id."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinoseg.check.file_findings import SplitScan
from dinoseg.check.label_findings import usable_masks
from dinoseg.data.pairs import Split
from dinoseg.data.tiles import count_in_words
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind

IGNORED = "ignored"
OUTSIDE = "outside the label space"


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds.

    Attributes:
        pairs: complete pairs; ``masks`` those whose mask could be read and stores what is declared.
        image_sizes, image_modes, mask_modes: how many files have each; sizes as ``width x height``, upright.
        pairs_in_words: with tiles told from images.
        label_pixels, label_masks: per label id (packed colour), its pixels and the masks that hold it.
    """

    name: Split
    pairs: int
    masks: int
    image_sizes: dict[str, int]
    image_modes: dict[str, int]
    mask_modes: dict[str, int]
    label_pixels: dict[int, int]
    label_masks: dict[int, int]
    pairs_in_words: str = ""


@dataclass(frozen=True)
class LabelRow:
    """One line of a split's label table: ``share`` of all pixels, 0..1; class index None where it counts nowhere."""

    label_id: int
    class_index: int | None
    name: str
    pixels: int
    share: float
    masks: int


def label_rows(summary: SplitSummary, space: LabelSpace | None) -> list[LabelRow]:
    """The label table of a split: the classes in order, ignored ids that occur, then ids outside the label space."""
    found = list(summary.label_pixels)
    indices = space.classify(np.array(found, dtype=np.int64)).tolist() if space else [-1] * len(found)
    index_of = dict(zip(found, indices, strict=True))
    if space:
        index_of |= {i: index for index, entry in enumerate(space.classes) for i in entry.label_ids}
    everything = max(1, sum(summary.label_pixels.values()))
    rows = []
    for label_id, index in index_of.items():
        pixels = summary.label_pixels.get(label_id, 0)
        is_class = space is not None and 0 <= index < space.num_classes
        name = ""
        if space:
            name = space.class_names[index] if is_class else OUTSIDE if index == -1 else IGNORED
        masks = summary.label_masks.get(label_id, 0)
        rows.append(LabelRow(label_id, index if is_class else None, name, pixels, pixels / everything, masks))
    # The ignore index is larger than any class index; what is outside comes after it.
    return sorted(rows, key=lambda row: (index_of[row.label_id] == -1, index_of[row.label_id]))


def summarise(scan: SplitScan, kind: Kind) -> SplitSummary:
    """Counts what a split holds; masks that do not store ``kind`` are left out of the label counts."""
    images = [fact.image for fact in scan.facts if not fact.image.error]
    usable = usable_masks(scan, kind)
    return SplitSummary(
        scan.name,
        len(scan.listing.pairs),
        len(usable),
        dict(Counter(f"{image.size[0]} x {image.size[1]}" for image in images).most_common()),
        dict(Counter(image.mode for image in images).most_common()),
        dict(Counter(fact.mask.mode for fact in scan.facts if not fact.mask.error).most_common()),
        dict(sorted(label_counts([scan], kind).items())),
        dict(Counter(label_id for fact in usable for label_id, _ in fact.mask.counts)),
        count_in_words(scan.listing.pairs),
    )


def label_counts(scans: Sequence[SplitScan], kind: Kind) -> Counter[int]:
    """Pixels per label id over all splits."""
    counts: Counter[int] = Counter()
    for scan in scans:
        for fact in usable_masks(scan, kind):
            counts.update(dict(fact.mask.counts))
    return counts
