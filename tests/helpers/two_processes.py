"""A function, or a command line, in two processes at once."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch.multiprocessing as multiprocessing

from helpers.another_process import forget_the_one_process, run_forked

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
    forget_the_one_process()
    function(rank, *arguments)


def run_cli_in_two_processes(arguments: Sequence[str | Path], folder: Path) -> tuple[list[int], str]:
    """The exit codes of ``dinoseg ARGUMENTS`` in two processes, as a launcher starts them, and all that they printed.

    Args:
        folder: for files of what they say.
    """
    words = [str(argument) for argument in arguments]
    in_two_processes(_run_cli, words, str(folder), 29500 + os.getpid() % 1000)
    codes = [int((folder / f"code{rank}").read_text()) for rank in range(2)]
    return codes, "".join((folder / f"printed{rank}").read_text() for rank in range(2))


def _run_cli(rank: int, words: list[str], folder: str, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    code: object = 0
    try:
        run_forked(words, Path(f"{folder}/printed{rank}"))
    except SystemExit as ended:
        code = ended.code
    Path(f"{folder}/code{rank}").write_text(str(code or 0))
