"""One training at a time in a run folder."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dinoseg.run_folder.lock import locked_predictions, locked_run

HOLD = """
import sys, time
from pathlib import Path
from dinoseg.run_folder.lock import locked_run
with locked_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_is_refused_and_told_who_holds_it(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    found = rf"another training is at work there \(process {holder.pid} on {socket.gethostname()} since 20.*output_dir"
    with pytest.raises(ValueError, match=found), locked_run(tmp_path / "run"):
        pass
    holder.kill()
    holder.wait()


def test_a_second_prediction_into_one_folder_is_refused(tmp_path: Path) -> None:
    """And neither is in the way of a training there."""
    said = (
        rf"another prediction is at work there \(process {os.getpid()} on .*; wait for its end, or give another --out"
    )
    out = tmp_path / "out"
    with (
        locked_predictions(out),
        locked_run(out),
        pytest.raises(ValueError, match=said),
        locked_predictions(out),
    ):
        pass


def test_a_lock_whose_holder_was_killed_is_free(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked_run(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / ".lock.holder.json").read_text()


def test_folders_made_for_nothing_go_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked_run(tmp_path / "a" / "run"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_or_was_written_stays(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyError), locked_run(tmp_path / "old"):
        raise KeyError
    with locked_run(tmp_path / "new"):
        (tmp_path / "new" / "config.yaml").touch()
    assert (tmp_path / "old").is_dir() and (tmp_path / "new" / "config.yaml").is_file()


def _try(folder: Path, entered: "multiprocessing.Queue[int]") -> None:
    try:
        with locked_run(folder):
            entered.put(1)
            time.sleep(1.5)
    except ValueError:
        entered.put(0)


def test_of_many_that_start_at_once_one_gets_in(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    entered = context.Queue()
    processes = [context.Process(target=_try, args=(tmp_path / "run", entered)) for _ in range(6)]
    for process in processes:
        process.start()
    results = [entered.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(results) == 1
