"""Probabilities: temperatures, stripes, the mean by hand, rounding that keeps the class, and what the API gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import train_tiny_run
from torch import Tensor

import dinoseg
from dinoseg.inference.judged_rows import JudgedRows
from dinoseg.inference.pixel_maps import PixelMaps, as_bytes, largest_first, rounded
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.tta import TtaPolicy
from dinoseg.inference.windows import Sight, mean_class_map
from dinoseg.models.head import class_probabilities

CPU = torch.device("cpu")
NAMES = ("scores", "probabilities", "confidence", "uncertainty")


class ColourModel:
    """Raw scores, or sums of probabilities, that depend on the colour."""

    def __init__(self, seed: int, scores_are_probabilities: bool = False) -> None:
        self.num_classes = 4
        self.scores_are_probabilities = scores_are_probabilities
        self._weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))

    def semantic_logits(self, image: Tensor) -> Tensor:
        scores = torch.einsum("kc,bchw->bkhw", self._weights, image)
        return scores.sigmoid() if self.scores_are_probabilities else scores


def _image() -> Tensor:
    return torch.randn(3, 40, 30, generator=torch.Generator().manual_seed(4))


def _sights(*temperatures: float) -> list[Sight]:
    whole, views = WindowPolicy(mode="whole"), WindowPolicy(mode="whole", tta=TtaPolicy())
    kinds = [(ColourModel(1), whole), (ColourModel(2, True), whole), (ColourModel(3), views)]
    return [
        Sight(model, _image(), policy, temperature=temperature)
        for (model, policy), temperature in zip(kinds, temperatures, strict=False)
    ]


def _maps(sights: list[Sight], stripe_rows: int = 40) -> tuple[PixelMaps, Tensor]:
    maps = PixelMaps.empty(4, (40, 30), NAMES)
    class_map = mean_class_map(sights, CPU, stripe_rows=stripe_rows, on_rows=maps.fill)
    return maps, class_map


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_temperature_divides_logarithms(temperature: float) -> None:
    scores = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
    softened = class_probabilities(scores, False, temperature)
    torch.testing.assert_close(softened, (scores / temperature).softmax(dim=0))
    # Of probabilities, whatever they add up to, the same.
    torch.testing.assert_close(class_probabilities(0.4 * scores.softmax(dim=0), True, temperature), softened)
    assert torch.equal(softened.argmax(dim=0), scores.argmax(dim=0))


def test_what_says_nothing_stays_nothing() -> None:
    assert class_probabilities(torch.zeros(3, 2, 2), True, 0.5).tolist() == torch.zeros(3, 2, 2).tolist()
    # Far from 1 no power of a small number may make all of them vanish.
    sharp = class_probabilities(torch.tensor([[[1e-3]], [[2e-3]]]), True, 0.02)
    torch.testing.assert_close(sharp.sum(), torch.tensor(1.0))


def test_a_temperature_changes_no_class_of_one_model() -> None:
    for kind in range(3):
        plain, hot = (_sights(t, t, t)[kind : kind + 1] for t in (1.0, 3.0))
        assert torch.equal(_maps(plain)[1], _maps(hot)[1])
        assert torch.equal(_maps(plain)[1], mean_class_map(hot, CPU))
        assert not np.allclose(_maps(plain)[0].probabilities, _maps(hot)[0].probabilities)


def test_the_mean_by_hand_takes_each_at_its_own_temperature() -> None:
    raw, sums, views = (_maps([sight])[0].scores for sight in _sights(1.0, 1.0, 1.0))
    expected = torch.softmax(torch.tensor(raw) / 2.0, dim=0)
    powers = torch.tensor(sums) ** (1 / 0.5)
    expected += powers / powers.sum(dim=0)
    powers = torch.tensor(views) ** (1 / 1.5)
    expected = (expected + powers / powers.sum(dim=0)) / 3
    maps, class_map = _maps(_sights(2.0, 0.5, 1.5))
    np.testing.assert_allclose(maps.probabilities, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert np.array_equal(class_map.numpy(), maps.probabilities.argmax(axis=0))
    np.testing.assert_allclose(maps.confidence, expected.amax(dim=0).numpy(), rtol=1e-5)
    assert np.array_equal(mean_class_map(_sights(2.0, 0.5, 1.5), CPU), class_map)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("rows", [1, 7])
def test_stripes_give_what_the_whole_gives(rows: int, count: int) -> None:
    sights = _sights(1.3, 0.8, 2.0)[:count]
    whole, striped = _maps(sights)[0], _maps(sights, rows)[0]
    for name in NAMES:
        np.testing.assert_allclose(getattr(striped, name), getattr(whole, name), rtol=1e-6, atol=1e-7)
    seen: list[tuple[int, int]] = []

    def note(judged: JudgedRows) -> None:
        assert judged.probabilities.shape[1] <= rows
        seen.append((judged.first, judged.last))

    mean_class_map(sights, CPU, stripe_rows=rows, on_rows=note)
    assert [first for first, _ in seen] == list(range(0, 40, rows)) and seen[-1][1] == 40


def test_rounding_keeps_the_class() -> None:
    probabilities = torch.tensor([[[0.40001, 0.3, 0.5]], [[0.40002, 0.4, 0.5]], [[0.19997, 0.3, 0.0]]])
    class_map = torch.tensor([[1, 1, 1]], dtype=torch.uint8)
    for dtype in (np.float16, np.float32):
        found = rounded(probabilities, class_map, dtype)
        assert found.dtype == dtype and found.argmax(axis=0).tolist() == [[1, 1, 1]]
        assert np.abs(found - probabilities.numpy()).max() < 1e-3


def test_the_largest_come_first() -> None:
    values = np.array([[[0.2]], [[0.5]], [[0.2]], [[0.1]]], np.float16)
    largest, order = largest_first(values, 3)
    assert order[:, 0, 0].tolist() == [1, 0, 2] and largest[:, 0, 0].tolist() == values[[1, 0, 2], 0, 0].tolist()


def test_bytes_of_a_confidence() -> None:
    assert as_bytes(np.array([[0.0, 0.001, 0.5, 1.0]], np.float32)).tolist() == [[1, 1, 128, 255]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_tiny_run(
        tmp_path_factory, {"train": 2, "val": 1, "test": 1}, "datasets.classes={0: back, 1: red, 2: green}"
    )


@pytest.mark.filterwarnings("ignore:.*random")
def test_the_api_gives_them(finished: tuple[Path, Path]) -> None:
    data, run = finished
    image = next((data / "test/images").iterdir())
    segmenter = dinoseg.load(run, device="cpu")
    assert segmenter.temperatures == (1.0,)
    plain = segmenter.predict(image)
    assert plain.probabilities is None and plain.confidence is None and plain.uncertainty is None
    result = segmenter.predict(image, scores=True, probabilities=True, confidence=True)
    assert np.array_equal(result.class_map, plain.class_map)
    assert result.probabilities is not None and result.confidence is not None and result.uncertainty is not None
    expected = torch.tensor(result.scores).softmax(dim=0).numpy()
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.confidence, expected.max(axis=0), rtol=1e-5)
    entropy = -(expected * np.log(expected)).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(result.uncertainty, entropy, rtol=1e-4, atol=1e-5)
    (one,) = segmenter.predict([image], probabilities=True)
    assert np.array_equal(one.probabilities, result.probabilities) and one.confidence is None
    sure = np.asarray(result.overlay(legend=False), int) - np.asarray(result.overlay(legend=False, fading=True), int)
    assert np.abs(sure).max() > 0
    with pytest.raises(ValueError, match="predict with confidence=True"):
        plain.overlay(fading=True)
