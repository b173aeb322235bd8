"""The processes of a run: their number and cores, each one's share, and what they do together."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as distributed
from jaxtyping import Shaped
from torch import Tensor

Item = TypeVar("Item")
# Shares differ in time, and a process that is done waits for the others; one that dies ends the job at once.
_PATIENCE = timedelta(days=30)


def process_count() -> int:
    """Number of processes that train or evaluate together."""
    return distributed.get_world_size() if _started() else 1


def process_rank() -> int:
    """Number of this process, 0 .. process_count() - 1."""
    return distributed.get_rank() if _started() else 0


def sum_over_processes(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The sum over processes, on every process; integers stay exact."""
    if process_count() == 1:
        return tensor
    total = tensor.clone()
    distributed.all_reduce(total)
    return total


def mean_over_processes(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The mean over processes, on every process.

    A loss that divides its sum by the mean count has, after gradients are averaged over processes, the gradient of one
    process with the whole batch.
    """
    return sum_over_processes(tensor) / process_count()


def copy_from_first_process(tensor: Shaped[Tensor, "..."]) -> None:
    """Overwrites the tensor with that of process 0."""
    if process_count() > 1:
        distributed.broadcast(tensor, 0)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in one process at least, on every process."""
    if process_count() == 1:
        return flag
    # NCCL adds up on its own device only.
    device = torch.device("cuda", torch.cuda.current_device()) if "nccl" in distributed.get_backend() else "cpu"
    return bool(sum_over_processes(torch.tensor(int(flag), device=device)))


@contextmanager
def leaving_together() -> Iterator[None]:
    """A process group started within the block ends with it, if there was no error. Every process must get there.

    Gloo's threads let go of a collective's tensors a moment after it is done; one that does so while the interpreter
    ends aborts the process. After an error nothing is left: that could wait for a process that failed.
    """
    yield
    if _started():
        distributed.destroy_process_group()


@contextmanager
def failing_together() -> Iterator[None]:
    """The end of the block is reached by all processes, or an error is raised in all: none waits for one that failed.

    To be entered by every process, and nothing within may wait for another process.

    Raises:
        ValueError: the block failed in another process; names it and has its message.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if any_process(failure is not None):
        messages: list[str | None] = [None] * process_count()
        if process_count() > 1:
            distributed.all_gather_object(messages, None if failure is None else str(failure))
        if failure is not None:
            raise failure
        rank, message = next((rank, text) for rank, text in enumerate(messages) if text is not None)
        raise ValueError(f"process {rank} of {process_count()}: {message}")


def _started() -> bool:
    return distributed.is_available() and distributed.is_initialized()


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


def evaluation_shard(num_samples: int, rank: int, world_size: int) -> list[int]:
    """The indices that process ``rank`` evaluates: every ``world_size``-th, so that each is evaluated exactly once."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is not one of {world_size} processes")
    return list(range(rank, num_samples, world_size))


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
