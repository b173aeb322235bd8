"""Two processes: what goes wrong, or is stopped, in one of them ends both, and nobody waits."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_settings, write_tiny_dataset
from helpers.truth_teller import TruthTeller
from helpers.two_processes import in_two_processes
from rich.console import Console

from dinoseg.config.loading import load_config
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.folders import find_pairs
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import evaluate
from dinoseg.evaluation.settings import EvaluationSettings
from dinoseg.inference.policy import window_policy
from dinoseg.labels import LabelSpace
from dinoseg.system.processes import failing_together
from dinoseg.training import loop
from dinoseg.training.loop import Trainer
from dinoseg.verbs.train import train


def _train(root: Path, name: str, *more: str) -> str:
    config = load_config(tiny_settings(root / "data", root / name, *more))
    return f"trained into {train(config, Console(quiet=True)).path.name}"


def _loss_not_finite_in_the_second(root: Path, rank: int) -> str:
    original = Trainer._backward

    def spoilt(trainer: Trainer, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        if rank == 1 and trainer.progress.step == 1:
            batch["image"].fill_(torch.nan)
        return original(trainer, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_backward", spoilt)
        return _train(root, "spoilt")


def _terminated_in_the_first(root: Path, rank: int) -> str:
    original = Trainer._report

    def terminating(trainer: Trainer, *arguments: Any) -> None:
        original(trainer, *arguments)
        if rank == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_report", terminating)
        return _train(root, "stopped")


def _stopped_early(root: Path, rank: int) -> str:
    original, figures = loop.evaluate, [60.0, 70.0, 65.0, 64.0]

    def falling(*arguments: Any, **options: Any) -> Any:
        evaluation = original(*arguments, **options)
        evaluation.metrics.means["mIoU"] = figures.pop(0)
        return evaluation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate", falling)
        return _train(root, "early", "scheduler.total_iter=9", "eval.eval_interval=1", "train.early_stopping=2")


def _evaluate(root: Path, stop: Callable[[], bool] = lambda: False) -> str:
    config = load_config([f"datasets.root={root / 'data'}", "eval.crop_size=24", "eval.stride=17"])
    space = LabelSpace.build({0: "back", 1: "red", 2: "green"}, None, None, found_ids=[0, 1, 2])
    dataset = EvaluationDataset(
        find_pairs(config.datasets, "val").pairs, space, build_eval_transform(config.transforms)
    )
    settings = EvaluationSettings(window_policy(config), space)
    evaluate(TruthTeller(3), dataset, settings, torch.device("cpu"), stop=stop)
    return "evaluated"


def _mask_unreadable_in_the_second(root: Path, rank: int) -> str:
    with failing_together():
        if rank == 1:
            (root / "data/val/masks/val_1.png").write_bytes(b"no picture")
    return _evaluate(root)


def _evaluation_stopped_in_the_second(root: Path, rank: int) -> str:
    return _evaluate(root, lambda: rank == 1)


# The last one spoils the data set.
SCENES = {
    "loss": _loss_not_finite_in_the_second,
    "signal": _terminated_in_the_first,
    "early": _stopped_early,
    "stop": _evaluation_stopped_in_the_second,
    "mask": _mask_unreadable_in_the_second,
}


def _process(rank: int, root: Path, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    told = {}
    for name, scene in SCENES.items():
        try:
            told[name] = scene(root, rank)
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"
    (root / f"{rank}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """The folder, and by process what each scene returned or raised."""
    root = tmp_path_factory.mktemp("together")
    write_tiny_dataset(root / "data", {"train": 4, "val": 4})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_two_processes(_process, root, port)
    return root, [json.loads((root / f"{rank}.json").read_text()) for rank in range(2)]


def test_a_loss_that_is_not_finite_ends_both_with_its_message(told: tuple[Path, list[dict[str, str]]]) -> None:
    root, (first, second) = told
    assert second["loss"].startswith("ValueError: step 2: the loss is not finite")
    assert first["loss"] == second["loss"].replace("ValueError: ", "ValueError: process 1 of 2: ")
    assert not (root / "spoilt" / "checkpoints" / "last").exists()


def test_a_signal_to_one_ends_both_after_the_same_step(told: tuple[Path, list[dict[str, str]]]) -> None:
    root, (first, second) = told
    assert first["signal"] == second["signal"] == "trained into stopped"
    progress = json.loads((root / "stopped/checkpoints/last/checkpoint.json").read_text())["progress"]
    assert progress["step"] == 1


def test_an_early_stop_ends_both(told: tuple[Path, list[dict[str, str]]]) -> None:
    root, (first, second) = told
    assert first["early"] == second["early"] == "trained into early"
    progress = json.loads((root / "early/checkpoints/last/checkpoint.json").read_text())["progress"]
    assert (progress["step"], progress["best_step"], progress["evaluations_since_best"]) == (4, 2, 2)


def test_an_evaluation_is_broken_off_in_both(told: tuple[Path, list[dict[str, str]]]) -> None:
    _, (first, second) = told
    assert first["stop"] == second["stop"] == "BrokenOff: "


def test_an_unreadable_mask_of_one_ends_both_with_its_name(told: tuple[Path, list[dict[str, str]]]) -> None:
    _, (first, second) = told
    assert second["mask"].startswith("ValueError: ") and "val_1.png" in second["mask"]
    assert first["mask"] == second["mask"].replace("ValueError: ", "ValueError: process 1 of 2: ")
