"""Parquet folders from check to predict: counts and label maps against numpy."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.image_tables import squares, write_table
from helpers.tiny import run_cli, tiny_settings
from helpers.volume_files import ball, write_volume
from PIL import Image

from dinoseg.inference.files import list_inputs

CHEAP = ("scheduler.total_iter=2", "eval.crop_size=32", "eval.num_visualizations=0", "trackers=[]")


def test_tables_are_checked_trained_on_evaluated_and_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, val = tmp_path / "data", squares(2, 2)
    write_table(root / "data" / "train-00000-of-00001.parquet", squares(3, 1))
    write_table(root / "data" / "validation-00000-of-00001.parquet", val, ["a.png", "b.png"])
    (root / "README.md").write_text("---\nid2label:\n  0: ground\n  1: box\n  2: lid\n---\n")
    assert run_cli(["check", f"datasets.root={root}", "--json"], monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert run_cli(["train", *tiny_settings(root, tmp_path / "run", *CHEAP)], monkeypatch) == 0
    assert run_cli(["eval", tmp_path / "run"], monkeypatch) == 0
    metrics = json.loads((tmp_path / "run" / "eval" / "val" / "metrics.json").read_text())
    assert [row["name"] for row in metrics["per_class"]] == ["ground", "box", "lid"]
    assert run_cli(["predict", tmp_path / "run", root, "--out", tmp_path / "out"], monkeypatch) == 0
    found = np.stack([np.asarray(Image.open(tmp_path / "out" / "labels" / f"{name}.png")) for name in "ab"])
    truth = np.stack([mask for _, mask in val])
    assert [row["truth"] for row in metrics["per_class"]] == np.bincount(truth.ravel(), minlength=3).tolist()
    both = [int(((found == c) & (truth == c)).sum()) for c in range(3)]
    assert [row["intersection"] for row in metrics["per_class"]] == both
    labels = sorted(path.name for path in (tmp_path / "out" / "labels").iterdir())
    assert labels == ["a.png", "b.png", "train_00000.png", "train_00001.png", "train_00002.png"]
    capsys.readouterr()
    file = root / "data" / "validation-00000-of-00001.parquet"
    assert run_cli(["predict", tmp_path / "run", file, "--out", tmp_path / "out"], monkeypatch) == 0
    assert "0 predicted, 2 already there" in capsys.readouterr().out
    assert (
        run_cli(["predict", tmp_path / "run", f"{file.parent}/val*.parquet", "--out", tmp_path / "out"], monkeypatch)
        == 0
    )
    assert "0 predicted, 2 already there" in capsys.readouterr().out
    # A run that was trained on pictures takes the slices of a volume for such.
    volume = write_volume(tmp_path / "v.nii", ball((12, 10, 3))[0])
    assert run_cli(["predict", tmp_path / "run", volume, file, "--out", tmp_path / "both"], monkeypatch) == 0
    written = {path.name for path in (tmp_path / "both" / "labels").iterdir()}
    assert written == {"a.png", "b.png", "v.nii.gz"}


def test_tables_beside_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    table = write_table(folder / "data" / "val-0.parquet", squares(2, 1), ["x.png", "y.png"])
    (folder / "a.png").touch()
    said = r"mixed: its image files are taken, and the parquet files beside them left out \(data/val-0\.parquet\); give"
    with pytest.warns(UserWarning, match=said):
        assert [image.name for image in list_inputs([str(folder)])] == ["a"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [image.name for image in list_inputs([str(folder), str(table)])] == ["a", "x", "y"]
        assert [image.name for image in list_inputs([str(table.parent)])] == ["x", "y"]
