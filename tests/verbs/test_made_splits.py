"""A run keeps the splits that were made for it, whatever is added to the data later."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images and masks in one folder each, of no split."""
    write_tiny_dataset(tmp_path / "made", {"all": 12})
    return (tmp_path / "made" / "all").rename(tmp_path / "data")


def test_a_run_records_its_splits_and_keeps_to_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = tiny_settings(data, run, "datasets.split=50/25/25", "decoder_head.type=linear")
    assert run_cli(["train", *settings], monkeypatch) == 0
    assert "split 50/25/25 by hash of the names: train" in capsys.readouterr().out
    recorded = json.loads((run / "splits.json").read_text())
    assert sorted(name for names in recorded.values() for name in names) == sorted(
        f"images/{p.name}" for p in (data / "images").iterdir()
    )
    # Half of all names would now fall otherwise, were they asked again; a class that is new would move others.
    for number in range(12):
        for kind in ("images", "masks"):
            shutil.copy(data / kind / f"all_{number}.png", data / kind / f"later_{number}.png")
    assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
    names = json.loads((run / "eval" / "test" / "metrics.json").read_text())["policy"]["images"]
    assert names == len(recorded["test"])
    assert run_cli(["train", run, "--resume", "previous"], monkeypatch) == 0
    assert json.loads((run / "splits.json").read_text()) == recorded
    assert run_cli(["report", run, "--split", "test", "--max-images", "1"], monkeypatch) == 0


def test_a_run_on_the_splits_of_another(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_cli(["train", *tiny_settings(data, first), "datasets.split_seed=4"], monkeypatch) == 0
    given = f"datasets.split={first}/splits.json"
    assert run_cli(["train", *tiny_settings(data, second), given], monkeypatch) == 0
    assert not (second / "splits.json").exists()
    assert run_cli(["eval", second], monkeypatch) == 0
    counted = json.loads((second / "eval" / "val" / "metrics.json").read_text())["policy"]["images"]
    assert counted == len(json.loads((first / "splits.json").read_text())["val"])


def test_data_with_splits_of_its_own_leaves_none_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1})
    assert run_cli(["train", *tiny_settings(data, tmp_path / "run")], monkeypatch) == 0
    assert not (tmp_path / "run" / "splits.json").exists()


def test_a_run_whose_validation_was_held_out_of_train_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that train and test share are told apart by their folders."""
    data = write_tiny_dataset(tmp_path / "data", {"train": 6, "test": 2})
    for kind in ("images", "masks"):
        (data / "test" / kind / "test_0.png").rename(data / "test" / kind / "train_0.png")
    run = tmp_path / "run"
    assert run_cli(["train", *tiny_settings(data, run)], monkeypatch) == 0
    recorded = json.loads((run / "splits.json").read_text())
    assert sorted(recorded) == ["test", "train", "val"]
    assert run_cli(["train", run, "--resume", "previous"], monkeypatch) == 0
    for split in ("val", "test"):
        assert run_cli(["eval", run, "--split", split], monkeypatch) == 0
        counted = json.loads((run / "eval" / split / "metrics.json").read_text())["policy"]["images"]
        assert counted == len(recorded[split])
