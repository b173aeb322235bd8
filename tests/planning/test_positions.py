"""Does a data set have an up? Drawn ones that have, that have not, and that are too small to tell."""

import numpy as np
import pytest

from dinoseg.planning.positions import LEAST_IMAGES, Positions, class_grid


def test_shares_of_cells_by_hand() -> None:
    class_map = np.zeros((12, 12), np.uint8)
    class_map[:2, :2] = 1  # all of the first cell
    class_map[2, 0] = 1  # a quarter of the one below
    class_map[11, 11] = 255
    grid = class_grid(class_map, 2)
    assert grid.shape == (2, 6, 6)
    assert grid[1, 0, 0] == 1 and grid[1, 1, 0] == 0.25 and grid[0, 5, 5] == 0.75
    assert grid.sum() == 36 - 0.25


def _grids(draw: str, images: int) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    grids = []
    for _ in range(images):
        class_map = np.zeros((60, 60), np.uint8)
        for _ in range(6):
            row, column = generator.integers(0, 50, 2)
            row = row // 3 if draw == "above" else row
            class_map[row : row + 9, column : column + 9] = 1
        grids.append(class_grid(class_map, 2))
    return grids


@pytest.mark.parametrize("images", [LEAST_IMAGES, 40])
def test_what_lies_above_has_an_up_and_what_lies_anywhere_has_none(images: int) -> None:
    assert Positions.of(_grids("above", images)).has_up
    assert not Positions.of(_grids("anywhere", images)).has_up


def test_few_images_are_left_upright() -> None:
    found = Positions.of(_grids("anywhere", LEAST_IMAGES - 1))
    assert found.has_up and not found.is_known
    assert Positions.of([]).has_up
