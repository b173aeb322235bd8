"""The main job through the command line on tiny data; a user's mistakes: one message, no half files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings, train_tiny_run, write_tiny_dataset
from PIL import Image

import dinoseg


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and a finished run on it."""
    return train_tiny_run(
        tmp_path_factory, {"train": 4, "val": 3, "test": 2}, "datasets.classes={0: back, 1: red, 2: green}"
    )


def test_a_run_folder_holds_what_the_design_names(finished: tuple[Path, Path]) -> None:
    _, run = finished
    there = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    expected = {"config.yaml", "labels.json", "metrics.jsonl", "train.log", "eval/val/metrics.json"}
    expected |= {"eval/val/per_class.csv", "eval/val/confusion.csv"}
    expected |= {
        f"checkpoints/{name}/{file}" for name in ("last", "best") for file in ("model.safetensors", "trainer.pt")
    }
    expected |= {f"overlays/val/val_{number}.png" for number in range(3)}
    assert expected <= there
    assert not [name for name in there if ".new" in name]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4]
    # Once each interval and once at the end, never twice at one step.
    assert [line["step"] for line in lines if line["kind"] == "val"] == [2, 4]


def test_eval_writes_the_figures_of_a_split(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    assert metrics["policy"]["images"] == 2
    assert [row["name"] for row in metrics["per_class"]] == ["back", "red", "green"]
    truth = sum(
        np.bincount(np.asarray(Image.open(file)).ravel(), minlength=3) for file in (data / "test/masks").iterdir()
    )
    assert [row["truth"] for row in metrics["per_class"]] == truth.tolist()
    assert f"{metrics['mIoU']:.2f}" in printed


def test_predict_writes_label_ids_at_native_size(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    assert run_cli(["predict", run, data / "test" / "images", "--out", tmp_path / "out"], monkeypatch) == 0
    summary = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(summary["labels"]) == 2
    for name in ("test_0", "test_1"):
        written = np.asarray(Image.open(tmp_path / "out" / "labels" / f"{name}.png"))
        through_api = dinoseg.load(run).predict(data / "test" / "images" / f"{name}.png")
        np.testing.assert_array_equal(written, through_api.labels)
        assert written.shape == (40, 56)
        assert Image.open(tmp_path / "out" / "overlays" / f"{name}.png").size[0] >= 56


def test_an_unreadable_image_is_reported_and_the_others_go_on(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    (tmp_path / "in").mkdir()
    good = (data / "test" / "images" / "test_0.png").read_bytes()
    (tmp_path / "in" / "good.png").write_bytes(good)
    (tmp_path / "in" / "broken.png").write_bytes(good[:200])
    assert run_cli(["predict", run, tmp_path / "in", "--out", tmp_path / "out"], monkeypatch) == 1
    output = capsys.readouterr()
    assert "1 predicted, 1 failed" in output.out
    assert "broken.png" in output.err
    written = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert written == ["labels/good.png", "overlays/good.png", "predictions.json"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "bss=2"], ["bss", "did you mean 'bs'"]),
        (["train", "bz=2"], ["unknown key 'bz'", "did you mean 'bs'?"]),
        (["train", "--bs", "4"], ["--bs", "write bs=4"]),
        (["train", "--batch-size", "4"], ["--batch-size", "write bs=4"]),
        (["train", "--epochs=9"], ["--epochs", "write scheduler.total_iter=STEPS", "not epochs"]),
        (["eval", "runs:b:"], ["runs:b:: no such folder"]),
        (
            ["train", "datasets.root=x", "datasets.ignore=[7,", "255]"],
            ["datasets.ignore=[7, ends in the middle", "quotes"],
        ),
        (["check", "datasets.classes={0:", "a,", "1:", "b}"], ["datasets.classes={0: ends in the middle", "quotes"]),
        (["eval", "nowhere", "datasets.ignore=[7,", "255]"], ["datasets.ignore=[7, ends in the middle", "quotes"]),
        (["check", "datasets.root", "=x"], ["datasets.root =x: write datasets.root=x, without spaces around ="]),
        (["predict", "nowhere", "datasets.root", "=", "x"], ["datasets.root =: write datasets.root=x, without"]),
        (["check", "datasets.root=", "x"], ["datasets.root= x: write datasets.root=x, without a space behind ="]),
        (["check", "/"], ["/: a folder, where key=value is wanted; write datasets.root=/ if it holds the data"]),
        (["eval", "nowhere", "test"], ["test: neither a run nor key=value; write --split test"]),
        (["report", "nowhere", "test"], ["write --split test"]),
        (["train", "--crop-size=64"], ["--crop-size", "write transforms.train.crop_size=64"]),
        (["train", "model.dino_hub=dinov3_vits17"], ["datasets.root"]),
        (["eval", "nowhere"], ["nowhere", "no such folder"]),
        (["predict", "nowhere", "missing.png"], ["missing.png", "no such file or folder"]),
        (["train", "--resume", "output_dir=nowhere"], ["nowhere", "nothing to resume"]),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str],
    parts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(arguments, monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    for part in parts:
        assert part in error
    assert not list(tmp_path.iterdir())


def test_an_option_that_goes_on_is_no_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["predict", "nowhere", "a.png", "--output", "p"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert "--out" in said.replace("--output", "") and "output_dir" not in said


def test_labels_of_a_run_are_fixed_and_worker_errors_are_plain(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = finished
    assert run_cli(["eval", run, "eval.reduce_zero_label=true"], monkeypatch) == 1
    assert "label space of a run is fixed" in capsys.readouterr().err
    other = write_tiny_dataset(tmp_path / "other", {"test": 1}, classes=4)
    assert run_cli(["eval", run, "--split", "test", f"datasets.root={other}", "num_workers=1"], monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "test_0.png" in error and "Traceback" not in error
    (other / "test" / "masks" / "test_0.png").unlink()
    assert run_cli(["eval", run, "--split", "test", f"datasets.root={other}"], monkeypatch) == 1
    assert "have no mask" in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["--debug", "train", "bss=2"], monkeypatch) == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_lists_every_key_with_its_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_cli(["train", "--help-all"], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "m2f_train.num_points" in printed and "12544" in printed
    assert "datasets.reduce_zero_label" in printed


def test_a_second_training_into_the_same_folder_is_refused(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    before = (run / "config.yaml").read_bytes()
    assert run_cli(["train", *tiny_settings(data, run)], monkeypatch) == 1
    assert "add --resume" in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before


def test_a_mask_of_another_size_is_named(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    (tmp_path / "masks").mkdir()
    Image.new("L", (10, 10)).save(tmp_path / "masks" / "test_0.png")
    image = data / "test" / "images" / "test_0.png"
    out = tmp_path / "out"
    assert run_cli(["predict", run, image, "--out", out, "--mask-ignored", tmp_path / "masks"], monkeypatch) == 1
    assert "10 x 10" in capsys.readouterr().err
    assert not (out / "labels").exists()


@pytest.mark.parametrize("verb", ["train", "predict"])
def test_a_mapping_longer_than_a_file_name_is_a_setting(
    finished: tuple[Path, Path], verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    classes = ", ".join(f"{number}: class number {number}" for number in range(60))
    paths = [run, data / "test" / "images"] if verb == "predict" else []
    assert run_cli([verb, *paths, f"datasets.clases={{{classes}}}"], monkeypatch) == 1
    assert "did you mean 'datasets.classes'?" in capsys.readouterr().err


def test_a_demo_overwrites_no_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run-dense").mkdir()
    assert run_cli(["demo", "--out", tmp_path], monkeypatch) == 1
    message = f"error: {tmp_path / 'run-dense'}: a demo ran here already; remove it, or give another folder with --out"
    assert capsys.readouterr().err.replace("\n", " ").strip() == message


@pytest.mark.parametrize("verb", ["check", "train", "eval", "predict", "report", "export"])
def test_help_answers_at_once_and_is_never_cut(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for flag in ("--help", "--help-all"):
        assert run_cli([verb, flag], monkeypatch) == 0
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed
    assert "eval.absent_classes=skip_empty" in printed or verb in ("check", "predict", "export")


def test_help_and_version_do_not_wait_for_pytorch() -> None:
    code = (
        "import sys; sys.argv[1:] = ['train', '--help']\n"
        "from dinoseg import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_version_and_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["--version"], monkeypatch) == 0
    assert capsys.readouterr().out == f"dinoseg {dinoseg.__version__}\n"
    assert run_cli(["options", "stride"], monkeypatch) == 0
    assert "eval.stride=null" in capsys.readouterr().out
    assert run_cli(["options", "nonsense"], monkeypatch) == 1
    assert "no option has 'nonsense'" in capsys.readouterr().err
