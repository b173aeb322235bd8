"""The one question of the label set-up, "is label id 0 a real class?", answered for a data set."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from dinoseg.labels import LabelSpace


@dataclass(frozen=True)
class Decision:
    """The two consistent settings and which one the config takes.

    Attributes:
        zero_share: pixels with label id 0, as a share (0..1) of all.
        zero_masks, masks: masks that hold label id 0, and masks in all.
        with_zero: ``num_classes`` when label id 0 is a class; ``without_zero`` when it is ignored.
        zero_is_class: what the config says; None when its settings do not agree.
        zero_name: the name of the class that label id 0 stands for.
    """

    zero_share: float
    zero_masks: int
    masks: int
    with_zero: int
    without_zero: int
    zero_is_class: bool | None
    zero_name: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def decide(
    counts: Counter[int], space: LabelSpace | None, masks: int, zero_masks: int, from_masks: bool = False
) -> Decision | None:
    """The decision for label ids found with their pixel counts; None for colours and where label id 0 plays no part.

    Args:
        space: the label space, None when the settings do not give one.
        masks: masks read; ``zero_masks`` those with label id 0.
        from_masks: the classes are what the masks hold, neither named nor those of a known data set.
    """
    share = counts[0] / max(1, sum(counts.values()))
    if space is None:
        found = set(counts) - {255}
        if 0 not in found or len(found) < 3:
            return None
        return Decision(share, zero_masks, masks, len(found), _shifted(found - {0}), None, None)
    zero_class = next((entry for entry in space.classes if 0 in entry.label_ids), None)
    if space.kind == "colours" or not (zero_class or 0 in space.ignored_ids):
        return None
    # Label id 0 merged into a class with others adds no class of its own.
    alone = zero_class is not None and len(zero_class.label_ids) == 1
    with_zero = space.num_classes if zero_class else space.num_classes + 1
    without_zero = space.num_classes - 1 if alone else space.num_classes
    if from_masks and space.reduce_zero_label:
        with_zero = sum(any(counts[label_id] for label_id in entry.label_ids) for entry in space.classes) + 1
    elif from_masks and zero_class is not None:
        without_zero = _shifted({label_id for entry in space.classes for label_id in entry.label_ids} - {0})
    return Decision(
        share,
        zero_masks,
        masks,
        with_zero,
        without_zero,
        zero_class is not None,
        zero_class.name if zero_class else None,
    )


def _shifted(label_ids: set[int]) -> int:
    """How many classes reduce_zero_label=true makes of these: where ids are missing, those are classes, too."""
    return max(label_ids)
