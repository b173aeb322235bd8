"""``dinoseg calibrate``: a temperature from the validation images, used from then on; never from the test images."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import run_cli, tiny_settings, train_tiny_run
from helpers.two_processes import in_two_processes
from PIL import Image
from rich.console import Console

import dinoseg
from dinoseg.console.policy_words import policy_in_words
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.least_patches import PatchCounts
from dinoseg.evaluation.temperature import mean_surprise
from dinoseg.inference.chosen_runs import choose_runs
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.small_patches import absorb_small_patches
from dinoseg.run_folder.calibration_file import CalibrationFile, CalibrationRecord, LeastPatches
from dinoseg.verbs import calibrate
from dinoseg.verbs.calibrate import calibrate_run
from dinoseg.verbs.evaluate import evaluate_split

pytestmark = pytest.mark.filterwarnings("ignore:.*random")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_tiny_run(
        tmp_path_factory,
        {"train": 2, "val": 3, "test": 2},
        "datasets.classes={0: back, 1: red}",
        "datasets.ignore=[2, 255]",
    )


@pytest.fixture
def run(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(trained[1], tmp_path / "run")


def _calibration(run: Path) -> CalibrationRecord:
    found = CalibrationFile(run / "calibration.json").read("nothing")
    assert found is not None
    return found


def _figures(run: Path, split: str = "val") -> dict[str, Any]:
    return json.loads((run / "eval" / split / "metrics.json").read_text())


def _write(run: Path, **changes: Any) -> None:
    calibrate_run(ChosenRun(run, device="cpu"), "val", Console(quiet=True))
    contents = json.loads((run / "calibration.json").read_text()) | changes
    (run / "calibration.json").write_text(json.dumps(contents))


def test_from_training_to_figures(
    run: Path, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
    plain, said = _figures(run, "test"), capsys.readouterr().out
    assert "(not calibrated)" in said and plain["calibration"]["uncalibrated"] is None
    assert "temperature" not in plain["policy"]
    assert run_cli(["calibrate", run], monkeypatch) == 0
    said, found = capsys.readouterr().out, _calibration(run)
    assert f"temperature {found.temperature:.4f}, fitted to" in said and "3 images of val" in said
    assert "note: 3 images are few: others may want another temperature" in said
    assert found.fitted_on.split == "val" and found.checkpoint == "best" and found.after.NLL <= found.before.NLL
    assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
    tempered = _figures(run, "test")
    assert tempered["policy"]["temperature"] == found.temperature
    # No class changes, and what was before is stated, too.
    assert tempered["per_class"] == plain["per_class"] and tempered["mIoU"] == plain["mIoU"]
    assert tempered["calibration"]["uncalibrated"]["NLL"] == plain["calibration"]["NLL"]
    assert tempered["calibration"]["NLL"] != plain["calibration"]["NLL"]
    assert run_cli(["report", run, "--split", "test", "--max-images", "0"], monkeypatch) == 0
    page = (run / "report-test.html").read_text()
    assert "without the temperature" in page and 'class="reliability"' in page
    assert f"Probabilities at temperature {found.temperature:.4g} (calibration.json)." in page


def test_the_temperature_is_that_of_the_pixels(run: Path, trained: tuple[Path, Path]) -> None:
    """Every pixel of three small images is taken: found again from what the API says of them."""
    _write(run)
    found = _calibration(run)
    segmenter = dinoseg.load(run, device="cpu")
    assert segmenter.temperatures == (found.temperature,)
    logarithms, truth = [], []
    for path in sorted((trained[0] / "val/images").iterdir()):
        scores = segmenter.scores(path).reshape(2, -1).T
        mask = np.asarray(dinoseg.data.masks.read_mask(trained[0] / "val/masks" / path.name)).reshape(-1)
        logarithms.append(torch.tensor(scores[mask < 2]).log_softmax(dim=1))
        truth.append(torch.tensor(mask[mask < 2].astype(np.int64)))
    values, classes = torch.cat(logarithms), torch.cat(truth)
    assert found.fitted_on.pixels == len(classes)
    grid = np.exp(np.linspace(np.log(found.temperature) - 0.5, np.log(found.temperature) + 0.5, 201))
    losses = [mean_surprise(values, classes, float(t)) for t in grid]
    assert abs(int(np.argmin(losses)) - 100) <= 1
    said = (found.before.NLL, found.after.NLL)
    expected = tuple(mean_surprise(values, classes, temperature) for temperature in (1.0, found.temperature))
    assert said == pytest.approx(expected, abs=1e-5)


def test_two_processes_find_what_one_finds(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "PIXELS", 600)
    _write(run)
    alone = json.loads((run / "calibration.json").read_text())
    (run / "calibration.json").unlink()
    in_two_processes(_calibrate_in_turn, run)
    together = json.loads((run / "calibration.json").read_text())
    assert together.pop("temperature") == pytest.approx(alone.pop("temperature"), rel=1e-6)
    assert together.pop("after")["NLL"] == pytest.approx(alone.pop("after")["NLL"], rel=1e-6)
    assert together == alone and alone["fitted_on"]["pixels"] == 600


def _calibrate_in_turn(rank: int, run: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}
    calibrate_run(ChosenRun(run, device="cpu"), "val", Console(quiet=True))
    torch.distributed.destroy_process_group()


def test_an_ensemble_takes_each_at_its_own(run: Path, trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, other = _train_other(trained[0], tmp_path)
    _write(run, temperature=3.0)
    _write(other, temperature=0.5)
    image = next((trained[0] / "test/images").iterdir())
    both = dinoseg.load([run, other], device="cpu")
    assert both.temperatures == (3.0, 0.5)
    alone = [dinoseg.load(each, device="cpu").scores(image) for each in (run, other)]
    expected = sum(torch.softmax(torch.tensor(s) / t, dim=0) for s, t in zip(alone, (3.0, 0.5), strict=True)) / 2
    result = both.predict(image, probabilities=True)
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities, expected.numpy(), rtol=1e-5, atol=1e-6)
    members = evaluate_split(choose_runs([run, other], device="cpu"), "val", Console(quiet=True)).policy["members"]
    assert [member["temperature"] for member in members] == [3.0, 0.5]
    before = both.fingerprint
    _write(other, temperature=0.6)
    assert dinoseg.load([run, other], device="cpu").fingerprint != before
    assert dinoseg.load(run, device="cpu").fingerprint == dinoseg.load([run], device="cpu").fingerprint


def _train_other(data: Path, base: Path) -> tuple[Path, Path]:
    more = ["datasets.classes={0: back, 1: red}", "datasets.ignore=[2, 255]", "seed=5", "scheduler.total_iter=2"]
    with pytest.MonkeyPatch.context() as patch:
        assert run_cli(["train", *tiny_settings(data, base / "other", *more)], patch) == 0
    return data, base / "other"


def test_the_command_that_is_missing_is_of_the_weights_that_are_used(
    run: Path,
    trained: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pushed, given = tmp_path / "pushed", [trained[0] / "test/images", "eval.tuned=true"]
    assert run_cli(["push", run, "user/tiny", "--dry-run", pushed], monkeypatch) == 0
    exported = f"dinoseg export hf:{pushed} FOLDER && dinoseg calibrate FOLDER datasets.root=DATA"
    for named, more, command in (
        (run, (), f"dinoseg calibrate {run}"),
        (run, ("--checkpoint", "last"), f"dinoseg calibrate {run} --checkpoint last"),
        (f"hf:{pushed}", (), exported),
    ):
        capsys.readouterr()
        assert run_cli(["predict", named, *given, *more], monkeypatch) == 1
        assert f"{named} has no weights of classes; run `{command} --tune dice`" in capsys.readouterr().err


def test_weights_of_classes_are_used_when_asked_for(
    run: Path,
    trained: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = trained[0] / "test/images"
    assert run_cli(["eval", run, "eval.tuned=true"], monkeypatch) == 1
    assert "has no weights of classes; run `dinoseg calibrate" in capsys.readouterr().err
    assert run_cli(["calibrate", run, "--tune", "dice"], monkeypatch) == 0
    tuned = _calibration(run).tuned
    assert tuned is not None and tuned.after > tuned.before and tuned.figure == "Dice"
    named = zip(("back", "red"), tuned.weights, strict=True)
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in named)
    gain = f"mean Dice {tuned.before:.2f} % -> {tuned.after:.2f} % with weights of classes: {weights}; used with"
    assert gain in capsys.readouterr().out
    assert run_cli(["eval", run], monkeypatch) == 0
    plain = _figures(run)
    assert plain["mDice"] == pytest.approx(tuned.before) and "class_weights" not in plain["policy"]
    assert run_cli(["eval", run, "eval.tuned=true"], monkeypatch) == 0
    weighted = _figures(run)
    assert weighted["mDice"] == pytest.approx(tuned.after)
    assert weighted["policy"]["class_weights"] == tuned.model_dump()
    assert run_cli(["predict", run, images, "--out", tmp_path / "out", "eval.tuned=true"], monkeypatch) == 0
    assert json.loads((tmp_path / "out/predictions.json").read_text())["class_weights"] == tuned.model_dump()
    plain_run, tuned_run = (dinoseg.load(run, device="cpu", overrides=more) for more in ((), ("eval.tuned=true",)))
    image = images / "test_0.png"
    result = plain_run.predict(image, probabilities=True)
    assert result.probabilities is not None and plain_run.fingerprint != tuned_run.fingerprint
    expected = (result.probabilities * np.array(tuned.weights, np.float32)[:, None, None]).argmax(axis=0)
    found = tuned_run.predict(image, probabilities=True)
    assert np.array_equal(found.class_map, expected)
    # What decides is another thing than what is probable.
    np.testing.assert_allclose(found.probabilities, result.probabilities, atol=1e-6)
    with pytest.raises(ValueError, match="are of one run alone, and several are given"):
        dinoseg.load([run, trained[1]], overrides=["eval.tuned=true"])
    for option in ("--tune", "--patches"):
        assert run_cli(["calibrate", run, option, "luck"], monkeypatch) == 1
        assert f"{option} luck: choose dice or iou" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "noun"), [("eval.tuned", "weights of classes"), ("eval.least_patches", "least sizes of patches")]
)
def test_what_is_found_for_a_trained_run_is_not_for_training(
    key: str,
    noun: str,
    trained: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = tiny_settings(trained[0], tmp_path / "new", f"{key}=true")
    assert run_cli(["train", *settings], monkeypatch) == 1
    assert f"{noun} are found once a run is trained" in capsys.readouterr().err


def _measured(found: LeastPatches, measured: Evaluation) -> LeastPatches:
    return found.model_copy(update={"after": measured.to_dict()["mIoU"]})


def test_least_sizes_of_patches_are_found_kept_and_used(
    run: Path,
    trained: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = trained[0] / "test/images"
    assert run_cli(["eval", run, "eval.least_patches=true"], monkeypatch) == 1
    assert "has no least sizes of patches; run `dinoseg calibrate" in capsys.readouterr().err
    assert run_cli(["calibrate", run, "--patches", "iou"], monkeypatch) == 0
    assert "mean IoU is best with patches of every size: no least sizes are kept" in capsys.readouterr().out
    assert _calibration(run).least_patches is None
    # Sizes that do change something, whatever they are worth here.
    monkeypatch.setattr(PatchCounts, "best", lambda counts, figure: [0, 1024])
    monkeypatch.setattr(calibrate, "_as_measured", _measured)
    assert run_cli(["calibrate", run, "--patches", "iou"], monkeypatch) == 0
    least = _calibration(run).least_patches
    assert least is not None and least.after != least.before
    assert f"mean IoU {least.before:.2f} % -> {least.after:.2f} % where smaller patches" in capsys.readouterr().out
    assert run_cli(["eval", run], monkeypatch) == 0
    plain = _figures(run)
    assert plain["mIoU"] == pytest.approx(least.before) and "least_patches" not in plain["policy"]
    assert run_cli(["eval", run, "eval.least_patches=true"], monkeypatch) == 0
    assert _figures(run)["mIoU"] == pytest.approx(least.after)
    assert _figures(run)["policy"]["least_patches"] == least.model_dump()
    said = "Patches below least sizes found for mean IoU became what lies around them (eval.least_patches)."
    assert said in policy_in_words(_figures(run)["policy"])
    given = ["eval.least_patches=true"]
    assert run_cli(["predict", run, images, "--out", tmp_path / "out", *given], monkeypatch) == 0
    assert json.loads((tmp_path / "out/predictions.json").read_text())["least_patches"] == least.model_dump()
    plain_run, patched_run = (dinoseg.load(run, device="cpu", overrides=more) for more in ((), given))
    expected = absorb_small_patches(plain_run.predict(images / "test_0.png").class_map, least.pixels)
    np.testing.assert_array_equal(patched_run.predict(images / "test_0.png").class_map, expected)
    assert plain_run.fingerprint != patched_run.fingerprint
    # Sizes are of the maps that they were found for.
    contents = json.loads((run / "calibration.json").read_text())
    contents["tuned"] = {"figure": "IoU", "weights": [1.0, 2.0], "before": 1.0, "after": 2.0}
    (run / "calibration.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=r"were found without weights of classes; give eval\.tuned=false, too, or"):
        dinoseg.load(run, device="cpu", overrides=[*given, "eval.tuned=true"])
    with pytest.raises(ValueError, match="least sizes of patches are of one run alone, and several are given"):
        dinoseg.load([run, trained[1]], overrides=given)
    capsys.readouterr()
    assert run_cli(["calibrate", run], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "note: the least sizes of patches that were found before are gone; --patches iou finds them again" in said


def test_an_export_keeps_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(run, temperature=2.0)
    assert run_cli(["export", run, tmp_path / "exported"], monkeypatch) == 0
    assert dinoseg.load(tmp_path / "exported", device="cpu").temperatures == (2.0,)


def test_other_weights_and_other_windows_are_said(run: Path) -> None:
    _write(run, weights_sha256="0" * 64)
    with pytest.warns(UserWarning, match=r"calibration.json is of other weights .* run `dinoseg calibrate"):
        assert dinoseg.load(run, device="cpu").temperatures == (1.0,)
    _write(run, temperature=2.0)
    with pytest.warns(UserWarning, match="was fitted with other windows, sizes or test-time augmentation"):
        assert dinoseg.load(run, device="cpu", overrides=["eval.use_tta=true"]).temperatures == (2.0,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": 0}, "temperature: 0 found, 0.001 or more"),
        ({"temperature": 1e-300}, "temperature: 1e-300 found, 0.001 or more"),
        ({"temperature": "warm"}, 'temperature: "warm" found, a number expected'),
        ({"fitted_on": {"split": "test", "images": 1, "pixels": 1, "seed": 0}}, "fitted_on.split"),
        ({"window": None}, "window: null found, an object expected"),
    ],
)
def test_a_damaged_file_is_named(run: Path, changes: dict[str, Any], said: str) -> None:
    _write(run, **changes)
    with pytest.raises(ValueError, match=r"calibration\.json") as raised:
        dinoseg.load(run, device="cpu")
    assert said in str(raised.value) and "write it anew with `dinoseg calibrate" in str(raised.value)
    # It does not stand in the way of a new one.
    _write(run)


def test_label_maps_alone_do_not_ask_for_it(
    run: Path,
    trained: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images, out, broken = trained[0] / "test/images", tmp_path / "out", tmp_path / "broken"
    _write(run, temperature=2.0)
    assert run_cli(["predict", run, images, "--out", out], monkeypatch) == 0
    shutil.copytree(run, broken)
    (broken / "calibration.json").write_text("{")
    capsys.readouterr()
    assert run_cli(["predict", broken, images, "--out", out], monkeypatch) == 0
    said = capsys.readouterr()
    assert "0 predicted, 2 already there" in said.out and not said.err
    for asked in (["--confidence"], ["--overlay-uncertainty"], ["eval.tuned=true"]):
        assert run_cli(["predict", broken, images, "--out", tmp_path / "other", *asked], monkeypatch) == 1
        error = capsys.readouterr().err
        assert f"error: {broken}/calibration.json: damaged (" in error and "write it anew with `dinoseg calib" in error


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--split", "test"], "--split test: what is fitted to the test images says nothing of others any more"),
        (["--split", "all"], "--split all: choose train or val"),
        (["datasets.val=nowhere"], "nowhere"),
        (["elsewhere"], "elsewhere: no such folder"),
    ],
)
def test_wrong_requests(
    more: list[str], said: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = more if more == ["elsewhere"] else [run, *more]
    assert run_cli(["calibrate", *arguments], monkeypatch) == 1
    assert said in capsys.readouterr().err and not (run / "calibration.json").exists()


def test_several_runs_are_calibrated_one_by_one(
    run: Path, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["calibrate", run, trained[1]], monkeypatch) == 1
    assert "2 runs; each is calibrated alone" in capsys.readouterr().err


def test_training_images_are_remarked(run: Path) -> None:
    with pytest.warns(UserWarning, match="surer of images that it learned from"):
        calibrate_run(ChosenRun(run, device="cpu"), "train", Console(quiet=True))
    assert _calibration(run).fitted_on.split == "train"


def test_images_in_which_nothing_counts(run: Path, trained: tuple[Path, Path], tmp_path: Path) -> None:
    data = shutil.copytree(trained[0], tmp_path / "data")
    for path in (data / "val/masks").iterdir():
        Image.fromarray(np.full((40, 56), 255, np.uint8)).save(path)
    with pytest.raises(ValueError, match="no pixel counts in these images"):
        calibrate_run(ChosenRun(run, device="cpu", overrides=(f"datasets.root={data}",)), "val", Console(quiet=True))


def test_a_class_that_the_split_lacks_is_told(
    run: Path,
    trained: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = shutil.copytree(trained[0], tmp_path / "data")
    for path in (data / "val/masks").iterdir():
        Image.fromarray(np.zeros((40, 56), np.uint8)).save(path)
    told = "note: none of the fitted pixels is of red: nothing is found for them"
    asked = ["calibrate", run, f"datasets.root={data}"]
    assert run_cli(asked, monkeypatch) == 0
    assert told not in capsys.readouterr().out
    assert run_cli([*asked, "--tune", "iou", "--patches", "iou"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert told in said and "without weights of classes: none are kept" in said
    found = _calibration(run)
    assert found.tuned is None and (found.least_patches is None or found.least_patches.pixels[1] == 0)
