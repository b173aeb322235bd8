"""Several runs as one: the mean of what each says alone, refused where they do not speak of the same classes."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.published import tiny_head
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image
from rich.console import Console

import dinoseg
from dinoseg.inference.chosen_runs import choose_runs
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.ray_engine import PredictionActor, RayJob, _absolute
from dinoseg.models.segmenter import Segmenter
from dinoseg.report.html import build_report
from dinoseg.run_folder import run_source
from dinoseg.system.files import file_sha256

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")

CLASSES = "datasets.classes={0: back, 1: red, 2: green}"
SMALL_M2F = [
    "decoder_head.type=m2f",
    "decoder_head.hidden_dim=32",
    "decoder_head.num_heads=2",
    "decoder_head.num_queries=8",
    "decoder_head.encoder_layers=1",
    "decoder_head.decoder_layers=1",
    "decoder_head.adapter_inplane=4",
    "m2f_train.num_points=64",
]
# Heads, windows and augmentation of the runs that are averaged.
RUNS = {
    "slide": ["eval.crop_size=24", "eval.stride=16", "eval.blend=hann"],
    "whole": [*SMALL_M2F, "eval.mode=whole", "transforms.eval.img_size=48"],
    "reseeded": ["eval.use_tta=true", "transforms.eval.tta_ratios=[0.75, 1.0]", "seed=6"],
    "augmented": ["eval.use_tta=true", "transforms.eval.tta_ratios=[0.75, 1.0]", "seed=5"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and the runs on it."""
    base = tmp_path_factory.mktemp("ensemble")
    write_tiny_dataset(base / "data", {"train": 4, "val": 2, "test": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        for name, settings in RUNS.items():
            given = tiny_settings(base / "data", base / name, CLASSES, "scheduler.total_iter=2", *settings)
            assert run_cli(["train", *given], patch) == 0
    return base


@pytest.fixture(scope="module")
def exported(finished: Path) -> Path:
    """Two of the runs in one folder."""
    with pytest.MonkeyPatch.context() as patch:
        assert run_cli(["export", finished / "slide", finished / "whole", finished / "both"], patch) == 0
    return finished / "both"


def _images(base: Path) -> list[Path]:
    return sorted((base / "data/test/images").iterdir())


def _probabilities(run: Path, image: Path) -> np.ndarray:
    """By hand, of what a run says alone."""
    scores = dinoseg.load(run, device="cpu").scores(image).astype(np.float64)
    if run.name == "slide":
        scores = np.exp(scores - scores.max(axis=0))
    return scores / scores.sum(axis=0)


@pytest.mark.parametrize("names", [("slide", "whole"), ("whole", "augmented"), ("slide", "augmented", "whole")])
def test_the_ensemble_is_the_mean_of_each_runs_probabilities(names: tuple[str, ...], finished: Path) -> None:
    segmenter = dinoseg.load([finished / name for name in names], device="cpu")
    for image in _images(finished):
        by_hand = np.mean([_probabilities(finished / name, image) for name in names], axis=0)
        result = segmenter.predict(image, scores=True)
        assert result.scores is not None
        np.testing.assert_allclose(result.scores, by_hand, atol=1e-5)
        np.testing.assert_allclose(result.scores.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(segmenter.predict(image).class_map, result.class_map)
        np.testing.assert_array_equal(result.class_map, result.scores.argmax(axis=0))


def test_predict_writes_what_the_ensemble_says(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = [finished / "slide", finished / "whole", finished / "augmented"], tmp_path / "maps"
    command = ["predict", *runs[:2], finished / "data/test/images", runs[2], "--out", out, "--device", "cpu"]
    assert run_cli(command, monkeypatch) == 0
    segmenter = dinoseg.load(runs)
    for image in _images(finished):
        found = np.asarray(Image.open(out / "labels" / image.name))
        np.testing.assert_array_equal(found, segmenter.predict(image).labels)
    capsys.readouterr()
    assert run_cli(command, monkeypatch) == 0
    assert "0 predicted, 3 already there" in capsys.readouterr().out
    members = json.loads((out / "predictions.json").read_text())["members"]
    assert [member["run"] for member in members] == [str(run) for run in runs]
    assert all(member["checkpoint"] == "best" and len(member["weights_sha256"]) == 64 for member in members)


def test_a_report_is_of_one_run(exported: Path, finished: Path, tmp_path: Path) -> None:
    said = f"{exported}: several runs as one; a report is the page of one run .* give one of the runs in it; dinoseg"
    with pytest.raises(ValueError, match=said):
        build_report(exported, "val", Console(quiet=True))
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=f"{tmp_path}: figures without a run; .* give the run that they are of; dinos"):
        build_report(tmp_path, "val", Console(quiet=True))


def test_figures_are_those_of_the_maps(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, masks = [finished / "whole", finished / "slide"], finished / "data/test/masks"
    out, maps = tmp_path / "figures", tmp_path / "maps"
    assert run_cli(["eval", *runs, "--split", "test", "--out", out], monkeypatch) == 0
    assert "test, mean of 2 runs, checkpoint best" in capsys.readouterr().out
    found = json.loads((out / "metrics.json").read_text())
    # By hand: the mean of what each says, as label maps that another tool might have written.
    maps.mkdir()
    for image in _images(finished):
        mean = np.mean([_probabilities(run, image) for run in runs], axis=0)
        Image.fromarray(mean.argmax(axis=0).astype(np.uint8)).save(maps / image.name)
    assert run_cli(["eval", "--predictions", maps, "--masks", masks, CLASSES], monkeypatch) == 0
    expected = json.loads((maps / "eval/metrics.json").read_text())
    for key in ("mIoU", "aAcc", "mDice", "per_class", "confidence"):
        assert found[key] == expected[key]
    assert found["confidence"]["mIoU"] is not None
    members = found["policy"]["members"]
    assert [member["run"] for member in members] == [str(run) for run in runs]
    assert [member["checkpoint"] for member in members] == ["best", "best"]
    weights = [run / "checkpoints/best/model.safetensors" for run in runs]
    assert [member["weights_sha256"] for member in members] == [file_sha256(path) for path in weights]
    assert members[0]["resolution"] == "short side 48, scores resized to native"
    assert members[0]["window"]["mode"] == "whole" and members[1]["window"]["crop"] == [24, 24]
    assert "window" not in found["policy"] and "resolution" not in found["policy"]


def test_figures_of_an_ensemble_are_compared(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = [finished / "slide", finished / "augmented"], tmp_path / "figures"
    evaluation = dinoseg.evaluate(runs, split="test", write=out)
    dinoseg.evaluate(runs[0], split="test", write=True)
    assert run_cli(["compare", runs[0], out, "--split", "test"], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "members: one run | 2 runs as one" in said and "| none" not in said
    assert evaluation.metrics.means["mIoU"] is not None
    others = [finished / "whole", shutil.copytree(runs[1], tmp_path / "moved")]
    dinoseg.evaluate(others, split="test", write=tmp_path / "others")
    assert run_cli(["compare", out, tmp_path / "others", "--split", "test"], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f": {runs[0]} | none" in said and f": none | {others[0]}" in said and said.count("member ") == 2


def test_shards_of_an_ensemble_add_up(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, whole, parts = [finished / "slide", finished / "augmented"], tmp_path / "whole", tmp_path / "parts"
    dinoseg.evaluate(runs, split="test", write=whole)
    command = ["eval", *runs, "--split", "test", "--out", parts]
    for part in ("1/2", "2/2"):
        assert run_cli([*command, "--shard", part], monkeypatch) == 0
    assert run_cli([*command, "--merge"], monkeypatch) == 0
    for name in ("metrics.json", "per_class.csv", "confusion.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_images_that_a_run_learned_from_are_said(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = tmp_path / "fold"
    given = tiny_settings(
        finished / "data", fold, CLASSES, "scheduler.total_iter=1", "datasets.train=test", "datasets.test=train"
    )
    assert run_cli(["train", *given], monkeypatch) == 0
    capsys.readouterr()
    assert run_cli(["eval", finished / "slide", fold, "--split", "test", "--out", tmp_path / "out"], monkeypatch) == 0
    assert f"of the 3 images of --split test, runs learned from some: {fold} from 3;" in capsys.readouterr().err
    assert run_cli(["eval", finished / "slide", fold, "--split", "val", "--out", tmp_path / "val"], monkeypatch) == 0
    assert "learned from" not in capsys.readouterr().err


def test_an_export_is_one_folder_that_stands_for_the_runs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out, image = [finished / "slide", finished / "whole"], tmp_path / "both", _images(finished)[0]
    assert run_cli(["export", *runs, out], monkeypatch) == 0
    assert "the whole models of 2 runs (checkpoint best of each)" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["1_slide", "2_whole", "ensemble.json"]
    moved = out.rename(tmp_path / "moved")
    np.testing.assert_array_equal(dinoseg.load(moved).scores(image), dinoseg.load(runs).scores(image))
    assert run_cli(["predict", moved, image, "--out", tmp_path / "maps"], monkeypatch) == 0
    found = np.asarray(Image.open(tmp_path / "maps/labels" / image.name))
    np.testing.assert_array_equal(found, dinoseg.load(runs).predict(image).labels)
    assert run_cli(["eval", moved, "--split", "test"], monkeypatch) == 0
    dinoseg.evaluate(runs, split="test", write=tmp_path / "figures")
    capsys.readouterr()
    assert run_cli(["compare", moved, tmp_path / "figures", "--split", "test"], monkeypatch) == 0
    assert "mean (mIoU)" in capsys.readouterr().out
    figures = [
        json.loads((folder / "metrics.json").read_text()) for folder in (moved / "eval/test", tmp_path / "figures")
    ]
    assert figures[0]["per_class"] == figures[1]["per_class"]
    # With one run more, each of the three has one say.
    three = dinoseg.load([moved, finished / "augmented"])
    expected = dinoseg.load([*runs, finished / "augmented"]).scores(image)
    np.testing.assert_array_equal(three.scores(image), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["members"].pop(), "members: a list of 1 found, at least 2 entries expected"),
        (
            lambda record: record["members"][0].update(folder="../slide"),
            "members[0].folder: '../slide' found, the name",
        ),
        (lambda record: record["members"][1].update(folder="gone"), "members[1].folder: no run in"),
        (lambda record: record["members"][1].pop("folder"), "members[1].folder: missing"),
        (lambda record: record["members"][0].update(weights_sha256="0" * 64), "not the weights that ensemble.json"),
    ],
)
def test_a_damaged_ensemble_file_is_refused(
    change: Callable[[Any], Any], message: str, exported: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported, tmp_path / "both")
    record = json.loads((folder / "ensemble.json").read_text())
    change(record)
    (folder / "ensemble.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        dinoseg.load(folder)
    assert "ensemble.json" in str(raised.value) and "export the runs anew" in str(raised.value)


def test_what_wants_one_run_names_those_of_an_ensemble(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["report", exported], monkeypatch) == 1
    assert "several runs as one; a report is the page of one run" in capsys.readouterr().err
    assert run_cli(["export", exported, exported], monkeypatch) == 1
    assert "holds a run or an export already" in capsys.readouterr().err
    assert run_cli(["export", exported], monkeypatch) == 1
    assert (
        f"give one or more run folders, and then a new folder or file (found {exported} alone)"
        in capsys.readouterr().err
    )
    with pytest.raises(ValueError, match="2 runs as one have no features of their own; ask one of"):
        dinoseg.load(exported).features(np.zeros((40, 56, 3), np.uint8))


def test_what_cannot_be_averaged_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slide, whole, images = finished / "slide", finished / "whole", finished / "data/test/images"
    copied, linked = shutil.copytree(slide, tmp_path / "copied"), tmp_path / "linked"
    linked.symlink_to(slide)
    (tmp_path / "empty").mkdir()
    # Their overlays would be images to predict.
    (shutil.copytree(whole, tmp_path / "half") / "labels.json").unlink()
    (shutil.copytree(whole, tmp_path / "rest") / "config.yaml").unlink()
    for runs, message in (
        ([slide, slide], f"{slide} is given twice; each run has one say: leave one out"),
        ([slide, whole, linked], f"{slide} and {linked} are one folder; each run has one say: leave one out"),
        ([slide, copied], f"{slide} and {copied} are one run (the same weights)"),
        ([slide, tmp_path / "gone"], f"{tmp_path / 'gone'}: no such file or folder; give image files"),
        ([slide, tmp_path / "empty"], f"{tmp_path / 'empty'}: no image there; give image files"),
        ([slide, tmp_path / "empty"], "(or one run more: a folder with config.yaml and labels.json)"),
        ([slide, tmp_path / "half"], f"{tmp_path / 'half'}: labels.json is missing; copy the whole run folder"),
        ([slide, tmp_path / "rest"], f"{tmp_path / 'rest'}: not a run folder (no config.yaml in it)"),
    ):
        assert run_cli(["predict", *runs, images, "--out", tmp_path / "out"], monkeypatch) == 1
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
    for name in ("slide.onnx", "CAPITALS.ONNX"):
        (tmp_path / name).touch()
    for missing, message in (
        ("gone", "no such folder"),
        ("half", "labels.json is missing"),
        ("slide.onnx", "slide.onnx: a file, where a run folder is wanted; .* dinoseg.onnx.load"),
        ("CAPITALS.ONNX", "CAPITALS.ONNX: a file, where a run folder is wanted; .* dinoseg.onnx.load"),
    ):
        with pytest.raises(ValueError, match=message):
            dinoseg.load([slide, tmp_path / missing])
    with pytest.raises(ValueError, match=re.escape(f"{slide} is given twice")):
        dinoseg.load([dinoseg.Run(slide), slide])
    with pytest.raises(ValueError, match="no run is given"):
        dinoseg.load([])
    assert run_cli(["eval", slide, whole], monkeypatch) == 1
    said = (
        "2 runs as one have no folder of their own for figures; give one with --out (from Python, write=FOLDER), for "
        f"instance --out {slide}+whole"
    )
    assert said in capsys.readouterr().err
    for out, message in (
        (slide, "holds a run; give a folder for these figures alone"),
        (slide / "eval" / "test", "lies in the run .*slide, whose own figures are there"),
        (finished / "data" / "test" / "images", "holds other files; give a new folder"),
    ):
        with pytest.raises(ValueError, match=message):
            dinoseg.evaluate([slide, whole], split="test", write=out)
    dinoseg.evaluate([slide, whole], split="test", write=tmp_path / "figures")
    with pytest.raises(ValueError, match="holds figures of --split test; give each split a folder of its own"):
        dinoseg.evaluate([slide, whole], split="val", write=tmp_path / "figures")


def test_one_run_in_two_forms_is_one_run(
    exported: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a checkpoint, of its export and of what is pushed differ; so do backbones with merged adapters."""
    slide, whole, pushed = finished / "slide", finished / "whole", tmp_path / "pushed"
    assert run_cli(["push", slide, "user/slide", "--dry-run", pushed], monkeypatch) == 0
    assert run_cli(["export", slide, tmp_path / "last", "--checkpoint", "last"], monkeypatch) == 0
    for runs, first, second in (
        ([slide, exported], slide, exported / "1_slide"),
        ([whole, f"hf:{pushed}", slide], f"hf:{pushed}", slide),
        ([exported, f"hf:{pushed}"], exported / "1_slide", f"hf:{pushed}"),
        ([slide, whole, tmp_path / "last"], slide, tmp_path / "last"),
    ):
        said = f"{first} and {second} are one run (the same weights); each run has one say: leave one out"
        with pytest.raises(ValueError, match=re.escape(said)):
            dinoseg.load(runs)
    assert len(dinoseg.load([exported, finished / "augmented"]).ensemble.members) == 3


def test_a_published_head_and_its_export_are_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = ["model.dino_hub=tiny_vit8", "datasets.classes={4: sky, 7: road, 9: tree}", "eval.mode=whole"]
    head, other = (f"hf:{tiny_head(tmp_path / name, seed=seed)}" for name, seed in (("head", 0), ("other", 1)))
    assert run_cli(["export", head, tmp_path / "exported", *described], monkeypatch) == 0
    digest, again, third = (
        choose_runs(run, overrides=overrides).open().source.head_sha256
        for run, overrides in ((head, described), (tmp_path / "exported", []), (other, described))
    )
    assert digest == again != third


def test_runs_may_stand_behind_images_and_names_are_text(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slide, whole, images = finished / "slide", finished / "whole", finished / "data/test/images"
    assert run_cli(["predict", images, slide, "--out", tmp_path / "out"], monkeypatch) == 0
    assert len(list((tmp_path / "out/labels").iterdir())) == len(_images(finished)) > 0
    capsys.readouterr()
    assert run_cli(["eval", slide, whole, "--split", "test", "--out", tmp_path / "x[/b]y"], monkeypatch) == 0
    assert "x[/b]y" in "".join(capsys.readouterr().out.split())
    long = shutil.copytree(whole, tmp_path / ("w" * 254))
    assert run_cli(["export", slide, long, tmp_path / "both"], monkeypatch) == 0
    assert len(list((tmp_path / "both").iterdir())) == 3


def test_other_classes_are_refused_before_weights_are_loaded(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    classes = "datasets.classes={0: back, 1: red, 2: blue}"
    assert (
        run_cli(["train", *tiny_settings(finished / "data", other, classes, "scheduler.total_iter=1")], monkeypatch)
        == 0
    )
    monkeypatch.setattr(run_source, "load_segmenter", lambda *given: pytest.fail("weights are loaded"))
    slide = finished / "slide"
    with pytest.raises(ValueError) as raised:
        dinoseg.load([slide, other])
    assert str(raised.value) == (
        f"{slide} and {other} cannot be averaged: only {slide} has green (label id 2) and only {other} has blue (label "
        "id 2); train both with the same datasets.classes, or leave one out"
    )


def test_an_output_is_made_anew_when_a_member_changes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slide, images, out = finished / "slide", finished / "data/test/images", tmp_path / "maps"
    changing = shutil.copytree(finished / "augmented", tmp_path / "changing")

    def said(*runs: Path, more: tuple[str, ...] = ()) -> str:
        assert run_cli(["predict", *runs, images, "--out", out, *more], monkeypatch) == 0
        return capsys.readouterr().out

    assert "3 predicted, 0 failed" in said(slide, changing)
    assert "0 predicted, 3 already there" in said(slide, changing)
    assert "3 predicted" in said(slide, changing, more=("eval.use_tta=false",))
    assert "3 predicted" in said(slide, changing)
    shutil.rmtree(changing / "checkpoints/best")
    shutil.copytree(finished / "reseeded/checkpoints/best", changing / "checkpoints/best")
    assert "3 predicted" in said(slide, changing)
    assert "3 predicted" in said(slide)


def test_equal_backbones_are_held_once(finished: Path) -> None:
    # Trained from one seed, so that the random backbone is one.
    members = dinoseg.load([finished / "slide", finished / "whole", finished / "reseeded"]).ensemble.members
    storage = [
        {parameter.data_ptr() for parameter in member.model.backbone.parameters()}
        for member in members
        if isinstance(member.model, Segmenter)
    ]
    assert storage[0] == storage[1] and not storage[0] & storage[2]


def test_ignored_ids_of_any_run_are_ignored(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, other = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 2, "test": 2}), tmp_path / "other"
    mask = data / "test/masks/test_0.png"
    pixels = np.array(Image.open(mask))
    pixels[:10] = 7
    Image.fromarray(pixels).save(mask)
    given = tiny_settings(data, other, CLASSES, "datasets.ignore=[7, 9]", "scheduler.total_iter=1")
    assert run_cli(["train", *given], monkeypatch) == 0
    with pytest.raises(ValueError, match="label id outside the label space: 7"):
        dinoseg.evaluate(finished / "slide", split="test", overrides=[f"datasets.root={data}"])
    runs = [finished / "slide", other]
    found = dinoseg.evaluate(runs, split="test", overrides=[f"datasets.root={data}"])
    assert found.label_space.ignored_ids == (255, 7, 9)
    assert int(found.matrix.sum()) == 2 * 40 * 56 - 10 * 56
    assert dinoseg.load(runs).label_space == found.label_space


def test_each_run_reads_a_picture_with_its_own_white(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whites, runs = {"slide": 4095, "augmented": 16383, "reseeded": 4095}, []
    for name, white in whites.items():
        runs.append(tmp_path / name)
        command = ["export", finished / name, runs[-1], f"datasets.white_level={white}"]
        assert run_cli(command, monkeypatch) == 0
        assert dinoseg.load(runs[-1]).config.datasets.white_level == white
    image = np.random.default_rng(3).integers(0, 4096, (40, 56, 3), dtype=np.uint16)
    segmenter = dinoseg.load(runs)
    assert [form.white_level for form in segmenter.forms] == [4095, 16383]
    alone = [dinoseg.load(run).scores(image).astype(np.float64) for run in runs]
    alone[0] = np.exp(alone[0]) / np.exp(alone[0]).sum(axis=0)
    result = segmenter.predict(image, scores=True)
    np.testing.assert_allclose(result.scores, np.mean(alone, axis=0), atol=1e-5)
    np.testing.assert_array_equal(np.asarray(result.image), np.asarray(dinoseg.load(runs[0]).predict(image).image))
    # Evaluation and files read it alike.
    truth = np.random.default_rng(4).integers(0, 3, (40, 56))
    evaluation = dinoseg.evaluate(runs, data=[(image, truth)])
    assert int(evaluation.matrix.diagonal().sum()) == int((result.class_map == truth).sum())
    for folder, pixels in (("images", image[..., 0]), ("masks", truth.astype(np.uint8))):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "grey.png")
    grey = segmenter.predict(tmp_path / "images/grey.png").labels
    command = ["predict", *runs, tmp_path / "images", "--out", tmp_path / "out", "--mask-ignored", tmp_path / "masks"]
    assert run_cli(command, monkeypatch) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/labels/grey.png")), grey)


def test_a_map_is_what_a_picture_of_it_is(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rasterio = pytest.importorskip("rasterio", reason="the extra dinoseg[geo] is not installed")
    runs, source = [finished / "slide", finished / "augmented"], tmp_path / "map.tif"
    pixels = np.asarray(Image.open(_images(finished)[0]))
    form = {"driver": "GTiff", "height": 40, "width": 56, "count": 3, "dtype": "uint8"}
    placed = rasterio.transform.from_origin(500000, 5400000, 0.5, 0.5)
    with rasterio.open(source, "w", crs="EPSG:32632", transform=placed, **form) as written:
        written.write(np.moveaxis(pixels, -1, 0))
    assert run_cli(["predict", *runs, source, "--out", tmp_path / "out"], monkeypatch) == 0
    with rasterio.open(tmp_path / "out/labels/map.tif") as found:
        np.testing.assert_array_equal(found.read(1), dinoseg.load(runs).predict(pixels).labels)


def test_an_actor_predicts_what_one_process_does(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    job = _absolute(RayJob(choose_runs(["slide", "whole"]), OutputFolder(tmp_path / "out")))
    monkeypatch.chdir(tmp_path)
    actor = PredictionActor(pickle.loads(pickle.dumps(job)))
    image = _images(finished)[0]
    row = {"index": 0, "path": str(image), "name": image.stem, "mask": "", "region": ""}
    assert actor({key: np.array([value]) for key, value in row.items()})["error"] == [""]
    found = np.asarray(Image.open(tmp_path / "out/labels" / image.name))
    np.testing.assert_array_equal(found, dinoseg.load([finished / "slide", finished / "whole"]).predict(image).labels)
