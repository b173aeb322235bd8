"""Who goes into which fold of a cross-validation: folds of like size, with like many images of every class.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, 2011), with the
hash of a name in the place of chance: neither the order of the files nor the process matters.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from dinoseg.data.splits import Member, rarest_first, unit_hash


def assign_folds(members: Sequence[Member], folds: int, seed: int) -> dict[str, int]:
    """The fold of every member, 0 to ``folds`` - 1, by key; no fold is empty.

    The label that the fewest members hold is dealt first: each of its holders goes where the label is rarest, and
    among such folds where the fewest images are. A fold that has its share of all images gets no more while another
    lacks some, so that members of one image each make folds whose sizes differ by one at most.

    Args:
        members: with keys that differ, ``folds`` of them at least.
    """
    deal = _Deal(members, folds, seed)
    for label_id, holders in rarest_first(deal.members):
        deal.give(holders, label_id)
    deal.give(deal.members, None)
    return deal.fold_of


class _Deal:
    """Members on their way into folds."""

    def __init__(self, members: Sequence[Member], folds: int, seed: int) -> None:
        self.fold_of: dict[str, int] = {}
        self._seed = seed
        self._images = [0] * folds
        self._held = [Counter[int]() for _ in range(folds)]
        self._share = sum(member.images for member in members) / folds
        # Large groups first, while there is room to make up for them.
        self.members = sorted(members, key=lambda member: (-member.images, self._chance(member.key), member.key))

    def give(self, members: Iterable[Member], label_id: int | None) -> None:
        """Deals those that are left of the holders of a label; None deals them by their sizes alone."""
        for member in members:
            if member.key in self.fold_of:
                continue
            fold = self._fold_for(member, label_id)
            self.fold_of[member.key] = fold
            self._images[fold] += member.images
            self._held[fold].update(dict.fromkeys(member.label_ids, member.images))

    def _fold_for(self, member: Member, label_id: int | None) -> int:
        folds = range(len(self._images))
        open_folds = [fold for fold in folds if self._images[fold] + member.images <= self._share]
        # Where nowhere is room, the smallest: the share is passed by as little as can be.
        least = min(self._images)
        candidates = open_folds or [fold for fold in folds if self._images[fold] == least]

        def preference(fold: int) -> tuple[int, int, float]:
            held = 0 if label_id is None else self._held[fold][label_id]
            return held, self._images[fold], self._chance(f"{member.key}:{fold}")

        return min(candidates, key=preference)

    def _chance(self, text: str) -> float:
        return unit_hash(f"{self._seed}:{text}")
