"""Least sizes of patches: what is promised is what is reached, and nothing is taken that gains nothing."""

import numpy as np
import pytest

from dinoseg.evaluation.least_patches import SIZES, PatchCounts
from dinoseg.inference.small_patches import absorb_small_patches

CLASSES = 3


def noisy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction with specks of all classes, and the truth, a part of which is ignored."""
    generator = np.random.default_rng(seed)
    truth = np.zeros((60, 70), np.uint8)
    truth[10:40, 10:30], truth[20:50, 45:60] = 1, 2
    predicted = truth.copy()
    for _ in range(40):
        row, column, size = generator.integers(0, 60), generator.integers(0, 70), generator.integers(1, 5)
        predicted[row : row + size, column : column + size] = generator.integers(0, CLASSES)
    truth[55:] = 255
    return predicted, truth


def counted(images: list[tuple[np.ndarray, np.ndarray]]) -> PatchCounts:
    counts = PatchCounts.empty(CLASSES)
    for predicted, truth in images:
        counts.add(predicted, truth)
    return counts


def iou(images: list[tuple[np.ndarray, np.ndarray]], least: list[int]) -> float:
    values = []
    for index in range(CLASSES):
        union = intersection = 0
        for predicted, truth in images:
            found, valid = absorb_small_patches(predicted, least), truth != 255
            union += (((found == index) | (truth == index)) & valid).sum()
            intersection += ((found == index) & (truth == index) & valid).sum()
        values.append(100 * intersection / union)
    return float(np.mean(values))


def test_the_sizes_are_as_good_as_any_for_one_class_alone() -> None:
    images = [noisy(seed) for seed in range(3)]
    least = counted(images).best("IoU")
    reached = iou(images, least)
    assert reached > iou(images, [0, 0, 0]) + 5 and set(least) <= set(SIZES)
    for index in range(CLASSES):
        for size in SIZES:
            assert reached >= iou(images, [*least[:index], size, *least[index + 1 :]]) - 2e-3


def test_parts_of_the_images_add_up() -> None:
    images = [noisy(seed) for seed in range(4)]
    whole, parts = counted(images), PatchCounts.sum_of([counted(images[::2]), counted(images[1::2])])
    assert all(np.array_equal(vars(parts)[name], value) for name, value in vars(whole).items())
    assert parts.best("Dice") == whole.best("Dice")


@pytest.mark.parametrize("figure", ["Dice", "IoU"])
def test_a_right_prediction_is_left_as_it_is(figure: str) -> None:
    truth = noisy(0)[1]
    assert counted([(np.where(truth == 255, 0, truth).astype(np.uint8), truth)]).best(figure) == [0, 0, 0]


@pytest.mark.parametrize("figure", ["Dice", "IoU"])
def test_a_class_that_the_truth_does_not_hold_is_left_as_it_is(figure: str) -> None:
    predicted, truth = noisy(0)
    truth[truth == 2] = 0
    least = counted([(predicted, truth)]).best(figure)
    assert least[2] == 0 and any(least)
