"""A function in two processes at once."""

import time
from collections.abc import Callable

import pytest
import torch.multiprocessing as multiprocessing
from accelerate.state import AcceleratorState, GradientState

# Of both together; one that waits for the other would wait much longer.
LONGEST_SECONDS = 120


def in_two_processes(function: Callable[..., None], *arguments: object) -> None:
    """Calls ``function(rank, *arguments)`` with ranks 0 and 1, each in a fork of this process.

    A fork has everything imported, which takes a new process longer than most tests.
    """
    processes = multiprocessing.start_processes(
        _as_a_new_process, (function, arguments), nprocs=2, join=False, start_method="fork"
    )
    deadline = time.monotonic() + LONGEST_SECONDS
    # Each call returns when one of them has ended.
    while not processes.join(timeout=deadline - time.monotonic()):
        if time.monotonic() > deadline:
            for process in processes.processes:
                process.kill()
            pytest.fail("one process waits for the other")


def _as_a_new_process(rank: int, function: Callable[..., None], arguments: tuple[object, ...]) -> None:
    # What a training before the fork found out about its one process.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    function(rank, *arguments)
