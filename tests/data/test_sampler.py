"""The stream of training batches, and the shares of an evaluation, as algebra."""

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoseg.data.sampler import EpochBatchSampler, epoch_permutation, mixed_seed, spread_subset
from dinoseg.system.processes import evaluation_shard


def flat(batches: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    return [sample for batch in batches for sample in batch]


@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 2**40),
)
def test_processes_share_the_global_batch_of_one_process(
    num_samples: int, batch_size: int, world_size: int, seed: int
) -> None:
    alone = list(EpochBatchSampler(num_samples, batch_size * world_size, seed, num_batches=9))
    together = [
        list(EpochBatchSampler(num_samples, batch_size, seed, rank=rank, world_size=world_size, num_batches=9))
        for rank in range(world_size)
    ]
    assert [flat([shares[step] for shares in together]) for step in range(9)] == alone


@settings(max_examples=60, deadline=None)
@given(num_samples=st.integers(1, 40), batch_size=st.integers(1, 12), seed=st.integers(0, 2**40))
def test_every_sample_is_seen_once_per_epoch(num_samples: int, batch_size: int, seed: int) -> None:
    stream = flat(list(EpochBatchSampler(num_samples, batch_size, seed, num_batches=3 * num_samples)))
    whole_epochs = len(stream) // num_samples
    assert whole_epochs == 3 * batch_size
    for epoch in range(whole_epochs):
        part = stream[epoch * num_samples : (epoch + 1) * num_samples]
        assert [e for e, _ in part] == [epoch] * num_samples
        assert sorted(index for _, index in part) == list(range(num_samples))


@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    rank=st.integers(0, 2),
    start=st.integers(0, 50),
    num_batches=st.integers(0, 10),
)
def test_a_later_start_gives_the_rest_of_the_stream(
    num_samples: int, batch_size: int, rank: int, start: int, num_batches: int
) -> None:
    whole = EpochBatchSampler(num_samples, batch_size, 5, rank=rank, world_size=3)
    resumed = EpochBatchSampler(
        num_samples, batch_size, 5, rank=rank, world_size=3, start_batch=start, num_batches=num_batches
    )
    assert list(resumed) == list(islice(whole, start, start + num_batches))
    assert list(resumed) == list(resumed)
    assert len(resumed) == num_batches


def test_a_far_start_is_reached_at_once() -> None:
    sampler = EpochBatchSampler(1000, 4, seed=0, start_batch=10**12, num_batches=1)
    assert [epoch for epoch, _ in next(iter(sampler))] == [4 * 10**9] * 4


def test_a_data_set_smaller_than_the_batch() -> None:
    (batch,) = EpochBatchSampler(3, 8, seed=1, num_batches=1)
    assert [epoch for epoch, _ in batch] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert Counter(index for _, index in batch[:6]) == {0: 2, 1: 2, 2: 2}


def test_epochs_and_seeds_differ_in_order() -> None:
    orders = {tuple(epoch_permutation(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_mixed_seeds_spread_over_63_bits() -> None:
    seeds = {mixed_seed(a, b, c) for a in range(-5, 5) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    for bit in range(63):
        assert 400 < sum(seed >> bit & 1 for seed in seeds) < 600
    assert mixed_seed(1, 23) != mixed_seed(12, 3)
    assert mixed_seed(100, 0, 7) == 6591781512716042587, "another value gives every run other data"


def test_an_endless_sampler_has_no_length() -> None:
    with pytest.raises(TypeError, match="num_batches was not given"):
        len(EpochBatchSampler(3, 1, seed=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0, "batch_size": 1}, "training split is empty"),
        ({"num_samples": 1, "batch_size": 0}, "bs: 0 images"),
        ({"num_samples": 1, "batch_size": 1, "rank": 2, "world_size": 2}, "rank 2 is not one of 2"),
        ({"num_samples": 1, "batch_size": 1, "start_batch": -1}, "start_batch -1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpochBatchSampler(seed=0, **arguments)


@given(num_samples=st.integers(0, 60), world_size=st.integers(1, 8))
def test_evaluation_shards_hold_every_sample_exactly_once(num_samples: int, world_size: int) -> None:
    shards = [evaluation_shard(num_samples, rank, world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(num_samples))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    with pytest.raises(ValueError, match="is not one of"):
        evaluation_shard(num_samples, world_size, world_size)


@given(num_samples=st.integers(1, 200), maximum=st.integers(1, 250))
def test_a_subset_is_evenly_spread(num_samples: int, maximum: int) -> None:
    subset = spread_subset(num_samples, maximum)
    assert len(subset) == len(set(subset)) == min(num_samples, maximum)
    assert subset == sorted(subset) and subset[0] >= 0 and subset[-1] < num_samples
    edges = [-0.5, *subset, num_samples - 0.5]
    share = num_samples / len(subset)
    assert max(after - before for before, after in pairwise(edges)) <= share + 1


def test_subsets_by_hand() -> None:
    assert spread_subset(10, 1) == [5]
    assert spread_subset(10, 3) == [1, 5, 8]
    assert spread_subset(4, None) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"eval\.max_val_samples: 0"):
        spread_subset(4, 0)
