"""The plugin for napari: label maps of a prediction as layers, and the widget that makes one."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import train_tiny_run
from PIL import Image
from rich.console import Console

import dinoseg
from dinoseg.data.masks import read_mask
from dinoseg.inference.chosen_runs import choose_runs
from dinoseg.inference.outputs import OutputFolder
from dinoseg.napari.reader import read_label_maps, reader_of
from dinoseg.verbs.predict import predict_run


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and the predictions of its test images."""
    data, run = train_tiny_run(tmp_path_factory, {"train": 3, "val": 1, "test": 2})
    out = tmp_path_factory.mktemp("predictions")
    predict_run(choose_runs(run), [str(data / "test" / "images")], OutputFolder(out), Console(quiet=True))
    return run, out


def test_a_label_map_is_read_with_names_and_colours(predicted: tuple[Path, Path]) -> None:
    paths = sorted(str(path) for path in (predicted[1] / "labels").iterdir())
    reader = reader_of(paths)
    assert reader is not None
    layers = reader(paths)
    classes = json.loads((predicted[1] / "predictions.json").read_text())["classes"]
    for path, (labels, settings, kind) in zip(paths, layers, strict=True):
        assert kind == "labels" and settings["name"] == Path(path).stem
        np.testing.assert_array_equal(labels, read_mask(Path(path)))
        assert settings["features"] == {
            "index": [label_id for entry in classes for label_id in entry["label_ids"]],
            "class": [entry["name"] for entry in classes for _ in entry["label_ids"]],
        }
        assert settings["colormap"][None][3] == 0
        assert [
            [round(channel * 255) for channel in settings["colormap"][entry["label_ids"][0]][:3]] for entry in classes
        ] == [entry["colour"] for entry in classes]


def test_other_files_are_left_to_others(predicted: tuple[Path, Path], tmp_path: Path) -> None:
    out = predicted[1]
    Image.new("L", (4, 4)).save(tmp_path / "picture.png")
    overlay = next((out / "overlays").iterdir())
    assert reader_of([]) is None
    for path in (tmp_path / "picture.png", overlay):
        assert reader_of(str(path)) is None
        with pytest.raises(ValueError, match=f"^{path}: not in the labels/ folder of a prediction; open a label map"):
            read_label_maps(str(path))


def test_damaged_predictions_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "predictions.json").write_text('{"classes": [{"name": "a", "label_ids": [], "colour": [1, 2, 3]}]}')
    with pytest.raises(
        ValueError,
        match=r"predictions\.json: classes\[0\]\.label_ids: a list of 0 found, .*; run `dinoseg",
    ):
        reader_of(str(tmp_path / "labels" / "a.png"))


def test_the_widget_predicts_what_predict_does(predicted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """In napari itself: its layers, its plugin manager, its worker."""
    pytest.importorskip("napari.layers", reason="needs napari (pip install 'dinoseg[napari]')")
    from napari.layers import Image as ImageLayer
    from napari.layers import Layer
    from napari.qt import get_qapp
    from npe2 import PluginManager

    from dinoseg.napari.segment import segment, segmented_layer

    run = predicted[0]
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 56, 3), dtype=np.uint8)
    turned = np.array([[1, 0, 0, 0], [0, 0, -1, 5], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    image = ImageLayer(pictures, rgb=True, scale=(1, 0.5, 0.5), affine=turned)
    made = Layer.create(*segmented_layer(image, run))
    predictor = dinoseg.load(run)
    np.testing.assert_array_equal(made.data, np.stack([predictor.predict(picture).labels for picture in pictures]))
    assert tuple(made.scale) == (1, 0.5, 0.5)
    np.testing.assert_allclose(made.affine.affine_matrix, turned)
    entry = predictor.label_space.classes[1]
    np.testing.assert_allclose(made.get_color(entry.label_ids[0])[:3], np.array(entry.colour) / 255, atol=1e-6)
    with pytest.raises(ValueError, match=r"^there is no image to segment; open one first$"):
        segment(None, run)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    window, layers = get_qapp(), []
    segment(ImageLayer(pictures[0], rgb=True, name="fundus"), run).returned.connect(layers.append)
    for _ in range(600):
        window.processEvents()
        time.sleep(0 if layers else 0.05)
    np.testing.assert_array_equal(layers[0][0], made.data[0])
    assert layers[0][1]["name"] == f"fundus by {run.name}"
    found = PluginManager()
    found.discover()
    assert found.get_manifest("dinoseg").contributions.widgets[0].display_name == "Segment"
