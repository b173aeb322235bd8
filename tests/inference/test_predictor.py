"""Images, lists of images, scores and features through the Python API."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import train_tiny_run
from PIL import Image

import dinoseg
from dinoseg.models.segmenter import Segmenter

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Images and a run."""
    data, run = train_tiny_run(tmp_path_factory, {"train": 4, "val": 2, "test": 3}, "eval.crop_size=24")
    return sorted((data / "test" / "images").iterdir()), run


def test_a_list_gives_what_single_images_give(finished: tuple[list[Path], Path]) -> None:
    paths, run = finished
    segmenter = dinoseg.load(run)
    singles = [segmenter.predict(path).labels for path in paths]
    mixed = [paths[0], Image.open(paths[1]), np.asarray(Image.open(paths[2]))[:20]]
    found = segmenter.predict(mixed)
    assert isinstance(found, list)
    assert [result.labels.tolist() for result in found[:2]] == [labels.tolist() for labels in singles[:2]]
    assert found[2].labels.shape == (20, 56)
    assert segmenter.predict([]) == []
    assert len(segmenter.predict(path for path in paths)) == 3
    assert isinstance(segmenter.predict(str(paths[0])), dinoseg.Prediction)


def test_images_are_opened_one_ahead_and_a_bad_one_is_named(finished: tuple[list[Path], Path], tmp_path: Path) -> None:
    paths, run = finished
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    asked: list[Path] = []

    def asking() -> Iterator[Path]:
        for path in [*paths, bad, paths[0], paths[1]]:
            asked.append(path)
            yield path

    with pytest.raises(ValueError, match=r"bad\.png: not an image"):
        dinoseg.load(run).predict(asking())
    assert len(asked) == 4


@pytest.mark.parametrize("overrides", [(), ("eval.use_tta=true",), ("transforms.eval.img_size=64",)])
def test_scores_are_those_behind_the_class_map(finished: tuple[list[Path], Path], overrides: tuple[str, ...]) -> None:
    paths, run = finished
    segmenter = dinoseg.load(run, overrides=overrides)
    plain, result = segmenter.predict(paths[0]), segmenter.predict(paths[0], scores=True)
    assert plain.scores is None and result.scores is not None
    assert result.scores.shape == (3, 40, 56) and result.scores.dtype == np.float32
    np.testing.assert_array_equal(result.class_map, plain.class_map)
    np.testing.assert_array_equal(result.scores.argmax(axis=0), plain.class_map)
    np.testing.assert_array_equal(segmenter.scores(paths[0]), result.scores)
    if "eval.use_tta=true" in overrides:
        np.testing.assert_allclose(result.scores.sum(axis=0), 1, rtol=1e-5)


def test_features_are_the_backbones(finished: tuple[list[Path], Path]) -> None:
    paths, run = finished
    segmenter = dinoseg.load(run, overrides=["decoder_head.type=linear"])
    picture = Image.open(paths[0]).resize((60, 41))
    (feature,) = segmenter.features(picture)
    assert isinstance(segmenter.model, Segmenter)
    backbone = segmenter.model.backbone
    # 41 x 60 pixels are resized to 48 x 64: 6 x 8 patches of 8.
    assert feature.map.shape == (backbone.out_channels[0], 6, 8) and feature.map.dtype == torch.float32
    assert feature.stride == (41 / 6, 60 / 8) and feature.layer == backbone.layers[0]
    image = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        expected = backbone(((image - mean) / std)[None])[0]
    torch.testing.assert_close(feature.map, expected.map[0])
    assert feature.class_token is not None and expected.cls is not None
    torch.testing.assert_close(feature.class_token, expected.cls[0])
    (small,) = dinoseg.load(run, overrides=["transforms.eval.img_size=16"]).features(picture)
    assert small.map.shape[1:] == (2, 3)


def test_wrong_images_are_told(finished: tuple[list[Path], Path]) -> None:
    _, run = finished
    with pytest.raises(ValueError, match=r"an array of shape \(3, 8, 8\) and type uint8 is no image"):
        dinoseg.load(run).predict(np.zeros((3, 8, 8), dtype=np.uint8))
