"""SIGINT and SIGTERM before the first step: the signal's exit code, one line, nothing left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.tiny import tiny_settings, write_tiny_dataset


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0.3), (signal.SIGTERM, 0.6), (signal.SIGINT, 1.5), (signal.SIGTERM, 2.5)]
)
def test_a_signal_at_the_start_ends_with_its_code_and_one_line(
    number: signal.Signals, seconds: float, tmp_path: Path
) -> None:
    data, run = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "run"
    # A test run in the background ignores SIGINT, and its children with it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from dinoseg.__main__ import main; main()"
    arguments = [sys.executable, "-c", code, "train", *tiny_settings(data, run, "scheduler.total_iter=100000")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert "Traceback" not in out + error
    if run.exists():
        return  # a fast machine was training already, and stops as a training does
    assert process.returncode == 128 + number
    assert [line for line in error.splitlines() if "stopped" in line] == [f"stopped by {number.name}"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_error_that_a_library_makes_of_it_is_not_shown(number: signal.Signals, code: int) -> None:
    assert _in_a_process(f"convert({number})") == (code, f"\nstopped by {signal.Signals(number).name}\n")


def test_a_signal_that_a_library_swallowed_is_raised_again() -> None:
    status, said = _in_a_process(f"swallow({signal.SIGINT})")
    assert status == 130
    assert said == "\nstopped by SIGINT\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_thread_at_work_does_not_meet_the_end_of_the_interpreter(number: signal.Signals, code: int) -> None:
    assert _in_a_process(f"at_work({number})") == (code, f"\nstopped by {signal.Signals(number).name}\n")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    assert _in_a_process("ignored()") == (0, "")


def _in_a_process(call: str) -> tuple[int, str]:
    """Exit code and words of a function of helpers/signalled.py, in a process that imports little else."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", f"from helpers import signalled; signalled.{call}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    return done.returncode, done.stderr
