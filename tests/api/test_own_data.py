"""Training and evaluation on a user's own data set are those on the same files."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_settings, train_tiny_run
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch.utils.data import Dataset

import dinoseg
from dinoseg.training.loop import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")


class Own(Dataset):
    """Images and masks of one folder, in memory."""

    def __init__(self, folder: Path, form: str = "arrays", most: int | None = None) -> None:
        self.form = form
        names = sorted(path.name for path in (folder / "images").iterdir())[:most]
        self.items = [
            tuple(np.array(Image.open(folder / kind / name)) for kind in ("images", "masks")) for name in names
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        image, mask = self.items[index]
        if self.form == "tensors":
            return torch.from_numpy(image), torch.from_numpy(mask).long()
        if self.form == "pictures":
            return {"image": Image.fromarray(image), "mask": Image.fromarray(mask)}
        return image, mask


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and a run on its files."""
    return train_tiny_run(tmp_path_factory, {"train": 4, "val": 3, "test": 2})


def _settings(run: Path, *more: str) -> list[str]:
    return [entry for entry in tiny_settings(Path(), run) if not entry.startswith("datasets.root")] + list(more)


def _weights(run: Any) -> dict[str, torch.Tensor]:
    return load_file(Path(run) / "checkpoints" / "last" / "model.safetensors")


def _train(data: Path, run: Path, *more: str, form: str = "arrays", **options: Any) -> dinoseg.Run:
    own = {"train_data": Own(data / "train", form), "val_data": Own(data / "val", form)}
    return dinoseg.train(_settings(run, *more), **own | options)


@pytest.mark.parametrize("form", ["arrays", "tensors", "pictures"])
def test_training_is_that_on_files(finished: tuple[Path, Path], tmp_path: Path, form: str) -> None:
    data, on_files = finished
    run = _train(data, tmp_path / "run", "num_workers=1", form=form)
    assert run.label_space == dinoseg.Run(on_files).label_space
    ours, theirs = _weights(run), _weights(on_files)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    figures = [line["loss"] for line in run.history if line["kind"] == "train"]
    assert len(figures) == 4
    assert figures == [line["loss"] for line in dinoseg.Run(on_files).history if line["kind"] == "train"]
    assert run.figures()["mIoU"] == dinoseg.Run(on_files).figures()["mIoU"]


def test_resuming_goes_on_bit_for_bit_and_refuses_other_data(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = finished
    short = ("scheduler.type=Constant", "scheduler.total_iter=2")
    whole = _train(data, tmp_path / "whole", "scheduler.type=Constant")
    interrupted = tmp_path / "interrupted"
    step = Trainer._step

    def killed_after_two(self: Trainer, batches: Any) -> None:
        if self.progress.step == 2:
            raise KeyboardInterrupt
        step(self, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", killed_after_two)
        with pytest.raises(KeyboardInterrupt):
            _train(data, interrupted, "scheduler.type=Constant")
    other = Own(data / "train")
    other.items[0][1][0, 0] = 1 - other.items[0][1][0, 0]
    with pytest.raises(ValueError, match=r"train images: .* in the run, .* now"):
        _train(data, interrupted, "scheduler.type=Constant", resume="last", train_data=other)
    with pytest.raises(ValueError, match="cannot go on with another config"):
        _train(data, interrupted, *short, resume="last")
    run = _train(data, interrupted, "scheduler.type=Constant", resume="last")
    assert all(torch.equal(value, _weights(whole)[name]) for name, value in _weights(run).items())


def test_evaluation_is_that_on_files(finished: tuple[Path, Path]) -> None:
    data, run = finished
    on_files = dinoseg.evaluate(run, "test")
    own = dinoseg.evaluate(run, data=Own(data / "test"), overrides={"num_workers": 1})
    assert torch.equal(own.matrix, on_files.matrix)
    assert own.metrics == on_files.metrics
    assert own.names == ("item_00000", "item_00001")
    assert not (run / "eval" / "test").exists()
    dinoseg.evaluate(run, "test", write=True)
    assert json.loads((run / "eval/test/metrics.json").read_text())["mIoU"] == on_files.metrics.means["mIoU"]
    assert dinoseg.Run(run).figures("test")["mIoU"] == on_files.metrics.means["mIoU"]


def test_a_console_shows_what_the_command_shows(finished: tuple[Path, Path], tmp_path: Path, capfd: Any) -> None:
    data, _ = finished
    out = io.StringIO()
    _train(data, tmp_path / "shown", console=Console(file=out, width=120))
    assert "4 train, 3 val" in out.getvalue() and "done: best mIoU" in out.getvalue()
    capfd.readouterr()
    _train(data, tmp_path / "quiet")
    printed = capfd.readouterr()
    assert not printed.out


class Broken(Own):
    """Data that is wrong in one way."""

    def __getitem__(self, index: int) -> Any:
        image, mask = self.items[index]
        if self.form == "random":
            return np.random.default_rng().integers(0, 255, image.shape, dtype=np.uint8), mask
        if self.form == "single":
            return image
        if self.form == "float":
            return image / 255, mask
        if self.form == "sizes":
            return image[:-1], mask
        if self.form == "colours":
            return image, np.stack([mask, mask, mask + 1], axis=-1)
        return image, mask + 40


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("random", r"train_data\[0\]: another image or mask each time"),
        ("single", r"train_data\[0\]: a ndarray; give \(image, mask\)"),
        ("float", r"train_data\[0\]: an array of shape \(40, 56, 3\) and type float64 is no image"),
        ("sizes", r"train_data\[0\] is 56 x 39 but its mask train_data\[0\] mask is 56 x 40"),
        ("colours", r"train_data\[0\] mask: an RGB mask with 3 colours where label ids are expected"),
        ("ids", "label id 4[012] outside the label space"),
    ],
)
def test_wrong_items_are_named(finished: tuple[Path, Path], tmp_path: Path, form: str, message: str) -> None:
    data, _ = finished
    classes = "datasets.classes={0: back, 1: red, 2: green}"
    with pytest.raises(ValueError, match=message):
        _train(data, tmp_path / "run", classes, train_data=Broken(data / "train", form))
    assert not (tmp_path / "run").exists()


def test_wrong_requests_are_told(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = finished
    own = Own(data / "val")
    with pytest.raises(ValueError, match="val_data is given without train_data; a training needs both"):
        dinoseg.train({}, val_data=own)
    with pytest.raises(ValueError, match=r"datasets\.root=somewhere and data sets of your own are both given"):
        _train(data, tmp_path / "run", "datasets.root=somewhere")
    with pytest.raises(ValueError, match="data holds no item"):
        dinoseg.evaluate(run, data=Own(data / "val", most=0))
    with pytest.raises(ValueError, match="write is for a split of the run's own data"):
        dinoseg.evaluate(run, data=own, write=True)
    with pytest.raises(ValueError, match=r"data\[0\] mask: label id outside the label space: 4"):
        dinoseg.evaluate(run, data=Broken(data / "val", "ids"))
    with pytest.raises(ValueError, match="--split tset: choose train, val, test"):
        dinoseg.evaluate(run, "tset")
