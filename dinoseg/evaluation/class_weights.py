"""Weights of classes by which another figure than accuracy is decided for: the class with the largest weight times
probability wins.

They are tuned on known pixels, one class at a time: with the others fixed, every pixel has one threshold at which the
class begins to win it, so that a sort of thresholds tells the figure at all of them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

TunedFigure = Literal["Dice", "IoU"]
# Factors that a weight may take in one step, and how often every class has its turn.
_FACTORS = np.exp(np.linspace(-3, 3, 241))
_ROUNDS = 4
# Of the figure, in percent: less is noise.
_LEAST_GAIN = 1e-3


@dataclass(frozen=True)
class ClassWeights:
    """Weights by class index, whose logarithms have mean 0; and the figure's mean over classes of the pixels, in
    percent, with equal weights and with these."""

    weights: tuple[float, ...]
    before: float
    after: float


def tune_class_weights(
    probabilities: Float[np.ndarray, "pixels classes"], truth: Int[np.ndarray, " pixels"], figure: TunedFigure
) -> ClassWeights:
    """Weights for the best mean of a figure over the classes that the truth holds.

    Equal weights are where it starts, and a step that gains nothing is not taken. Nothing is known of a class that the
    truth does not hold, and any weight below the others' could gain: it is left out of the search, at weight 1.

    Args:
        truth: class indices.

    Raises:
        ValueError: no pixel.
    """
    if not len(truth):
        raise ValueError("no pixel counts in these images: nothing to tune weights to")
    classes = probabilities.shape[1]
    held = np.bincount(truth, minlength=classes) > 0
    if not held.all():
        weights = np.ones(classes)
        weights[held] = tune_class_weights(probabilities[:, held], (held.cumsum() - 1)[truth], figure).weights
        decided = [probabilities.argmax(axis=1), (probabilities * weights).argmax(axis=1)]
        return ClassWeights(
            tuple(weights.tolist()), *(mean_figure(_counts(found, truth, classes), figure) for found in decided)
        )
    weights = np.ones(classes)
    before = best = mean_figure(_counts(probabilities.argmax(axis=1), truth, classes), figure)
    for _ in range(_ROUNDS):
        start = best
        for index in range(classes):
            factors = weights[index] * _FACTORS
            values = _figures_of_factors(probabilities, weights, truth, index, factors, figure)
            choice = int(values.argmax())
            if values[choice] > best + _LEAST_GAIN:
                weights[index], best = factors[choice], float(values[choice])
        if best <= start:
            break
    weights /= np.exp(np.log(weights).mean())
    return ClassWeights(tuple(weights.tolist()), before, best)


def _figures_of_factors(
    probabilities: Float[np.ndarray, "pixels classes"],
    weights: Float[np.ndarray, " classes"],
    truth: Int[np.ndarray, " pixels"],
    index: int,
    factors: Float[np.ndarray, " factors"],
    figure: TunedFigure,
) -> Float[np.ndarray, " factors"]:
    """The mean figure for each weight of one class, the others as they are; ``factors`` ascend."""
    classes = len(weights)
    rivals = probabilities * weights
    rivals[:, index] = -1
    rival = rivals.argmax(axis=1)
    strongest = rivals[np.arange(len(truth)), rival]
    own = np.maximum(probabilities[:, index], np.finfo(np.float32).tiny)
    # How many of the weights are too small for the class to win a pixel.
    lost = np.searchsorted(factors, strongest / own, side="right")
    steps = len(factors) + 1
    # Pixels by the class that has them while they are lost, and whether it is the true one.
    held = _table(rival, lost, classes, steps)
    held_right = _table(rival[rival == truth], lost[rival == truth], classes, steps)
    won, won_right = np.bincount(lost, minlength=steps), np.bincount(lost[truth == index], minlength=steps)
    # With weight k a pixel is lost whose count of too small weights is above k.
    predicted = held[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    right = held_right[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    predicted[index], right[index] = won.cumsum()[:-1], won_right.cumsum()[:-1]
    true = np.bincount(truth, minlength=classes)
    return np.array([mean_figure(np.stack([right[:, k], predicted[:, k], true]), figure) for k in range(len(factors))])


def _table(
    rows: Int[np.ndarray, " pixels"], columns: Int[np.ndarray, " pixels"], height: int, width: int
) -> Int[np.ndarray, "height width"]:
    return np.bincount(rows * width + columns, minlength=height * width).reshape(height, width)


def _counts(
    prediction: Int[np.ndarray, " pixels"], truth: Int[np.ndarray, " pixels"], classes: int
) -> Int[np.ndarray, "3 classes"]:
    """Pixels in intersection, prediction and truth."""
    pairs = (truth[prediction == truth], prediction, truth)
    return np.stack([np.bincount(values, minlength=classes) for values in pairs])


def mean_figure(counts: Int[np.ndarray, "3 classes"], figure: TunedFigure) -> float:
    """In percent, over the classes that the truth holds.

    Args:
        counts: pixels in intersection, prediction and truth.
    """
    right, predicted, true = counts[:, counts[2] > 0].astype(np.float64)
    values = 2 * right / (predicted + true) if figure == "Dice" else right / (predicted + true - right)
    return float(100 * values.mean())
