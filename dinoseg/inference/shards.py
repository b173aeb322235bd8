"""Prediction by the processes that ``torchrun`` or ``accelerate launch`` started: each takes its share of images."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as distributed

from dinoseg.data.sampler import evaluation_shard
from dinoseg.processes import process_count, process_rank

Item = TypeVar("Item")

# Shares differ in time, and a process that is done waits for the others; one that dies ends the job at once.
_PATIENCE = timedelta(days=30)


@contextmanager
def joined_processes() -> Iterator[None]:
    """Joins the processes of this launch for the length of the block, each with a GPU of its own where there are GPUs.

    Started alone, or within a group already: nothing happens.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or process_count() > 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # Only lists of names travel between the processes, so that CPU messages do, and no GPU waits in a collective.
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """Every n-th item, from this process's rank on. All processes must hold the same items in the same order."""
    return [items[row] for row in evaluation_shard(len(items), process_rank(), process_count())]


def from_first_process(items: list[Item]) -> list[Item]:
    """The items of process 0, on every process."""
    if process_count() > 1:
        shared = [items]
        distributed.broadcast_object_list(shared)
        items = shared[0]
    return items


def gather_shares(share: Sequence[Item]) -> list[Item]:
    """All items again, in the order before ``own_share``, on every process."""
    if process_count() == 1:
        return list(share)
    shares: list[Sequence[Item]] = [[] for _ in range(process_count())]
    distributed.all_gather_object(shares, share)
    total = sum(len(items) for items in shares)
    return [shares[index % len(shares)][index // len(shares)] for index in range(total)]
