"""Prediction of many files: finished outputs are proven and kept, processes share the work, a kill loses nothing."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.another_process import code_at_end, start_cli, wait_until
from helpers.tiny import run_cli, train_tiny_run
from helpers.two_processes import run_cli_in_two_processes
from PIL import Image
from rich.console import Console

import dinoseg
from dinoseg.data.masks import read_mask
from dinoseg.inference.chosen_runs import choose_runs
from dinoseg.inference.files import InputImage, list_inputs, with_masks
from dinoseg.inference.job import OpenedImage, PredictionJob
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.pipeline import predict_all
from dinoseg.inference.prediction import Prediction
from dinoseg.inference.predictor import Predictor
from dinoseg.run_folder.lock import locked_predictions
from dinoseg.verbs.predict import predict_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and a finished run on it."""
    return train_tiny_run(
        tmp_path_factory, {"train": 4, "val": 2, "test": 7}, "datasets.classes={0: back, 1: red, 2: green}"
    )


def _contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _times(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.png")}


def _predict(run: Path, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> set[str]:
    """Predicts and returns the names of the images that were predicted anew."""
    before = _times(out) if out.exists() else {}
    assert run_cli(["predict", run, images, "--out", out, *more], monkeypatch) == 0
    changed = {Path(name).stem for name, stamp in _times(out).items() if before.get(name) != stamp}
    assert not [name for name in _contents(out) if ".new" in name]
    return changed


def test_finished_outputs_are_kept(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    images, out = data / "test" / "images", tmp_path / "out"
    everything = {f"test_{number}" for number in range(7)}
    assert _predict(run, images, out, monkeypatch) == everything
    contents = _contents(out)
    assert _predict(run, images, out, monkeypatch) == set()
    assert "0 predicted, 7 already there (--overwrite predicts them anew), 0 failed" in capsys.readouterr().out
    assert _contents(out) == contents
    assert _predict(run, images, out, monkeypatch, "--overwrite") == everything
    assert _contents(out) == contents


def test_a_run_is_opened_once(finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data, run = finished
    opened, opens = [], ChosenRun.open
    monkeypatch.setattr(ChosenRun, "open", lambda chosen: opened.append(chosen) or opens(chosen))
    probabilities = ("--probabilities", "--top-k", "2", "--confidence")
    assert _predict(run, data / "val" / "images", tmp_path / "out", monkeypatch, *probabilities)
    assert len(opened) == 1


def test_a_second_process_is_refused_before_the_model_is_loaded(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    monkeypatch.setattr(Predictor, "load", lambda opened: pytest.fail("loaded"))
    with locked_predictions(tmp_path / "out"):
        assert run_cli(["predict", run, data / "test/images", "--out", tmp_path / "out"], monkeypatch) == 1
    assert f"{tmp_path / 'out'}: another prediction is at work there (process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["out", "out/labels", "out/overlays"])
def test_a_file_for_a_folder_is_found_before_the_model_is_loaded(
    place: str, finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    monkeypatch.setattr(Predictor, "load", lambda opened: pytest.fail("loaded"))
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("x")
    said = rf"--out .*{place}: cannot be written: .*{place} is a file, not a folder; give another folder"
    with pytest.raises(ValueError, match=said):
        predict_run(choose_runs(run), [str(data / "test/images")], OutputFolder(tmp_path / "out"), Console(quiet=True))


def test_what_is_not_proven_is_predicted_anew(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for source in (data / "test" / "images").iterdir():
        (images / source.name).write_bytes(source.read_bytes())
    _predict(run, images, out, monkeypatch)
    contents = _contents(out)
    (out / "overlays" / "test_0.png").unlink()
    cut = out / "labels" / "test_1.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    (out / "labels" / "test_3.png").write_bytes((out / "labels" / "test_4.png").read_bytes())
    assert _predict(run, images, out, monkeypatch) == {"test_0", "test_1", "test_3"}
    assert _contents(out) == contents
    turned = Image.open(images / "test_5.png").transpose(Image.Transpose.ROTATE_180)
    turned.save(images / "test_5.png")
    assert _predict(run, images, out, monkeypatch) == {"test_5"}


def test_what_decides_a_prediction_is_in_its_fingerprint(finished: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = finished
    settings = [(), ("eval.mode=whole",), ("eval.crop_size=24",), ("eval.stride=16",), ("transforms.eval.img_size=48",)]
    settings += [("eval.use_tta=true",), ("model_dtype=BFLOAT16",), ("transforms.mean=[0.5, 0.5, 0.5]",)]
    assert len({dinoseg.load(run, overrides=overrides).fingerprint for overrides in settings}) == len(settings)
    indifferent = ("eval.batch_size=1", "num_workers=1", "device=cpu", "datasets.root=elsewhere", "bs=7")
    assert dinoseg.load(run, overrides=indifferent).fingerprint == dinoseg.load(run).fingerprint
    loaded = dinoseg.load(run)
    parts = (loaded.model, loaded.label_space, loaded.config, loaded.device)
    assert Predictor(*parts, checkpoint_hash="other weights").fingerprint != loaded.fingerprint
    assert Predictor(*parts).fingerprint is None
    copied = shutil.copytree(run, tmp_path / "copied")
    assert dinoseg.load(copied).fingerprint == loaded.fingerprint


def test_another_look_is_another_output(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    image, out, masks = data / "test" / "images" / "test_0.png", tmp_path / "out", tmp_path / "masks"
    _predict(run, image, out, monkeypatch)
    assert _predict(run, image, out, monkeypatch, "--palette") == {"test_0"}
    assert _predict(run, image, out, monkeypatch, "--palette") == set()
    shutil.copytree(data / "test" / "masks", masks)
    assert _predict(run, image, out, monkeypatch, "--mask-ignored", str(masks)) == {"test_0"}
    assert _predict(run, image, out, monkeypatch, "--mask-ignored", str(masks)) == set()
    truth = np.array(Image.open(masks / "test_0.png"))
    truth[0, 0] = 255
    Image.fromarray(truth).save(masks / "test_0.png")
    assert _predict(run, image, out, monkeypatch, "--mask-ignored", str(masks)) == {"test_0"}
    assert np.asarray(Image.open(out / "labels" / "test_0.png"))[0, 0] == 255


def test_pictures_in_place_of_masks_are_told_from_them(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = finished
    images = data / "test" / "images"
    job = PredictionJob(dinoseg.load(run), OutputFolder(tmp_path / "out", mask_ignored=images))
    (image,) = with_masks(list_inputs([str(images / "test_0.png")]), images)
    assert job.do(image).error == (
        f"{images / 'test_0.png'}: holds colours; --mask-ignored takes a folder of masks such as this run was trained "
        "on, of label ids, whose ignored pixels stay ignored: give those, or leave it out"
    )


def test_an_image_that_was_moved_keeps_its_output(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    image, out, moved = data / "test" / "images" / "test_0.png", tmp_path / "out", tmp_path / "elsewhere"
    _predict(run, image, out, monkeypatch)
    moved.mkdir()
    shutil.copyfile(image, moved / "test_0.png")
    assert _predict(run, moved, out, monkeypatch) == set()


def test_two_processes_write_what_one_writes(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    images = tmp_path / "images"
    images.mkdir()
    for source in (data / "test" / "images").iterdir():
        (images / source.name).write_bytes(source.read_bytes())
    (images / "broken.png").write_bytes(b"no picture")
    assert run_cli(["predict", run, images, "--out", tmp_path / "one"], monkeypatch) == 1
    # One output is there already, by another process count.
    for kind in ("labels", "overlays"):
        (tmp_path / "two" / kind).mkdir(parents=True)
        (tmp_path / "two" / kind / "test_3.png").write_bytes((tmp_path / "one" / kind / "test_3.png").read_bytes())
    before = _times(tmp_path / "two")
    command = ["predict", run, images, "--out", tmp_path / "two", "--device", "cpu"]
    codes, output = run_cli_in_two_processes(command, tmp_path)
    assert 1 in codes
    assert output.count("6 predicted, 1 already there") == 1
    assert "1 failed" in output and output.count("broken.png: not an image") == 1
    assert _contents(tmp_path / "two") == _contents(tmp_path / "one")
    assert {name: stamp for name, stamp in _times(tmp_path / "two").items() if "test_3" in name} == before


def test_a_killed_job_goes_on_where_it_was(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    out = tmp_path / "out"
    process = start_cli(["predict", run, data / "test" / "images", "--out", out], tmp_path / "printed")
    wait_until(lambda: list(out.glob("overlays/*.png")), process)
    process.kill()
    code_at_end(process)
    done = {path.stem for path in out.glob("overlays/*.png")}
    assert done
    anew = _predict(run, data / "test" / "images", out, monkeypatch)
    assert anew == {f"test_{number}" for number in range(7)} - done
    _predict(run, data / "test" / "images", tmp_path / "whole", monkeypatch)
    assert _contents(out) == _contents(tmp_path / "whole")


def test_files_are_read_and_written_while_the_model_works(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = finished
    job = PredictionJob(dinoseg.load(run), OutputFolder(tmp_path / "out"))
    images = list_inputs([str(data / "test" / "images")])
    opened = {image.name: threading.Event() for image in images}
    written = {image.name: threading.Event() for image in images}
    open_image, write, predict = PredictionJob.open, PredictionJob.write, Predictor.predict
    names = [image.name for image in images]
    seen: list[str] = []

    def announce_opened(self: PredictionJob, image: InputImage):
        result = open_image(self, image)
        opened[image.name].set()
        return result

    def announce_written(self: PredictionJob, opened_image: OpenedImage, prediction: Prediction):
        result = write(self, opened_image, prediction)
        written[opened_image.image.name].set()
        return result

    def waiting_predict(self: Predictor, picture: Image.Image):
        place = len(seen)
        seen.append(names[place])
        # Within the model: the image before is being written, the one after is being read.
        assert all(written[name].wait(20) for name in names[max(0, place - 1) : place])
        assert all(opened[name].wait(20) for name in names[place + 1 : place + 2])
        return predict(self, picture)

    monkeypatch.setattr(PredictionJob, "open", announce_opened)
    monkeypatch.setattr(PredictionJob, "write", announce_written)
    monkeypatch.setattr(Predictor, "predict", waiting_predict)
    done: list[None] = []
    outcomes = predict_all(job, images, lambda: done.append(None))
    assert [outcome.image.name for outcome in outcomes] == names == seen
    assert len(done) == len(names)


def test_an_image_that_cannot_be_predicted_does_not_end_the_job(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    images = sorted((data / "test" / "images").iterdir())
    predict, calls = Predictor.predict, []

    def refuse_the_second(self: Predictor, picture: Image.Image):
        calls.append(picture)
        if len(calls) == 2:
            raise ValueError("not this one")
        return predict(self, picture)

    monkeypatch.setattr(Predictor, "predict", refuse_the_second)
    assert run_cli(["predict", run, data / "test" / "images", "--out", tmp_path / "out"], monkeypatch) == 1
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["failed"] == {str(images[1]): "not this one"}
    assert len(record["labels"]) == len(images) - 1
    assert "not this one" in capsys.readouterr().err


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone.nii.gz"
    gone.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=rf"^{gone}: No such file or directory$"):
        _ = InputImage(gone, "gone").sha256


def test_an_output_that_cannot_be_written_ends_the_job(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "overlays").write_text("a file where a folder belongs")
    arguments = ["predict", run, data / "test" / "images", "--out", tmp_path / "out"]
    assert run_cli(arguments, monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "overlays" in error
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_a_prediction_that_is_stopped_leaves_no_record_of_the_one_before(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its label maps lie beside those of the one before, which may be another run's."""
    data, run = finished
    out, images = tmp_path / "out", data / "test" / "images"
    _predict(run, images, out, monkeypatch)
    written = OutputFolder.write

    def stop_after_the_first(self: OutputFolder, image: InputImage, *more: Any) -> None:
        if image.name != "test_0":
            raise OSError("disk full")
        written(self, image, *more)

    monkeypatch.setattr(OutputFolder, "write", stop_after_the_first)
    assert run_cli(["predict", run, images, "--out", out, "--overwrite"], monkeypatch) == 1
    assert (out / "labels" / "test_0.png").exists() and not (out / "predictions.json").exists()


def test_the_fingerprint_leaves_the_label_map_alone(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = finished
    image = data / "test" / "images" / "test_0.png"
    _predict(run, image, tmp_path / "out", monkeypatch)
    written = tmp_path / "out" / "labels" / "test_0.png"
    np.testing.assert_array_equal(read_mask(written), dinoseg.load(run).predict(image).labels)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["labels"] == {
        str(image): "labels/test_0.png"
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--engine", "spark"], "--engine spark: choose local or ray"),
        (["--workers", "4"], "--workers 4: are of --engine ray; give that, too"),
        (["device=gpu"], "device='gpu' is unknown; choose one of auto, cpu, cuda, mps"),
        (["--device", "mps", "device=cpu"], "--device mps and device=cpu disagree"),
    ],
)
def test_mistakes_name_the_option(
    more: list[str],
    message: str,
    finished: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = finished
    assert run_cli(["predict", run, data / "test" / "images", "--out", tmp_path / "out", *more], monkeypatch) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_device_may_be_given_either_way(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    for there in ("cuda", "mps"):
        backend = torch.cuda if there == "cuda" else torch.backends.mps
        monkeypatch.setattr(backend, "is_available", lambda: False)
        assert run_cli(["predict", run, data / "test" / "images", f"device={there}"], monkeypatch) == 1
        assert f"device={there}: PyTorch finds no such device" in capsys.readouterr().err
        assert run_cli(["eval", run, f"device={there}"], monkeypatch) == 1
        assert "set device=auto or device=cpu" in capsys.readouterr().err
    assert dinoseg.load(run, overrides=("device=cpu",)).device == torch.device("cpu")


@pytest.mark.parametrize("entry", ["folder", "glob"])
def test_what_predictions_wrote_is_never_an_input(entry: str, tmp_path: Path) -> None:
    for name in ("a.png", "out/labels/a.png", "out/overlays/a.png", "out/kept.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    given = str(tmp_path) if entry == "folder" else str(tmp_path / "**" / "*.png")
    names = [image.path.name for image in list_inputs([given], tmp_path / "out")]
    assert sorted(names) == ["a.png", "kept.png"]
    assert [image.name for image in list_inputs([str(tmp_path / "out")], tmp_path / "out")] == ["kept"]


def test_masks_whose_ignored_pixels_stay_are_paired_as_in_training(tmp_path: Path) -> None:
    images = [InputImage(tmp_path / f"{name}.png", name) for name in ("scan", "scan.1", "a")]
    for name in ("scan.png", "scan.1.png", "a.json", "a.png"):
        (tmp_path / name).touch()
    assert [image.mask and image.mask.name for image in with_masks(images, tmp_path)] == [
        "scan.png",
        "scan.1.png",
        "a.png",
    ]
    (tmp_path / "other").mkdir()
    for name in ("a_mask.png", "b_mask.png"):
        (tmp_path / "other" / name).touch()
    assert [image.mask and image.mask.name for image in with_masks(images[2:], tmp_path / "other")] == ["a_mask.png"]
    with pytest.raises(ValueError, match="no such folder"):
        with_masks(images, tmp_path / "nowhere")


def test_a_file_that_is_no_prediction_is_not_overwritten(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    image, mine = data / "test" / "images" / "test_0.png", tmp_path / "labels" / "test_0.png"
    mine.parent.mkdir()
    Image.new("L", (56, 40), 1).save(mine)
    before = mine.read_bytes()
    arguments = ["predict", run, image, "--out", tmp_path]
    assert run_cli(arguments, monkeypatch) == 1
    assert f"{mine} is there and is no prediction of dinoseg's" in capsys.readouterr().err
    assert mine.read_bytes() == before
    assert run_cli([*arguments, "--overwrite"], monkeypatch) == 0
    assert mine.read_bytes() != before


def test_an_input_is_never_overwritten(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    picture = tmp_path / "labels" / "a.png"
    picture.parent.mkdir()
    picture.write_bytes((data / "test" / "images" / "test_0.png").read_bytes())
    before = picture.read_bytes()
    assert run_cli(["predict", run, picture, "--out", tmp_path, "--overwrite"], monkeypatch) == 1
    assert picture.read_bytes() == before
