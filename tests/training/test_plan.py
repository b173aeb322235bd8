"""The plan's estimate: it counts what is left to do, changes nothing, and runs as the training will."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from helpers.tiny import tiny_settings, write_tiny_dataset
from rich.console import Console

from dinoseg.config import with_changes
from dinoseg.config.loading import load_config
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.tta import TtaPolicy
from dinoseg.training import plan
from dinoseg.training.loop import Trainer
from dinoseg.training.pace import Estimate
from dinoseg.verbs import train

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")


@pytest.mark.parametrize(
    ("policy", "size", "pixels"),
    [
        (WindowPolicy(mode="whole"), (40, 56), 40 * 56),
        (WindowPolicy(crop=(20, 20), stride=(20, 20)), (40, 60), 6 * 400),
        # Windows at 0, 15 and 20 down, one of the crop's own size across.
        (WindowPolicy(crop=(20, 20), stride=(15, 15)), (40, 20), 3 * 400),
        (WindowPolicy(mode="whole", img_size=20), (40, 60), 20 * 30),
        (WindowPolicy(mode="whole", tta=TtaPolicy(scales=(1.0, 2.0))), (40, 60), 2 * (2400 + 4 * 2400)),
    ],
)
def test_scored_pixels_by_hand(policy: WindowPolicy, size: tuple[int, int], pixels: int) -> None:
    assert policy.scored_pixels(size) == pixels


def _trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Trainer:
    """The trainer that ``train`` builds, caught before it would run."""
    data = tmp_path / "data"
    if not data.exists():
        write_tiny_dataset(data, {"train": 2, "val": 3})
    caught: list[Trainer] = []

    class Caught(Exception):
        pass

    def catch(trainer: Trainer, *arguments: object) -> float:
        caught.append(trainer)
        raise Caught

    with monkeypatch.context() as patch:
        patch.setattr(train, "estimate_time", catch)
        with pytest.raises(Caught):
            train.train(load_config(tiny_settings(data, tmp_path / "run", *more)), Console(quiet=True))
    assert isinstance(caught[0].accelerator, Accelerator) and isinstance(caught[0].val_data, EvaluationDataset)
    return caught[0]


def test_time_of_the_steps_and_windows_that_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["scheduler.total_iter=10", "eval.eval_interval=4", "train.accumulation_steps=3"]
    trainer = _trainer(tmp_path, monkeypatch, *settings, "eval.crop_size=32", "eval.stride=32")
    # Two seconds forward, five in all, for a batch of two crops of 32 x 32.
    monkeypatch.setattr(plan, "_probe", lambda trainer, training: (2.0, 5.0))
    # Windows of 32 x 32 over an image of 40 x 56: two by two. Evaluations at 4, 8 and 10, of three images each.
    evaluation = 3 * 4 * 1.0
    assert plan.estimate_time(trainer).seconds == pytest.approx(10 * 3 * 5.0 + 3 * evaluation)
    trainer.progress.step = trainer.progress.evaluated_step = 8
    assert plan.estimate_time(trainer).seconds == pytest.approx(2 * 3 * 5.0 + 1 * evaluation)
    trainer.config = with_changes(trainer.config, {"eval.max_val_samples": 2})
    assert plan.estimate_time(trainer).seconds == pytest.approx(2 * 3 * 5.0 + 1 * evaluation * 2 / 3)


def test_the_probe_runs_in_training_mode_and_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(tmp_path, monkeypatch, "model.mode=lora")
    before = {name: value.clone() for name, value in trainer.segmenter.state_dict().items()}
    modes: list[bool] = []
    trainer.segmenter.head.register_forward_hook(lambda module, *rest: modes.append(module.training))
    assert plan.estimate_time(trainer).seconds > 0
    assert modes == [True, True]
    after = trainer.segmenter.state_dict()
    assert not [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert all(parameter.grad is None for parameter in trainer.segmenter.parameters())


@pytest.mark.parametrize(
    "more", [["transforms.train.crop_size=8"], ["decoder_head.type=m2f", "decoder_head.hidden_dim=32"]]
)
def test_a_batch_norm_with_one_value_names_the_keys_to_raise(more: list[str], tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1})
    settings = [entry for entry in tiny_settings(data, tmp_path / "run", *more) if not entry.startswith("bs=")]
    with pytest.raises(ValueError, match=r"bs=1 with transforms.train.crop_size=.* raise bs or transforms.train.crop"):
        train.train(load_config([*settings, "bs=1"]), Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_who_takes_the_default_on_a_slow_machine_is_told_of_shorter_trainings() -> None:
    slow, default = Estimate(step_seconds=6.0, steps=40_000), load_config(["datasets.root=x"])
    assert "minutes=20 plans a training that is done by then" in "".join(plan._too_long(default, slow, False))
    assert plan._too_long(default, Estimate(step_seconds=0.1, steps=40_000), False) == []
    assert plan._too_long(with_changes(default, {"scheduler.total_iter": 50_000}), slow, False) == []
    # What --resume and folds would refuse is not advised.
    assert plan._too_long(default, slow, True) == []
    folds = with_changes(default, {"datasets.folds": 5})
    assert plan._too_long(folds, slow, False) == ["             scheduler.total_iter=2000 is fewer steps"]
