"""A command line in another process, to be killed or asked to end."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from dinoseg.__main__ import main

LONGEST_SECONDS = 120


def start_cli(arguments: Sequence[str | Path], printed: Path) -> ForkProcess:
    """``dinoseg ARGUMENTS`` in a fork of this process, with a process group of its own; what it prints is in a file.

    A fork has everything imported, which takes a new process longer than most tests.
    """
    printed.touch()
    words = [str(argument) for argument in arguments]
    process = multiprocessing.get_context("fork").Process(target=run_forked, args=(words, printed))
    process.start()
    return process


def run_forked(words: list[str], printed: Path) -> None:
    """``dinoseg WORDS`` in a process that was forked from the tests, as if it were a new one."""
    os.setpgrp()
    # A test run in the background ignores SIGINT, and its children with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    forget_the_one_process()
    sys.argv = ["dinoseg", *words]
    with printed.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        main()


def forget_the_one_process() -> None:
    """What a training before the fork found out about its one process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def wait_until(said: Callable[[], object], process: ForkProcess) -> None:
    """Returns when it is so, or the process has ended."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not said() and process.is_alive():
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("the process does not get there")
        time.sleep(0.002)


def code_at_end(process: ForkProcess) -> int | None:
    """Waits for the end; minus the signal that killed it."""
    process.join(LONGEST_SECONDS)
    return process.exitcode
