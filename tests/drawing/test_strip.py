"""Pictures of validation images: the latest, and on request those of each evaluation."""

from pathlib import Path

import pytest
from helpers.tiny import tiny_settings, write_tiny_dataset
from PIL import Image
from rich.console import Console

from dinoseg.config.loading import load_config
from dinoseg.verbs.train import train


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("keep", [False, True])
def test_pictures_of_each_evaluation_are_kept_on_request(keep: bool, tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 3})
    more = [f"eval.keep_overlays={str(keep).lower()}", "eval.num_visualizations=2", "trackers=[]"]
    run = train(load_config(tiny_settings(data, tmp_path / "run", *more)), Console(quiet=True))
    pictures = sorted(path.relative_to(run.overlays / "val").as_posix() for path in run.overlays.rglob("*.png"))
    latest = ["val_0.png", "val_2.png"]
    kept = [f"step_{step:06}/{name}" for step in (2, 4) for name in latest]
    assert pictures == sorted(latest + (kept if keep else []))
    if keep:
        last, first = (Image.open(run.overlays / "val" / path).tobytes() for path in ("val_0.png", kept[0]))
        assert last == Image.open(run.overlays_of_step(4) / "val_0.png").tobytes() and last != first
        assert [step for step, _ in run.kept_overlays()] == [2, 4]
