"""What the processes of a run do together: sums, means, agreement; with one process everything stays as it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
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
