"""Folds: disjoint and complete by construction, of like size, with like many images of every class."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoseg.data.folds import assign_folds
from dinoseg.data.splits import Member, unit_hash

CLASSES = st.lists(st.frozensets(st.integers(0, 5), max_size=4), min_size=2, max_size=40)


def sizes_of(members: list[Member], fold_of: dict[str, int], folds: int) -> list[int]:
    counts = Counter({fold: 0 for fold in range(folds)})
    for member in members:
        counts[fold_of[member.key]] += member.images
    return [counts[fold] for fold in range(folds)]


@given(CLASSES, st.integers(2, 6), st.integers(0, 20))
def test_every_image_is_in_one_fold_and_their_sizes_differ_by_one_at_most(
    classes: list[frozenset[int]], folds: int, seed: int
) -> None:
    members = [Member(f"image_{number}", held) for number, held in enumerate(classes)]
    fold_of = assign_folds(members, folds, seed)
    assert fold_of.keys() == {member.key for member in members}
    assert set(fold_of.values()) <= set(range(folds))
    sizes = sizes_of(members, fold_of, folds)
    assert max(sizes) - min(sizes) <= 1


@given(CLASSES, st.integers(2, 4), st.randoms(use_true_random=False), st.integers(0, 20))
def test_the_order_of_the_files_does_not_matter(
    classes: list[frozenset[int]], folds: int, shuffler: random.Random, seed: int
) -> None:
    members = [Member(f"image_{number}", held) for number, held in enumerate(classes)]
    shuffled = list(members)
    shuffler.shuffle(shuffled)
    assert assign_folds(shuffled, folds, seed) == assign_folds(members, folds, seed)


@given(CLASSES, st.integers(2, 5), st.integers(0, 20))
def test_the_rarest_class_is_shared_evenly(classes: list[frozenset[int]], folds: int, seed: int) -> None:
    members = [Member(f"image_{number}", held) for number, held in enumerate(classes)]
    counts = Counter(label_id for held in classes for label_id in held)
    if not counts:
        return
    rarest = min(counts, key=lambda label_id: (counts[label_id], label_id))
    fold_of = assign_folds(members, folds, seed)
    held = Counter(fold_of[member.key] for member in members if rarest in member.label_ids)
    by_fold = [held[fold] for fold in range(folds)]
    # Dealt first, in turn; where a fold is full before, by its share of all images.
    assert max(by_fold) - min(by_fold) <= 1


def test_every_class_is_shared_evenly_where_that_can_be() -> None:
    """Twelve images with the rare class alone, six with a rarer one beside it, 42 with neither."""
    held = [frozenset({0, 1})] * 12 + [frozenset({0, 1, 2})] * 6 + [frozenset({0})] * 42
    members = [Member(f"image_{number}", classes) for number, classes in enumerate(held)]
    fold_of = assign_folds(members, 6, 0)
    for label_id, each in ((0, 10), (1, 3), (2, 1)):
        found = Counter(fold_of[member.key] for member in members if label_id in member.label_ids)
        assert list(found.values()) == [each] * 6


@given(st.lists(st.integers(1, 9), min_size=5, max_size=20), st.integers(2, 5))
def test_no_fold_is_empty_whatever_the_groups(images: list[int], folds: int) -> None:
    members = [Member(f"group_{number}", frozenset({0}), count) for number, count in enumerate(images)]
    sizes = sizes_of(members, assign_folds(members, folds, 0), folds)
    assert min(sizes) > 0
    # The largest first, each into the smallest fold: none is larger than the smallest by more than a group.
    assert max(sizes) - min(sizes) <= max(images)


def test_groups_are_balanced_by_their_images() -> None:
    members = [Member("large", images=6), *(Member(f"small_{number}") for number in range(6))]
    fold_of = assign_folds(members, 2, 0)
    assert all(fold_of[f"small_{number}"] != fold_of["large"] for number in range(6))


def test_folds_are_the_same_everywhere() -> None:
    """Two images without classes, by hand: the first by its hash goes where its hash with the fold is smaller."""
    members = [Member("a"), Member("b")]
    first, second = sorted("ab", key=lambda key: unit_hash(f"0:{key}"))
    fold = min((0, 1), key=lambda fold: unit_hash(f"0:{first}:{fold}"))
    assert assign_folds(members, 2, 0) == {first: fold, second: 1 - fold}


@pytest.mark.parametrize("folds", [2, 5])
def test_another_seed_deals_otherwise(folds: int) -> None:
    members = [Member(f"image_{number}", frozenset({0})) for number in range(30)]
    assert assign_folds(members, folds, 0) != assign_folds(members, folds, 1)
