"""The label space that settings and masks give."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from dinoseg.check.facts import PairFacts
from dinoseg.config import DatasetsConfig
from dinoseg.data.folders import is_descriptor
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import Kind


def is_ade20k(datasets: DatasetsConfig) -> bool:
    """Whether the data is called ADE20K, whose label ids are known."""
    return is_descriptor(datasets.train) or is_descriptor(datasets.val)


def label_space_of(datasets: DatasetsConfig, num_classes: int | None, found: Iterable[int]) -> LabelSpace | None:
    """The label space where masks hold these label ids; None where neither they nor the settings name any.

    Args:
        num_classes: ``decoder_head.num_classes``, checked when given.

    Raises:
        ValueError: settings that contradict each other or the masks.
    """
    found = set(found)
    if datasets.classes is None and not found:
        return None
    return build_label_space(datasets, num_classes, found)


def build_label_space(
    datasets: DatasetsConfig, num_classes: int | None, found: Iterable[int], kind: Kind | None = None
) -> LabelSpace:
    """The same, of a kind that is known where no label is; see ``LabelSpace.build``."""
    return LabelSpace.build(
        datasets.classes,
        datasets.ignore,
        datasets.reduce_zero_label,
        found,
        num_classes=num_classes,
        kind=kind,
        colour_tolerance=datasets.colour_tolerance,
        declared_range=is_ade20k(datasets),
    )


def space_of_facts(
    facts: Sequence[PairFacts], kind: Kind, datasets: DatasetsConfig, num_classes: int | None
) -> LabelSpace | None:
    """The same of masks as read; None where they do not fit the settings, too, which the check says of all splits."""
    with suppress(ValueError):
        stored = {label_id for fact in facts if fact.mask.stores == kind for label_id, _ in fact.mask.counts}
        return label_space_of(datasets, num_classes, stored)
    return None
