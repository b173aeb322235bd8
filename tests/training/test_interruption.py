"""Ctrl-C reaches the whole process group, data loading processes included; the training saves all the same."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers.another_process import code_at_end, start_cli, wait_until
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from rich.console import Console

from dinoseg.config.loading import load_config, save_config
from dinoseg.system.signals import Ended
from dinoseg.training.interruption import Interruption
from dinoseg.training.loop import Trainer
from dinoseg.verbs.train import train


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    data, run = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 1}), tmp_path / "run"
    settings = tiny_settings(data, run, "num_workers=2", "scheduler.total_iter=100000", "eval.eval_interval=100000")
    printed = tmp_path / "printed"
    process = start_cli(["train", *settings], printed)
    wait_until(lambda: "step 3/" in printed.read_text(), process)
    os.killpg(process.pid, signal.SIGINT)
    assert code_at_end(process) == 0, printed.read_text()
    text = printed.read_text()
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


# From the first file of the run folder to the loop.
BEFORE_THE_LOOP = (
    "dinoseg.verbs.train.save_config",
    "dinoseg.labels.LabelSpace.save",
    "dinoseg.verbs.train.Journal",
    "dinoseg.training.journal.Trackers",
    "dinoseg.verbs.train.describe_plan",
    "dinoseg.verbs.train.Interruption",
)


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("place", BEFORE_THE_LOOP)
@pytest.mark.parametrize("ending", [Ended, KeyboardInterrupt])
def test_an_end_before_the_first_step_leaves_nothing(
    ending: type[BaseException], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "run")

    def ended(*arguments: Any, **options: Any) -> None:
        raise ending

    with monkeypatch.context() as patch, pytest.raises(ending):
        patch.setattr(place, ended)
        train(load_config(settings), Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert run_cli(["train", *settings, "scheduler.total_iter=1"], monkeypatch) == 0


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.usefixtures("own_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_loop_before_the_first_step_leaves_nothing(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_settings(write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "run")
    batches = Trainer._batches

    def signalled(trainer: Trainer) -> Iterator[dict[str, Any]]:
        os.kill(os.getpid(), number)
        return batches(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_batches", signalled)
        assert run_cli(["train", *settings], patch) == 0
    assert "stopped before the first step: nothing is kept; the same command starts again" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert run_cli(["train", *settings, "scheduler.total_iter=1"], monkeypatch) == 0


@pytest.mark.filterwarnings("ignore:.*random initialisation")
def test_what_lay_in_the_folder_before_a_training_that_was_ended_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    settings = tiny_settings(write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), run)
    run.mkdir()
    save_config(load_config(settings), run / "config.yaml")
    (run / "notes.txt").write_text("mine")

    def ended(*arguments: Any) -> None:
        raise Ended

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr("dinoseg.verbs.train.describe_plan", ended)
        train(load_config([f"config={run / 'config.yaml'}"]), Console(quiet=True))
    assert sorted(path.name for path in run.glob("[!.]*")) == ["config.yaml", "notes.txt"]
    assert run_cli(["train", run, "scheduler.total_iter=1"], monkeypatch) == 0


@pytest.mark.filterwarnings("ignore:.*random initialisation")
def test_a_run_that_was_killed_before_its_first_step_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    settings = tiny_settings(write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1}), run)
    child = os.fork()
    if child == 0:
        try:
            monkeypatch.setattr("dinoseg.verbs.train.Journal.note", lambda *a: os.kill(os.getpid(), signal.SIGKILL))
            train(load_config(settings), Console(quiet=True))
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (run / "config.yaml").exists() and not (run / "checkpoints").exists()
    assert run_cli(["train", *settings, "scheduler.total_iter=1", "seed=5"], monkeypatch) == 0
    assert len(list((run / "tensorboard").iterdir())) == 1
