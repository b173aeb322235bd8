"""Weights of classes: never worse than none, and each step as good as trying every weight."""

from typing import Any

import numpy as np
import pytest

from dinoseg.evaluation import class_weights
from dinoseg.evaluation.class_weights import tune_class_weights


def _pixels(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """A frequent class and two rare ones, of which a model that counts pixels says too little."""
    generator = np.random.default_rng(3)
    truth = generator.choice(3, count, p=[0.9, 0.07, 0.03])
    scores = generator.normal(size=(count, 3)) + 1.5 * np.eye(3)[truth] + np.log([0.9, 0.07, 0.03])
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), truth


def _mean(prediction: np.ndarray, truth: np.ndarray, figure: str) -> float:
    values = []
    for index in np.unique(truth):
        both, either = (
            ((prediction == index) & (truth == index)).sum(),
            ((prediction == index) | (truth == index)).sum(),
        )
        values.append(both / either if figure == "IoU" else 2 * both / (either + both))
    return float(100 * np.mean(values))


@pytest.mark.parametrize("figure", ["Dice", "IoU"])
def test_the_figure_is_what_these_weights_give(figure: Any) -> None:
    probabilities, truth = _pixels()
    found = tune_class_weights(probabilities, truth, figure)
    assert found.before == pytest.approx(_mean(probabilities.argmax(axis=1), truth, figure))
    decided = (probabilities * np.array(found.weights)).argmax(axis=1)
    assert found.after == pytest.approx(_mean(decided, truth, figure), abs=0.2)
    assert found.after > found.before + 3
    assert np.log(found.weights).mean() == pytest.approx(0)
    assert found.weights[0] < min(found.weights[1:])


def test_every_weight_of_one_class_is_judged_as_if_it_were_tried() -> None:
    probabilities, truth = _pixels(200)
    weights, factors = np.array([1.0, 2.0, 0.7]), np.exp(np.linspace(-3, 3, 25))
    for index in range(3):
        values = class_weights._figures_of_factors(probabilities, weights, truth, index, factors, "Dice")
        for factor, value in zip(factors, values, strict=True):
            tried = weights.copy()
            tried[index] = factor
            assert value == pytest.approx(_mean((probabilities * tried).argmax(axis=1), truth, "Dice"))


def test_what_is_right_already_is_left_alone() -> None:
    truth = np.array([0, 1, 2, 1])
    found = tune_class_weights(0.8 * np.eye(3)[truth] + 0.1, truth, "Dice")
    assert found.weights == (1, 1, 1) and found.before == found.after == 100
    with pytest.raises(ValueError, match="no pixel counts"):
        tune_class_weights(np.zeros((0, 3)), np.zeros(0, int), "Dice")


@pytest.mark.parametrize("figure", ["Dice", "IoU"])
def test_a_class_that_the_truth_does_not_hold_is_not_weighed_away(figure: Any) -> None:
    probabilities, truth = _pixels()
    known = truth != 1
    found = tune_class_weights(probabilities[known], truth[known], figure)
    among = probabilities[known][:, [0, 2]]
    alone = tune_class_weights(among, truth[known] // 2, figure)
    assert found.weights == (alone.weights[0], 1, alone.weights[1])
    decided = (probabilities[known] * np.array(found.weights)).argmax(axis=1)
    assert found.after == pytest.approx(_mean(decided, truth[known], figure))
