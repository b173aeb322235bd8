"""The moving average of the trained weights: what it is, what is evaluated, saved and gone on with."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_settings, write_tiny_dataset
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from dinoseg.config.loading import load_config
from dinoseg.inference.opening import ChosenRun
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.training import loop
from dinoseg.training.ema import WeightAverage
from dinoseg.training.loop import Trainer
from dinoseg.verbs.evaluate import evaluate_run
from dinoseg.verbs.train import Start, train

CLOCK = ("images_per_second", "data_wait_share")


def _module() -> nn.Linear:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0]]))
    module.bias.requires_grad_(False)
    return module


def test_the_average_is_that_of_the_formula() -> None:
    module = _module()
    average = WeightAverage(module, 0.2)
    expected = torch.tensor([[1.0, 2.0]])
    # (1 + step) / (10 + step): 2/11 is below 0.2, 3/12 and later ones are not.
    for step, kept in ((1, 2 / 11), (2, 0.2), (3, 0.2)):
        with torch.no_grad():
            module.weight.add_(step)
        average.update(step)
        expected = kept * expected + (1 - kept) * module.weight.detach()
    with average.applied() as trained:
        torch.testing.assert_close(module.weight.detach(), expected)
        assert trained.keys() == {"weight"} and torch.equal(trained["weight"], torch.tensor([[7.0, 8.0]]))
    assert torch.equal(module.weight.detach(), torch.tensor([[7.0, 8.0]]))


def test_the_trained_weights_come_back_after_an_error() -> None:
    module = _module()
    average = WeightAverage(module, 0.9)
    with torch.no_grad():
        module.weight.zero_()
    with pytest.raises(KeyError), average.applied():
        assert module.weight.sum() == 3
        raise KeyError
    assert module.weight.sum() == 0


def test_a_low_precision_weight_has_a_shadow_in_full_precision() -> None:
    module = _module().bfloat16()
    average = WeightAverage(module, 0.999)
    with torch.no_grad():
        module.weight.add_(1)
    for _ in range(20):
        average.update(10_000_000)  # steps of 0.001, which BF16 would round away
    expected = torch.tensor([[1.0, 2.0]]) + (1 - 0.999**20)
    torch.testing.assert_close(average._shadow["weight"], expected)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and beside it the uninterrupted run with an average."""
    folder = tmp_path_factory.mktemp("ema")
    write_tiny_dataset(folder / "data", {"train": 4, "val": 2})
    _train(_settings(folder, "whole"))
    return folder


def _settings(base: Path, run: str, *more: str) -> list[str]:
    common = ["scheduler.total_iter=6", "eval.eval_interval=3", "eval.num_visualizations=0", "train.ema_decay=0.5"]
    return tiny_settings(base / "data", base / run, *common, *more)


def _train(settings: list[str], how: str | None = None) -> None:
    train(load_config(settings), Console(quiet=True), Start(how))


def _figures(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def _weights(run: Path, checkpoint: str = "last") -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / checkpoint / "model.safetensors")


def test_training_itself_is_that_without_an_average(base: Path) -> None:
    _train(_settings(base, "plain", "train.ema_decay=null"))
    raw, plain = Checkpoint(base / "whole/checkpoints/last").trainer_state()["trained"], _weights(base / "plain")
    assert raw and all(torch.equal(value, plain[name]) for name, value in raw.items())
    losses = [[line["loss"] for line in _figures(base / run) if line["kind"] == "train"] for run in ("whole", "plain")]
    assert losses[0] == losses[1]
    averaged = _weights(base / "whole")
    assert any(not torch.equal(averaged[name], value) for name, value in raw.items())
    assert "trained" not in Checkpoint(base / "plain/checkpoints/last").trainer_state()


def test_what_is_saved_is_what_was_evaluated(base: Path) -> None:
    for checkpoint in ("best", "last"):
        step = json.loads((base / "whole/checkpoints" / checkpoint / "checkpoint.json").read_text())["progress"]["step"]
        recorded = next(line for line in _figures(base / "whole") if line["kind"] == "val" and line["step"] == step)
        evaluation = evaluate_run(ChosenRun(base / "whole", checkpoint, None), "val", Console(file=io.StringIO()))
        assert evaluation.metrics.means["mIoU"] == recorded["mIoU"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package catches it."""


@pytest.mark.parametrize("killed_at", ["a step", "an evaluation", "the save of best"])
def test_killed_and_resumed_equals_uninterrupted(base: Path, killed_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = f"parts at {killed_at}"
    method = {"a step": "_step", "an evaluation": "_validate", "the save of best": "save"}[killed_at]
    original = getattr(Trainer, method)

    def kill(trainer: Trainer, *arguments: Any) -> None:
        if trainer.progress.step == 5 or (
            trainer.progress.step == 3 and (method == "_validate" or "best" in arguments)
        ):
            raise Killed
        original(trainer, *arguments)

    settings = _settings(base, run, "train.checkpoint_interval=2")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, method, kill)
        with pytest.raises(Killed):
            _train(settings)
    _train(settings, "last")
    for checkpoint in ("best", "last"):
        whole, parts = _weights(base / "whole", checkpoint), _weights(base / run, checkpoint)
        assert whole.keys() == parts.keys() and not [
            name for name in whole if not torch.equal(whole[name], parts[name])
        ]
    first, second = (Checkpoint(base / name / "checkpoints/last").trainer_state()["trained"] for name in ("whole", run))
    assert not [name for name in first if not torch.equal(first[name], second[name])]
    assert _figures(base / "whole") == _figures(base / run)


def test_another_decay_is_another_training(base: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.ema_decay: 0\.5 in the run, 0\.9 now; it would be another training"):
        _train(_settings(base, "whole", "scheduler.total_iter=6", "train.ema_decay=0.9", "num_workers=0"), "previous")


def test_a_training_from_another_head_averages_from_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []
    original = loop.evaluate

    def evaluate(segmenter: nn.Module, *arguments: Any, **options: Any) -> Any:
        seen.append({name: value.clone() for name, value in segmenter.state_dict().items()})
        return original(segmenter, *arguments, **options)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    _train(_settings(base, "next", "scheduler.total_iter=0", f"load_from={base / 'whole'}"))
    best = {name: value for name, value in _weights(base / "whole", "best").items() if name.startswith("head.")}
    assert best and not [name for name, value in best.items() if not torch.equal(seen[0][name], value)]
