"""The temperature against a grid search, and the pixels it is fitted to."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dinoseg.data.dataset import Sample
from dinoseg.evaluation.temperature import PixelSample, fit_temperature, mean_surprise
from dinoseg.inference.judged_rows import JudgedRows, Say


def _pixels(sharpness: float, count: int = 4000) -> tuple[Tensor, Tensor]:
    """Classes drawn from known probabilities, and logarithms of probabilities that are too sharp or too flat."""
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(count, 3, generator=generator)
    truth = torch.multinomial(scores.softmax(dim=1), 1, generator=generator)[:, 0]
    return (sharpness * scores).log_softmax(dim=1), truth


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_best_of_a_grid(sharpness: float) -> None:
    log_probabilities, truth = _pixels(sharpness)
    found = fit_temperature(log_probabilities, truth)
    grid = np.exp(np.linspace(np.log(found / 2), np.log(found * 2), 401))
    # Independently: cross-entropy of the scaled logarithms.
    losses = [float(torch.nn.functional.cross_entropy(log_probabilities / float(t), truth)) for t in grid]
    assert abs(np.log(grid[int(np.argmin(losses))] / found)) < 0.02
    assert found == pytest.approx(sharpness, rel=0.15)
    assert mean_surprise(log_probabilities, truth, found) <= mean_surprise(log_probabilities, truth, 1.0)


def test_no_pixel_is_said() -> None:
    with pytest.raises(ValueError, match="no pixel counts in these images"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0).long())


def _sample_of(name: str, truth: Tensor) -> Sample:
    return {"image": torch.zeros(3, *truth.shape), "class_map": truth, "index": 0, "name": name}


def _taken(stripe: int, seed: int = 0, per_image: int = 7) -> tuple[Tensor, Tensor]:
    scores = torch.randn(3, 10, 6, generator=torch.Generator().manual_seed(1))
    truth = torch.arange(60).reshape(10, 6) % 3
    truth[2:5] = 255
    sample = PixelSample(per_image, 255, seed)
    for first in range(0, 10, stripe):
        rows = scores[:, first : first + stripe]
        judged = JudgedRows(first, rows.argmax(dim=0).to(torch.uint8), (Say(rows, False, 1.9),))
        sample.take(_sample_of("a", truth), judged)
    assert sample.of_image("b") == []
    parts = sample.of_image("a")
    return torch.cat([values for values, _ in parts]), torch.cat([classes for _, classes in parts])


def test_pixels_do_not_depend_on_stripes_and_are_taken_without_a_temperature() -> None:
    values, truth = _taken(10)
    assert len(truth) == 7 and bool((truth < 3).all())
    torch.testing.assert_close(values.logsumexp(dim=1), torch.zeros(7))
    for stripe in (1, 3, 4):
        other = _taken(stripe)
        assert torch.equal(other[1], truth)
        torch.testing.assert_close(other[0], values)
    assert not torch.equal(_taken(10, seed=1)[0], values)
    every = _taken(10, per_image=1000)
    assert len(every[1]) == 42
