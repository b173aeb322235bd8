"""What an evaluation writes: every figure with its policy and its interval, whole or not at all."""

import csv
import io
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.another_process import code_at_end, start_cli, wait_until
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image
from rich.console import Console

from dinoseg.config import EvalConfig
from dinoseg.console.evaluation_table import evaluation_table
from dinoseg.evaluation.bootstrap import bootstrap_intervals
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation, write_evaluation
from dinoseg.evaluation.measures import STANDARD_MEASURES, Measures, build_measures
from dinoseg.labels import LabelClass, LabelSpace

SPACE = LabelSpace("ids", tuple(LabelClass(name, (i,), (i, 0, 0)) for i, name in enumerate(("back", "line"))), (255,))
POLICY = {"images": 3, "images_available": 7, "resolution": "native"}


def image(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth of a picture with a line across it, the prediction with a gap, some of the truth ignored."""
    truth = torch.zeros(24, 32, dtype=torch.int64)
    truth[10:14] = 1
    prediction = truth.clone()
    prediction[:, 4 * seed + 4 : 4 * seed + 8] = 0
    truth[20:] = 255
    return prediction, truth


def evaluated(measures: Measures = STANDARD_MEASURES, images: int = 3) -> Evaluation:
    counts = Counts.empty(images, 2, measures)
    for row in range(images):
        counts.count(row, *image(row), 255, measures)
    return Evaluation(counts, ("a", "b", "c")[:images], POLICY | {"images": images}, SPACE, measures)


def printed(contents: dict[str, Any], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(evaluation_table(contents, "val"))
    return " ".join(capture.get().split())


def test_confidence_is_in_metrics_json_per_class_csv_and_the_table(tmp_path: Path) -> None:
    evaluation = evaluated()
    write_evaluation(evaluation, tmp_path, {})
    contents = json.loads((tmp_path / "metrics.json").read_text())
    expected = bootstrap_intervals(evaluation.image_counts.numpy())
    assert expected.miou is not None and expected.iou[1] is not None
    assert contents["confidence"] == {"coverage": 95, "resamples": 1000, "mIoU": list(expected.miou)}
    assert contents["per_class"][1]["IoU_interval"] == list(expected.iou[1])
    with (tmp_path / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[1][key]) for key in ("IoU_lower", "IoU_upper")] == list(expected.iou[1])
    text = printed(contents)
    assert "95 % interval {:.2f} to {:.2f}".format(*expected.miou) in text
    assert "{:.1f}-{:.1f}".format(*expected.iou[1]) in text


def test_one_image_has_no_interval(tmp_path: Path) -> None:
    write_evaluation(evaluated(images=1), tmp_path, {})
    contents = json.loads((tmp_path / "metrics.json").read_text())
    assert contents["confidence"]["mIoU"] is None and contents["per_class"][0]["IoU_interval"] is None
    assert "interval" not in printed(contents)
    header, *rows = (tmp_path / "per_class.csv").read_text().splitlines()
    assert header.endswith("IoU_lower,IoU_upper") and all(row.endswith(",,") for row in rows)


def test_no_figure_is_cut_at_80_columns_with_every_optional_one() -> None:
    contents = evaluated(Measures(boundary_width=0.05, thin_classes=(0, 1))).to_dict()
    for row, pixels in zip(contents["per_class"], (987_654, 12_345_678), strict=True):
        row |= dict.fromkeys(("IoU", "Dice", "precision", "recall", "BoundaryIoU", "clDice"), 100.0)
        row |= {"IoU_interval": [98.7, 100.0], "truth": pixels}
    lines = printed(contents, width=80)
    for name, pixels in (("back", "987,654"), ("line", "12.35 M")):
        assert f"{name} 100.00 98.7-100.0 100.00 100.00 100.00 100.00 100.00 {pixels}" in lines


def test_boundary_iou_and_cldice_come_on_request_with_their_rules() -> None:
    contents = evaluated(Measures(boundary_width=0.05, thin_classes=(1,))).to_dict()
    back, line = contents["per_class"]
    assert 0 < line["BoundaryIoU"] < 100 and contents["mBoundaryIoU"] == np.mean(
        [r["BoundaryIoU"] for r in (back, line)]
    )
    # A gap of 4 of 32 pixels in each of three lines; what is predicted lies on the line.
    assert back["clDice"] is None and 90 < line["clDice"] < 97 and contents["mclDice"] == line["clDice"]
    assert contents["policy"]["boundary_width"] == 0.05 and contents["policy"]["cldice"] == ["line"]
    text = printed(contents)
    assert f"{line['BoundaryIoU']:.2f}" in text and f"{line['clDice']:.2f}" in text
    plain = evaluated().to_dict()
    assert not {"mBoundaryIoU", "mclDice"} & set(plain) and "clDice" not in plain["per_class"][0]
    assert not {"boundary_width", "cldice"} & set(plain["policy"])


@pytest.mark.parametrize("absent", ["skip_empty", "skip_absent", "zero"])
def test_the_policy_for_absent_classes_and_beta_are_chosen_and_named(absent: Any) -> None:
    counts = Counts.empty(2, 2, Measures(boundary_width=0.02, thin_classes=(0, 1)))
    measures = Measures(absent_classes=absent, beta=2.0, boundary_width=0.02, thin_classes=(0, 1))
    for row in range(2):
        truth = torch.zeros(16, 16, dtype=torch.int64)
        counts.count(row, truth, truth, 255, measures)
    contents = Evaluation(counts, ("a", "b"), POLICY, SPACE, measures).to_dict()
    mean = 50.0 if absent == "zero" else 100.0
    assert {contents[name] for name in ("mIoU", "mBoundaryIoU", "mclDice")} == {mean}
    assert contents["confidence"]["mIoU"] == [mean, mean]
    assert contents["mIoU_by_policy"] == {"skip_empty": 100.0, "skip_absent": 100.0, "zero": 50.0}
    assert contents["policy"]["absent_classes"] == absent and contents["policy"]["beta"] == 2.0
    text = printed(contents)
    assert f"mIoU {mean:.2f} ({absent}, 95 %" in text
    assert ("100.00 (skip_empty), 100.00 (skip_absent)" if absent == "zero" else "50.00 (zero)") in text
    assert ("n/a" in text) == (absent != "zero")


def test_a_subset_is_stated_in_the_table() -> None:
    assert "3 of 7 images: an evenly spread, fixed subset (eval.max_val_samples)" in printed(evaluated().to_dict())


def test_counts_add_up_and_come_back_from_a_file(tmp_path: Path) -> None:
    measures = Measures(boundary_width=0.05, thin_classes=(1,))
    whole = evaluated(measures).counts.to_arrays()
    parts = [Counts.empty(3, 2, measures) for _ in range(2)]
    for row in range(3):
        parts[row % 2].count(row, *image(row), 255, measures)
    np.savez(tmp_path / "part.npz", names=np.array(["a"]), **parts[1].to_arrays())
    with np.load(tmp_path / "part.npz") as content:
        total = (parts[0] + Counts.from_arrays(dict(content))).to_arrays()
    assert list(total) == list(whole) == ["matrix", "image_counts", "boundary", "skeleton"]
    for name, values in whole.items():
        assert values.any()
        np.testing.assert_array_equal(total[name], values)
    with pytest.raises(ValueError, match=r"do not add up: matrix \(2, 2\), .*boundary"):
        parts[0] + Counts.empty(3, 2, STANDARD_MEASURES)


def test_wrong_options_name_their_key() -> None:
    with pytest.raises(ValueError, match=r"eval\.cldice=\['vein'\]: no class is named 'vein'; choose from back, line"):
        build_measures(EvalConfig(cldice=["vein"]), SPACE)


def test_an_interrupted_write_leaves_no_metrics_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_evaluation(evaluated(), tmp_path, {})
    monkeypatch.setattr(np, "savez_compressed", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        write_evaluation(evaluated(images=1), tmp_path, {})
    # The other files may be of either evaluation: no metrics.json vouches for them.
    assert not (tmp_path / "metrics.json").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set with 60 test images and a run that saw a subset of its validation images."""
    base = tmp_path_factory.mktemp("evaluate")
    data = write_tiny_dataset(base / "data", {"train": 4, "val": 5, "test": 1})
    for kind in ("images", "masks"):
        for number in range(1, 60):
            os.link(data / "test" / kind / "test_0.png", data / "test" / kind / f"test_{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        more = ("datasets.classes={0: back, 1: red, 2: green}", "eval.max_val_samples=2", "eval.num_visualizations=0")
        more += ("eval.cldice=[red]", "eval.boundary_iou=true")
        assert run_cli(["train", *tiny_settings(data, base / "run", *more)], patch) == 0
    return data, base / "run"


def test_validation_states_its_subset_everywhere(finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = finished
    contents = json.loads((run / "eval/val/metrics.json").read_text())
    assert (contents["policy"]["images"], contents["policy"]["images_available"]) == (2, 5)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    val = [line for line in lines if line["kind"] == "val"]
    assert val and all((line["images"], line["images_available"]) == (2, 5) for line in val)
    assert all(line["absent_classes"] == "skip_empty" and isinstance(line["mclDice"], float) for line in val)
    assert "2 of 5 images: an evenly spread, fixed subset" in (run / "train.log").read_text()
    assert run_cli(["report", run, "--max-images", "0"], monkeypatch) == 0
    page = (run / "report.html").read_text()
    assert "2 of 5 images: an evenly spread, fixed subset (eval.max_val_samples)." in page
    assert "Boundary IoU in bands of 2 % of the image diagonal." in page and "clDice of red." in page
    assert "{:.2f} to {:.2f}".format(*contents["confidence"]["mIoU"]) in page


def test_a_killed_evaluation_leaves_nothing_that_counts(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    # Many small windows: there is time to kill it.
    command = ["eval", run, "--split", "test", "eval.crop_size=16", "eval.stride=8", "eval.batch_size=1"]
    printed = tmp_path / "printed"
    # The bar is drawn for a terminal: it says when the first images are done.
    with monkeypatch.context() as patch:
        for name, value in {"FORCE_COLOR": "1", "COLUMNS": "120", "TERM": "xterm"}.items():
            patch.setenv(name, value)
        process = start_cli(command, printed)
    wait_until(lambda: re.search(r"\b[1-9]\d*/60", printed.read_text()), process)
    process.kill()
    assert code_at_end(process) == -signal.SIGKILL, printed.read_text()
    folder = run / "eval" / "test"
    assert not (folder / "metrics.json").exists()
    assert run_cli(["report", run, "--split", "test"], monkeypatch) == 1
    assert "not evaluated yet" in capsys.readouterr().err
    # What a kill while writing leaves: some files of the new evaluation, half a file under its temporary name.
    folder.mkdir(exist_ok=True)
    shutil.copy(run / "eval" / "val" / "per_image.npz", folder)
    (folder / ".metrics.new.json").write_text('{"mIoU": 3')
    assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
    contents = json.loads((folder / "metrics.json").read_text())
    mask = np.asarray(Image.open(data / "test" / "masks" / "test_0.png"))
    assert contents["policy"]["images"] == 60
    assert [row["truth"] for row in contents["per_class"]] == (60 * np.bincount(mask.ravel(), minlength=3)).tolist()
    with np.load(folder / "per_image.npz") as images:
        assert len(images["names"]) == 60 and images["boundary"].shape == (60, 2, 3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.csv",
        "metrics.json",
        "per_class.csv",
        "per_image.npz",
    ]
