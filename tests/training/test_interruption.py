"""Ctrl-C reaches the whole process group, data loading processes included; the training saves all the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.tiny import tiny_settings, write_tiny_dataset

from dinoseg.training.interruption import Interruption


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    data, run = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 1}), tmp_path / "run"
    settings = tiny_settings(data, run, "num_workers=2", "scheduler.total_iter=100000", "eval.eval_interval=100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "dinoseg.cli", "train", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "step 3/" in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=120)
    text = "".join(printed) + rest
    assert process.returncode == 0, text
    assert "stopped after step" in text and "--resume" in text and "Traceback" not in text
    assert (run / "checkpoints" / "last" / "model.safetensors").is_file()


@pytest.fixture
def own_ctrl_c() -> Iterator[None]:
    """Python's own handler, whatever the tests were started with: a job in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("own_ctrl_c")
def test_a_second_ctrl_c_quits_at_once() -> None:
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_training_in_a_thread_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)

    def enter() -> bool:
        with Interruption() as interruption:
            assert signal.getsignal(signal.SIGINT) is before
            return interruption.requested

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(enter).result() is False
