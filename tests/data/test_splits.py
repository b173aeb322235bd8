"""Splits by the hash of a name: shares, groups, classes, and what stays when files are added."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dinoseg.data.splits import Member, assign_splits, group_of, parse_shares

SHARES = parse_shares("80/10/10")


def test_shares() -> None:
    assert parse_shares("80/10/10") == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1})
    assert parse_shares("75/25") == pytest.approx({"train": 0.75, "val": 0.25})
    assert parse_shares("90/10/0") == pytest.approx({"train": 0.9, "val": 0.1})


@pytest.mark.parametrize("text", ["", "80", "80/10", "a/b", "50/30/20/0", "120/-20", "0.8/0.2", "nan/100"])
def test_wrong_shares(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"shares are two or three numbers that sum to 100; write datasets\.split=80/10/"
    ):
        parse_shares(text)


@pytest.mark.parametrize("text", ["100/0", "0/100", "0/50/50"])
def test_something_must_be_left_to_train_and_to_validate_on(text: str) -> None:
    with pytest.raises(ValueError, match="nothing is left to train or to validate on"):
        parse_shares(text)


def test_many_names_fall_near_the_shares() -> None:
    members = [Member(f"image_{number}") for number in range(4000)]
    counts = Counter(assign_splits(members, SHARES, 0).values())
    assert counts["train"] / 4000 == pytest.approx(0.8, abs=0.02)
    assert counts["val"] / 4000 == pytest.approx(0.1, abs=0.02)
    other = assign_splits(members, SHARES, 1)
    assert other != assign_splits(members, SHARES, 0)


def test_a_split_is_the_same_everywhere() -> None:
    """By hand: 56 bits of BLAKE2b of "0:j" are 0.861 of all, of "0:l" 0.911, of "0:c" 0.972; the others below 0.72."""
    found = assign_splits([Member(name) for name in "abcdefghijkl"], SHARES, 0)
    assert {name: split for name, split in found.items() if split != "train"} == {"j": "val", "l": "test", "c": "test"}
    assert found == assign_splits([Member(name) for name in reversed("abcdefghijkl")], SHARES, 0)


NAMES = st.lists(st.text("abc123_", min_size=1, max_size=6), min_size=3, max_size=40, unique=True)


@given(NAMES, st.integers(0, 50))
def test_no_split_is_empty(names: list[str], seed: int) -> None:
    assert set(assign_splits([Member(name) for name in names], SHARES, seed).values()) == {"train", "val", "test"}


@given(NAMES, st.data())
def test_files_that_are_added_move_none_where_nothing_had_to_be_mended(names: list[str], data: st.DataObject) -> None:
    many = [Member(f"image_{number}") for number in range(200)]
    before = assign_splits(many, SHARES, 0)
    after = assign_splits([*many, *(Member(f"new/{name}") for name in names)], SHARES, 0)
    assert {key: after[key] for key in before} == before


# Two labels are as rare as the rarest, and one of three members has to leave test.
EQUALLY_RARE = [{2, 3, 4}, {0, 1, 3, 5}, {0, 2, 6}, {0, 1, 3, 5}, {0}, {6}, {4, 6}, {1, 2, 4, 5}]


@given(st.lists(st.frozensets(st.integers(0, 6), max_size=4), min_size=3, max_size=60), st.integers(0, 20))
@example([frozenset(held) for held in EQUALLY_RARE], 1)
def test_the_rarest_class_reaches_every_split_that_it_can(classes: list[frozenset[int]], seed: int) -> None:
    members = [Member(f"image_{number}", held) for number, held in enumerate(classes)]
    found = assign_splits(members, SHARES, seed)
    assert set(found.values()) == {"train", "val", "test"}
    counts = Counter(label_id for held in classes for label_id in held)
    if not counts:
        return
    rarest = min(counts, key=lambda label_id: (counts[label_id], label_id))
    holders = {found[member.key] for member in members if rarest in member.label_ids}
    # With as many members as splits each is needed where it is.
    if len(members) > 2 * len(SHARES) and counts[rarest] >= len(SHARES):
        assert holders == {"train", "val", "test"}


def test_a_class_of_one_image_is_trained_on() -> None:
    for seed in range(20):
        members = [
            *(Member(f"image_{number}", frozenset({0})) for number in range(9)),
            Member("rare", frozenset({0, 5})),
        ]
        assert assign_splits(members, SHARES, seed)["rare"] == "train"


def test_groups() -> None:
    assert group_of("images/patient12_left", r"(patient\d+)_") == "patient12"
    assert group_of("images/patient12_left", r"patient\d+") == "patient12"
    assert group_of("x", None) == "x"
    with pytest.raises(ValueError, match=r"datasets\.group=\(site\\d\): does not occur in the name 'images/a'"):
        group_of("images/a", r"(site\d)")
    with pytest.raises(ValueError, match=r"datasets\.group=\(: no regular expression"):
        group_of("images/a", "(")


def test_half_of_a_fifth_of_twenty_is_two() -> None:
    """As the difference of two sums of shares a fifth is a little less."""
    for seed in range(400):
        counts = Counter(assign_splits([Member(str(n)) for n in range(20)], parse_shares("60/20/20"), seed).values())
        assert min(counts.values()) >= 2


@given(NAMES, st.integers(0, 1000))
def test_few_members_do_not_miss_the_shares_by_far(names: list[str], seed: int) -> None:
    counts = Counter(assign_splits([Member(name) for name in names], parse_shares("60/20/20"), seed).values())
    for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert max(1, int(0.5 * share * len(names))) <= counts[split] <= int(1.5 * share * len(names)) + 1


@given(st.lists(st.frozensets(st.integers(0, 30), max_size=6), min_size=5, max_size=60), st.integers(0, 20))
def test_rare_classes_do_not_make_a_split_miss_its_share_by_far(labels: list[frozenset[int]], seed: int) -> None:
    members = [Member(f"image_{number}", held) for number, held in enumerate(labels)]
    counts = Counter(assign_splits(members, parse_shares("60/20/20"), seed).values())
    for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert max(1, int(0.5 * share * len(labels))) <= counts[split] <= int(1.5 * share * len(labels)) + 1


def test_where_every_image_has_a_class_of_its_own_the_shares_are_kept() -> None:
    members = [Member(f"image_{number}", frozenset({0, number + 1})) for number in range(100)]
    counts = Counter(assign_splits(members, SHARES, 0).values())
    assert counts == {"train": 90, "val": 5, "test": 5}
