"""Which sample is read when: a function of seed, epoch and position, never of process or worker."""

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


def mixed_seed(*numbers: int) -> int:
    """A well-mixed seed, 0 .. 2**63 - 1, from integers; the same on every machine and in every process."""
    text = ",".join(str(number) for number in numbers)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def epoch_permutation(num_samples: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch visits the samples: a permutation of 0 .. num_samples - 1."""
    generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
    order: list[int] = torch.randperm(num_samples, generator=generator).tolist()
    return order


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) for one process, without end or ``num_batches`` of them.

    The permutations of epochs 0, 1, 2, ... stand in one row. Global batch t is its positions
    [t * batch_size * world_size, (t + 1) * batch_size * world_size), and process ``rank`` takes the ``rank``-th run of
    ``batch_size`` of them. So every sample is seen once per epoch, batches straddle epochs, and a data set may be
    smaller than a batch. At each step n processes see together what one with an n times larger batch sees.

    ``batch_size`` is per process. The first batch is ``start_batch``, reached without stepping through those before;
    ``num_batches`` counts from there. Raises ``ValueError`` for an empty data set or numbers out of range.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        start_batch: int = 0,
        num_batches: int | None = None,
    ) -> None:
        if num_samples < 1:
            raise ValueError("no samples to draw batches from: the training split is empty")
        if batch_size < 1:
            raise ValueError(f"bs: {batch_size} images per step and process; give at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size} processes")
        if start_batch < 0 or (num_batches is not None and num_batches < 0):
            raise ValueError(f"start_batch {start_batch} and num_batches {num_batches} must not be negative")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start_batch = start_batch
        self.num_batches = num_batches

    def __len__(self) -> int:
        """Number of batches; ``TypeError``, as Python has it for objects without a length, when there is no end."""
        if self.num_batches is None:
            raise TypeError("this sampler has no end, and so no length: num_batches was not given")
        return self.num_batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch = self.start_batch
        epoch, order = -1, list[int]()
        while self.num_batches is None or batch < self.start_batch + self.num_batches:
            first = (batch * self.world_size + self.rank) * self.batch_size
            samples = []
            for position in range(first, first + self.batch_size):
                if position // self.num_samples != epoch:
                    epoch = position // self.num_samples
                    order = epoch_permutation(self.num_samples, self.seed, epoch)
                samples.append((epoch, order[position % self.num_samples]))
            yield samples
            batch += 1


def spread_subset(num_samples: int, maximum: int | None) -> list[int]:
    """At most ``maximum`` indices, rising, spread evenly over 0 .. num_samples - 1; all when ``maximum`` is None."""
    if maximum is None or maximum >= num_samples:
        return list(range(num_samples))
    if maximum < 1:
        raise ValueError(
            f"eval.max_val_samples: {maximum} leaves nothing to evaluate; give at least 1, or null for all"
        )
    return [(2 * position + 1) * num_samples // (2 * maximum) for position in range(maximum)]
