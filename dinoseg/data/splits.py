"""Who goes into which split: by the hash of a name, so that files which are added later move no other.

A hash alone may leave a small split empty, or a rare class out of it. So what it gives is mended with as few moves as
possible: every split gets something, and a share of every class that has enough to share.
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dinoseg.data.pairs import SPLITS, Split

DEFAULT_SHARES = "80/10/10"
# What is held out of a training split that has no validation beside it.
HELD_OUT = 0.2
_EXAMPLE = "datasets.split=80/10/10 (train/val/test) or 80/20 (train/val)"


@dataclass(frozen=True)
class Member:
    """What goes into a split as one: the images of one group.

    Attributes:
        key: the group, or the image's name.
        label_ids: of classes, in its masks.
        images: how many it has; folds are made alike by them.
    """

    key: str
    label_ids: frozenset[int] = frozenset()
    images: int = 1


def parse_shares(text: str) -> dict[Split, float]:
    """``80/10/10`` as shares that sum to one; two numbers are train and val.

    Raises:
        ValueError: not two or three numbers that sum to 100, or nothing for train or val.
    """
    parts = text.split("/")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or min(numbers) < 0 or not abs(sum(numbers) - 100) < 0.5:
        raise ValueError(f"datasets.split={text}: shares are two or three numbers that sum to 100; write {_EXAMPLE}")
    if not (numbers[0] and numbers[1]):
        raise ValueError(f"datasets.split={text}: nothing is left to train or to validate on; write {_EXAMPLE}")
    return {split: number / sum(numbers) for split, number in zip(SPLITS, numbers, strict=False) if number}


def group_of(name: str, pattern: str | None) -> str:
    """The group of an image: what the pattern's first bracket matches in its name, or all that the pattern matches.

    Raises:
        ValueError: a pattern that is none, or does not occur in the name.
    """
    if pattern is None:
        return name
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise ValueError(f"datasets.group={pattern}: no regular expression ({error})") from None
    if found is None:
        raise ValueError(
            f"datasets.group={pattern}: does not occur in the name {name!r}; every image must tell its group, for "
            r"instance datasets.group='(patient\d+)_'"
        )
    return found.group(1) if found.re.groups else found.group(0)


def rarest_first(members: Iterable[Member]) -> list[tuple[int, list[Member]]]:
    """Every label id with the members that hold it, in the order given; those of the fewest come first."""
    holders: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        for label_id in member.label_ids:
            holders[label_id].append(member)
    return sorted(holders.items(), key=lambda item: (len(item[1]), item[0]))


def assign_splits(members: Sequence[Member], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """The split of every member, by key.

    Each is put where a hash of its key and the seed falls among the shares. Among few members that may miss the shares
    by far: splits that are half too large or too small are mended. Then, the rarest label first, a split without one
    that enough members hold gets the member whose hash is nearest to it, if no label before loses by that. Where many
    are rare, that may miss the shares again, which is mended at the expense of the most frequent of them.

    Args:
        members: with keys that differ.
        shares: of the splits wanted; they sum to one.
    """
    draft = _Draft(members, shares, seed)
    draft.balance()
    for label_id, holders in rarest_first(members):
        draft.spread(label_id, holders)
    draft.fill()
    draft.balance()
    return draft.split_of


class _Draft:
    """An assignment on its way."""

    def __init__(self, members: Sequence[Member], shares: Mapping[Split, float], seed: int) -> None:
        self.members = members
        self.position = {member.key: unit_hash(f"{seed}:{member.key}") for member in members}
        self.interval: dict[Split, tuple[float, float]] = {}
        end = 0.0
        for split, share in shares.items():
            self.interval[split] = (end, end + share)
            end += share
        self.split_of = {key: self._fallen_into(place) for key, place in self.position.items()}
        self.size = Counter(self.split_of.values())
        self.held = Counter((self.split_of[each.key], label_id) for each in members for label_id in each.label_ids)
        # By label id: what a split loses that is left without it, and the splits that are to have it.
        self.worth: dict[int, float] = {}
        self.entitled: dict[int, list[Split]] = {}

    def balance(self) -> None:
        """Brings every split to between half and one and a half times its share, by moves between neighbours."""
        # Rounded: a fifth of 20, as the difference of two sums, is a little less than 4, and half of it would be 1.
        wanted = {split: round((end - start) * len(self.members), 6) for split, (start, end) in self.interval.items()}
        for _ in self.members:
            surplus = {split: self.size[split] - wanted[split] for split in wanted}
            most, least = (choose(surplus, key=lambda split: surplus[split]) for choose in (max, min))
            too_large = self.size[most] > math.ceil(1.5 * wanted[most])
            if not too_large and self.size[least] >= math.floor(0.5 * wanted[least]):
                return
            losses = {each.key: self._loss(each) for each in self.members if self.split_of[each.key] == most}
            least_lost = min(losses.values())
            self._move_nearest([each for each in self.members if losses.get(each.key) == least_lost], least)

    def spread(self, label_id: int, holders: Sequence[Member]) -> None:
        """Gives every split a holder of a label, train first where there are not enough for all."""
        # The order in which they come is the order of worth: of two equally rare ones the first comes first here, too.
        self.worth[label_id] = 1 / (1 + len(self.worth))
        self.entitled[label_id] = list(self.interval)[: len(holders)]
        for split in self.entitled[label_id]:
            if not self.held[split, label_id]:
                self._move_nearest([member for member in holders if self._is_spare(member)], split)

    def fill(self) -> None:
        """Leaves no split empty: that is worse than one without a class."""
        for split in self.interval:
            if not self.size[split]:
                others = [member for member in self.members if self.size[self.split_of[member.key]] > 1]
                self._move_nearest([member for member in others if self._is_spare(member)] or others, split)

    def _is_spare(self, member: Member) -> bool:
        """Whether its split is entitled to none of its labels, or holds each of those again."""
        return next(self._alone(member), None) is None

    def _loss(self, member: Member) -> float:
        """What its split would lose with it: the more, the rarer the rarest of its labels there is; 0 for none."""
        return max((self.worth[label_id] for label_id in self._alone(member)), default=0.0)

    def _alone(self, member: Member) -> Iterator[int]:
        """The labels that its split is entitled to and that no other member of it holds."""
        split = self.split_of[member.key]
        for label_id in member.label_ids:
            if self.held[split, label_id] == 1 and split in self.entitled.get(label_id, ()):
                yield label_id

    def _move_nearest(self, members: Sequence[Member], split: Split) -> None:
        if not members:
            return
        member = min(members, key=lambda member: (self._distance(member, split), member.key))
        before = self.split_of[member.key]
        self.split_of[member.key] = split
        self.size.update({before: -1, split: 1})
        for label_id in member.label_ids:
            self.held[before, label_id] -= 1
            self.held[split, label_id] += 1

    def _fallen_into(self, place: float) -> Split:
        return next((split for split, (_, end) in self.interval.items() if place < end), list(self.interval)[-1])

    def _distance(self, member: Member, split: Split) -> float:
        start, end = self.interval[split]
        place = self.position[member.key]
        return max(start - place, place - end, 0.0)


def unit_hash(text: str) -> float:
    """A number in 0..1 that looks random and is the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / (1 << 56)
