"""Sums and means over the processes of a run; with one process everything is returned as it is."""

import torch.distributed as distributed
from jaxtyping import Shaped
from torch import Tensor


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


def _started() -> bool:
    return distributed.is_available() and distributed.is_initialized()
