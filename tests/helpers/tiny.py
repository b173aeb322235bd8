"""Tiny data sets and settings that several tests use."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dinoseg import cli
from dinoseg.backbone import build_backbone

# Of evaluation: a tiny picture needs several.
WINDOWS = ["eval.crop_size=32", "eval.stride=20"]
COLOURS = np.array([[20, 20, 20], [220, 60, 40], [40, 200, 60], [60, 80, 230]], dtype=np.uint8)


def write_tiny_dataset(root: Path, counts: dict[str, int], size: tuple[int, int] = (40, 56), classes: int = 3) -> Path:
    """Pictures of coloured rectangles whose colour tells the label id, with noise; odd names, one folder a split."""
    generator = np.random.default_rng(7)
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            mask = np.zeros(size, dtype=np.uint8)
            for label_id in range(1, classes):
                top, left = generator.integers(0, size[0] - 16), generator.integers(0, size[1] - 16)
                mask[top : top + 16, left : left + 16] = label_id
            noise = generator.integers(-15, 16, (*size, 3))
            image = np.clip(COLOURS[mask].astype(int) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{split}_{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{split}_{number}.png")
    return root


def tiny_settings(root: Path, run: Path, *more: str) -> list[str]:
    """A training of seconds on the tiny data set: random tiny backbone, few steps."""
    return [
        f"datasets.root={root}",
        f"output_dir={run}",
        "model.dino_hub=tiny_vit8",
        "model.weights=none",
        "bs=2",
        "num_workers=0",
        "transforms.train.crop_size=32",
        "transforms.train.random_img_size_ratio_range=[0.9, 1.1]",
        "scheduler.total_iter=4",
        "eval.eval_interval=2",
        "train.log_interval=1",
        "device=cpu",
        *more,
    ]


def save_tiny_weights(folder: Path) -> Path:
    """A file of weights of the tiny backbone: what a frozen base is loaded from."""
    torch.manual_seed(5)
    path = folder / "tiny.safetensors"
    save_file(build_backbone("tiny_vit8", "none").model.state_dict(), path)
    return path


def train_tiny_run(factory: pytest.TempPathFactory, counts: dict[str, int], *more: str) -> tuple[Path, Path]:
    """A data set and a finished run on it."""
    base = factory.mktemp("finished")
    data = write_tiny_dataset(base / "data", counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        assert run_cli(["train", *tiny_settings(data, base / "run", *more)], patch) == 0
    return data, base / "run"


def run_cli(arguments: Sequence[str | Path], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of ``dinoseg ARGUMENTS`` run in this process."""
    monkeypatch.setattr(sys, "argv", ["dinoseg", *(str(argument) for argument in arguments)])
    # No pytest.raises, which would keep all that the command held, data loading processes included.
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    pytest.fail("the command line did not end")
