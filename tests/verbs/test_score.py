"""Scoring of label maps that any tool wrote: figures by hand, the same integers as for a run, refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image

from dinoseg.config.schema import all_keys
from dinoseg.verbs.figures_folder import refuse_other_figures
from dinoseg.verbs.score import USED_KEYS

CLASSES = "datasets.classes={0: back, 1: vessel, 2: lesion}"


def write_maps(folder: Path, maps: dict[str, Any], suffix: str = ".png", dtype: type = np.uint8) -> Path:
    for name, rows in maps.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(path, np.array(rows, dtype=dtype))
        else:
            Image.fromarray(np.array(rows, dtype=dtype)).save(path)
    return folder


def score(base: Path, patch: pytest.MonkeyPatch, *more: str | Path) -> int:
    return run_cli(["eval", "--predictions", base / "pred", "--masks", base / "true", *more], patch)


def read(folder: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return contents


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".tif", np.uint16), (".npy", np.int64)])
def test_figures_by_hand_in_any_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, dtype: type
) -> None:
    write_maps(tmp_path / "true", {"a": [[0, 0, 1, 255], [2, 2, 1, 1]], "sub/b": [[0, 0], [0, 1]]})
    maps = {"a": [[0, 1, 1, 2], [2, 0, 1, 1]], "sub/b": [[0, 0], [1, 1]]}
    write_maps(tmp_path / "pred", maps, suffix, dtype)
    assert score(tmp_path, monkeypatch, CLASSES) == 0
    found = read(tmp_path / "pred" / "eval")
    counts = [(row["intersection"], row["prediction"], row["truth"]) for row in found["per_class"]]
    assert counts == [(3, 4, 5), (4, 6, 4), (1, 1, 2)]
    assert [row["IoU"] for row in found["per_class"]] == pytest.approx([100 * 3 / 6, 100 * 4 / 6, 100 * 1 / 2])
    assert found["unpredicted"] == [0, 0, 0] and found["policy"]["images"] == 2
    images = np.load(tmp_path / "pred" / "eval" / "per_image.npz")
    assert images["names"].tolist() == ["a", "sub/b"]
    assert images["counts"][1].tolist() == [[2, 1, 0], [2, 2, 0], [3, 1, 0]]


def test_a_pixel_predicted_as_ignored_is_missed_not_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_maps(tmp_path / "true", {"a": [[0, 0, 0, 1, 1, 1, 255]]})
    write_maps(tmp_path / "pred", {"a": [[0, 0, 255, 1, 255, 255, 255]]})
    out = tmp_path / "figures"
    assert score(tmp_path, monkeypatch, "--out", out, "eval.boundary_iou=true") == 0
    found = read(out)
    counts = [(row["intersection"], row["prediction"], row["truth"]) for row in found["per_class"]]
    assert counts == [(2, 2, 3), (1, 1, 3)]
    assert [row["IoU"] for row in found["per_class"]] == pytest.approx([100 * 2 / 3, 100 / 3])
    assert [row["recall"] for row in found["per_class"]] == pytest.approx([100 * 2 / 3, 100 / 3])
    assert [row["precision"] for row in found["per_class"]] == [100, 100]
    assert found["aAcc"] == pytest.approx(100 * 3 / 6)
    assert found["unpredicted"] == [1, 2]
    # One pixel high: every pixel lies in the band of its class.
    assert [row["BoundaryIoU"] for row in found["per_class"]] == pytest.approx([100 * 2 / 3, 100 / 3])
    assert (out / "confusion.csv").read_text().splitlines()[1:] == ["class_0,2,0", "class_1,0,1"]
    assert "3 pixels with a true class are ignored in the predictions" in capsys.readouterr().out
    assert not (tmp_path / "pred" / "eval").exists()
    # Its rows in confusion.csv fall short by these pixels, and are read back all the same.
    assert run_cli(["compare", out, shutil.copytree(out, tmp_path / "copy")], monkeypatch) == 0
    lost = read(out) | {"unpredicted": [0, 2]}
    (out / "metrics.json").write_text(json.dumps(lost))
    assert run_cli(["compare", out, tmp_path / "copy"], monkeypatch) == 1
    assert "its counts are not those of metrics.json" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [(), ("datasets.reduce_zero_label=true",)])
def test_own_predictions_score_as_the_run_does_to_the_last_integer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 3, "val": 2, "test": 3}, classes=4)
    for path in (data / "test" / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        mask[:5, :9] = 255
        Image.fromarray(mask).save(path)
    run, test = tmp_path / "run", data / "test"
    training = ("scheduler.total_iter=1", "eval.eval_interval=1", *settings)
    assert run_cli(["train", *tiny_settings(data, run, *training)], monkeypatch) == 0
    assert run_cli(["eval", run, "--split", "test"], monkeypatch) == 0
    assert run_cli(["predict", run, test / "images", "--out", tmp_path / "pred"], monkeypatch) == 0
    # The folder that predict wrote, of which the label maps are a part.
    folders = "--predictions", tmp_path / "pred", "--masks", test / "masks"
    assert run_cli(["eval", *folders, *settings], monkeypatch) == 0
    of_run, of_maps = run / "eval" / "test", tmp_path / "pred" / "eval"
    expected, found = read(of_run), read(of_maps)
    # Label maps know no probabilities.
    for key in ("checkpoint", "weights_sha256", "split", "overrides", "policy", "calibration"):
        expected.pop(key), found.pop(key, None)
    assert expected == {key: value for key, value in found.items() if key in expected}
    assert (of_run / "confusion.csv").read_bytes() == (of_maps / "confusion.csv").read_bytes()
    one, other = np.load(of_run / "per_image.npz"), np.load(of_maps / "per_image.npz")
    assert one["names"].tolist() == other["names"].tolist()
    np.testing.assert_array_equal(one["counts"], other["counts"])
    assert run_cli(["compare", run, of_maps, "--split", "test"], monkeypatch) == 0
    # The run's own figures are not replaced by those of maps, whoever made them.
    for place in (run, of_run):
        assert run_cli(["eval", *folders, "--out", place, *settings], monkeypatch) == 1
        assert f"--out {place}: " in capsys.readouterr().err
    assert read(of_run)["checkpoint"] == "best" and not (run / "metrics.json").exists()


def test_colour_masks_and_merged_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    red, green, black = [255, 0, 0], [0, 255, 0], [0, 0, 0]
    write_maps(tmp_path / "true", {"a": [[red, red, green, black]]})
    write_maps(tmp_path / "pred", {"a": [[red, green, green, red]]})
    classes = "datasets.classes={'#ff0000': thing, '#00ff00': thing, '#000000': back}"
    assert score(tmp_path, monkeypatch, classes) == 0
    found = read(tmp_path / "pred" / "eval")
    assert [(row["name"], row["intersection"], row["prediction"]) for row in found["per_class"]] == [
        ("thing", 3, 4),
        ("back", 0, 0),
    ]
    assert [row["label_id"] for row in found["per_class"]] == ["#ff0000", "#000000"]
    assert (tmp_path / "pred/eval/per_class.csv").read_text().splitlines()[1].startswith("0,#ff0000,thing,")


def test_a_class_name_is_never_a_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_maps(tmp_path / "true", {"a": [[0, 1]]})
    write_maps(tmp_path / "pred", {"a": [[0, 1]]})
    assert score(tmp_path, monkeypatch, "datasets.classes={0: '=1+1', 1: '@x'}") == 0
    assert "0,0,'=1+1," in (tmp_path / "pred/eval/per_class.csv").read_text()
    assert "'@x,0,1" in (tmp_path / "pred/eval/confusion.csv").read_text()


def test_a_long_list_of_classes_is_a_setting_not_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_maps(tmp_path / "true", {"a": [[0, 1]]})
    write_maps(tmp_path / "pred", {"a": [[0, 1]]})
    many = ", ".join(f"{number}: class_{number:03}" for number in range(150))
    assert score(tmp_path, monkeypatch, f"datasets.classes={{{many}}}") == 0
    assert read(tmp_path / "pred" / "eval")["mIoU"] == 100


def test_keys_of_a_model_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(USED_KEYS) <= {entry.key for entry in all_keys()}
    write_maps(tmp_path / "true", {"a": [[0, 1]]})
    write_maps(tmp_path / "pred", {"a": [[0, 1]]})
    used = (CLASSES, "datasets.ignore=9", "eval.absent_classes=zero", "eval.boundary_iou=true", "device=cpu")
    assert score(tmp_path, monkeypatch, *used) == 0
    assert "no effect" not in capsys.readouterr().err
    assert score(tmp_path, monkeypatch, CLASSES, "bs=4", "eval.use_tta=true", "datasets.bands=[1]") == 0
    said = "note: no effect on eval --predictions: bs=4, eval.use_tta=true, datasets.bands=[1]; label maps are counted"
    assert said in capsys.readouterr().err


SCENES = ("aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "bochum/bochum_000000_000313")


@pytest.mark.parametrize("stem", ["{city}/{name}_leftImg8bit", "{name}_leftImg8bit", "{name}", "{city}/{name}"])
@pytest.mark.parametrize("masks", ["gt/*/*_labelIds.png", "gt/**/*gtFine_labelIds*", "ids"])
def test_names_of_cityscapes_pair_as_training_pairs_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stem: str,
    masks: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, scene in enumerate(SCENES):
        city, name = scene.split("/")
        write_maps(Path("gt"), {f"{scene}_gtFine_labelIds": [[0, 1, number]], f"{scene}_gtFine_color": [[9, 9, 9]]})
        write_maps(Path("ids"), {f"{scene}_gtFine_labelIds": [[0, 1, number]]})
        write_maps(Path("pred"), {stem.format(city=city, name=name): [[0, 1, number]]})
    # A glob names what is scored, and its figures lie beside it.
    assert run_cli(["eval", "--predictions", "pred/**/*.png", "--masks", masks, CLASSES], monkeypatch) == 0
    found = read(Path("pred/eval"))
    assert found["mIoU"] == 100 and found["policy"]["images"] == 3
    first = stem.format(city="aachen", name="aachen_000000_000019")
    said = capsys.readouterr().out
    assert f"{first.rpartition('/')[2]}.png with aachen_000000_000019_gtFine_labelIds.png" in said
    assert "gtFine_labelIds' of the masks" in said and "of the images" not in said
    assert np.load("pred/eval/per_image.npz")["names"][0] == first


@pytest.mark.parametrize(
    ("predicted", "true"),
    [
        # Numbers of another split.
        (["val_0", "val_1", "val_2"], ["test_0", "test_1", "test_2"]),
        (["frame_10", "frame_11"], ["frame_20", "frame_21"]),
        # One name in two cities: whose is it?
        (["a", "b"], ["x/a", "y/a"]),
    ],
)
def test_names_that_agree_by_chance_are_no_pairs(
    predicted: list[str],
    true: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_maps(tmp_path / "pred", {name: [[0, 1]] for name in predicted})
    write_maps(tmp_path / "true", {name: [[0, 1]] for name in true})
    assert score(tmp_path, monkeypatch) == 1
    error = capsys.readouterr().err
    assert f"predictions without a mask ({len(predicted)}): {predicted[0]}.png" in error
    assert "leave others out with a quoted glob" in error


@pytest.mark.parametrize(
    ("maps", "settings", "parts"),
    [
        (
            {"a": [[0, 1]], "c": [[0, 1]]},
            (),
            ["predictions without a mask (1): c.png", "masks without a prediction (1): b.png"],
        ),
        ({"a": [[0, 1]], "b": [[0], [1]]}, (), ["b.png is 1 x 2", "is 2 x 1"]),
        ({"a": [[0, 1]], "b": [[0, 7]]}, (), ["prediction", "b.png", "outside the label space: 7 (1 pixels)"]),
        ({"a": [[0, 1]], "b": [[0, 1]]}, ("datasets.classes={0: back, 3: far}",), ["mask ", "a.png", "1 (1 pixels)"]),
        ({"a": [[[0, 0, 9], [9, 0, 0]]], "b": [[0, 1]]}, (), ["a.png", "RGB mask"]),
        ({"a": [[0, 1]], "b": [[0, 1]]}, ("datasets.ignore=[1]",), ["1 classes"]),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    maps: dict[str, Any],
    settings: tuple[str, ...],
    parts: list[str],
) -> None:
    write_maps(tmp_path / "true", {"a": [[0, 1]], "b": [[1, 0]]})
    write_maps(tmp_path / "pred", maps)
    assert score(tmp_path, monkeypatch, *settings) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    for part in parts:
        assert part in error
    assert not (tmp_path / "pred" / "eval").exists()


def test_figures_of_others_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("true", "pred"):
        write_maps(tmp_path / folder, {"a": [[0, 1]]})
    out = tmp_path / "figures"
    for name, text in (
        ("metrics.json", '{"loss": 0.5}'),
        ("metrics.json", '{"loss": NaN}'),
        ("metrics.json", '{"checkpoint": "best", "split": "val", "policy": {"members": []}}'),
        ("per_class.csv", "mine"),
    ):
        for place, more in ((out, ("--out", out)), (tmp_path / "pred" / "eval", ())):
            place.mkdir()
            (place / name).write_text(text)
            assert score(tmp_path, monkeypatch, *more) == 1
            assert f"{place / name}: is there and of something else than label maps" in capsys.readouterr().err
            assert (place / name).read_text() == text
            shutil.rmtree(place)
    # Those of label maps are written anew, and are nothing that a run's figures may take the place of.
    for _ in range(2):
        assert score(tmp_path, monkeypatch, "--out", out) == 0
    for text in ((out / "metrics.json").read_text(), '{"loss": NaN}'):
        (out / "metrics.json").write_text(text)
        with pytest.raises(ValueError, match=r"figures: holds a metrics\.json that is of no run; give a new folder"):
            refuse_other_figures(out, "val")


def test_what_stands_outside_the_regions_alone_is_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_maps(tmp_path / "true", {"a": [[0, 1, 9, 9]]})
    write_maps(tmp_path / "pred", {"a": [[0, 1, 0, 0]]})
    regions = write_maps(tmp_path / "fov", {"a": [[255, 255, 0, 0]]})
    assert score(tmp_path, monkeypatch, f"datasets.regions={regions}") == 0
    found = read(tmp_path / "pred" / "eval")
    assert [row["label_id"] for row in found["per_class"]] == [0, 1] and found["mIoU"] == 100


def test_label_maps_that_the_last_prediction_did_not_make_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an image that failed, or of a call that was stopped, what lies there is an earlier run's."""
    maps = {"a": [[0, 1]], "sub/b": [[1, 0]], "c": [[1, 1]]}
    out = tmp_path / "pred"
    for folder in (tmp_path / "true", out / "labels", out / "overlays"):
        write_maps(folder, maps)
    record: dict[str, Any] = {"classes": [{"name": "back", "label_ids": [0], "colour": [0, 0, 0]}], "failed": {}}
    # Of c, predicted in another call, nothing is said.
    record["labels"] = {"photos/a.tif": "labels/a.png", "photos/sub/b.tif": "labels/sub/b.png"}
    (out / "predictions.json").write_text(json.dumps(record))
    assert score(tmp_path, monkeypatch) == 0
    record["failed"] = {record["labels"].popitem()[0]: "damaged"}
    (out / "predictions.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert score(tmp_path, monkeypatch) == 1
    error = capsys.readouterr().err
    assert "these images failed, and label maps of an earlier call are there: labels/sub/b.png;" in error
    (out / "predictions.json").unlink()
    assert score(tmp_path, monkeypatch) == 1
    assert f"{out}: labels and overlays without predictions.json: a prediction that was stopped" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["no run is given; give one or more run folders", "--predictions DIR --masks DIR"]),
        (["a", "b"], ["a: no such folder; give the output_dir of a training"]),
        (["--predictions", "p"], ["--predictions is given without --masks"]),
        (["--masks", "m", "run"], ["--masks is given without --predictions"]),
        (["--predictions", "p", "--masks", "m", "run"], ["without a run; leave out run"]),
        (["--predictions", "p", "--masks", "m", "--split", "val"], ["leave out --split"]),
        (["--predictions", "p", "--masks", "m", "--shard", "1/2"], ["leave out --shard"]),
        (["--predictions", "p", "--masks", "m"], ["--predictions p: no such folder", "or a quoted glob (gt"]),
        (["--predictions", ".", "--masks", "m/*.png"], ["--masks m/*.png: no label map matches (PNG"]),
        (["run", "--out", "x"], ["--out goes with several runs, a published head, or --predictions"]),
        (["run", "--merge", "--shard", "1/2"], ["--merge takes everything from the shards; leave out --shard"]),
        (["run", "--merge", "eval.mode=whole"], ["leave out eval.mode=whole"]),
        (["run", "--shard", "3/2"], ["--shard 3/2: write i/n"]),
    ],
)
def test_options_that_do_not_go_together_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    parts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["eval", *arguments], monkeypatch) == 1
    error = capsys.readouterr().err
    for part in parts:
        assert part in error
