"""Widths by hand: bars, diagonals, discs; nubs of a ragged edge; the border of the image."""

import numpy as np
import pytest

from dinoseg.planning.widths import Width, middle_widths


def _width(region: np.ndarray) -> Width:
    found = Width.of(middle_widths(region))
    assert found is not None
    return found


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 21])
@pytest.mark.parametrize("across", [False, True])
def test_a_bar_is_as_wide_as_it_is(width: int, across: bool) -> None:
    region = np.zeros((60, 90), bool)
    region[20 : 20 + width, 10:80] = True
    found = _width(region.T if across else region)
    assert (found.median, found.tenth) == (width, width)


def test_a_diagonal_bar() -> None:
    rows, columns = np.mgrid[:80, :80]
    # Seven pixels across a row: 7 / sqrt(2) across the bar.
    assert _width(np.abs(rows - columns) <= 3).median == pytest.approx(7 / np.sqrt(2), abs=0.6)


@pytest.mark.parametrize("radius", [3, 10, 30])
def test_a_disc_has_its_diameter(radius: int) -> None:
    rows, columns = np.mgrid[:100, :100]
    disc = (rows - 50) ** 2 + (columns - 50) ** 2 <= radius**2
    assert _width(disc).median == pytest.approx(2 * radius + 1, rel=0.3)


def test_two_widths_by_their_area() -> None:
    region = np.zeros((120, 200), bool)
    region[10:13, :] = True  # 3 x 200
    region[40:60, :] = True  # 20 x 200
    found = _width(region)
    # The thin bar is 600 of 4,600 pixels: more than a tenth, less than half.
    assert (found.tenth, found.median) == (3, 20)


def test_a_ragged_edge_changes_little() -> None:
    region = np.zeros((60, 200), bool)
    region[20:30, :] = True
    region[19, ::4] = True
    assert _width(region).median == pytest.approx(10, abs=1)


def test_the_border_of_the_image_is_no_edge() -> None:
    region = np.zeros((50, 100), bool)
    region[:8, :] = True
    # Seven rows and the border: as far as can be seen, twice as wide.
    assert _width(region).median == 16
    assert _width(np.ones((30, 40), bool)).median == 30


def test_nothing_has_no_width() -> None:
    assert Width.of(middle_widths(np.zeros((5, 5), bool))) is None


def test_a_window_of_a_large_mask_says_the_same() -> None:
    region = np.zeros((1000, 2000), bool)
    region[::50, :] = True
    region[1::50, :] = True
    assert (_width(region).median, _width(region[:400, :500]).median) == (2, 2)
    # As wide as can be seen.
    assert _width(np.ones((1000, 2000), bool)).median == 512
    # Of a region that is small itself all is looked at, however large the mask.
    region[:] = False
    region[300:304, 100:700] = True
    assert len(middle_widths(region)) > 600


def test_what_a_window_cuts_does_not_look_thin() -> None:
    """Squares of 50, three of which the window holds in part."""
    region = np.zeros((1000, 1000), bool)
    for row in range(10, 1000, 100):
        for column in range(10, 1000, 100):
            region[row : row + 50, column : column + 50] = True
    found = _width(region)
    assert (found.tenth, found.median) == (50, 50)


def test_points_are_few_however_large_the_mask() -> None:
    region = np.zeros((500, 500), bool)
    region[::3, :] = True
    assert 1000 < len(middle_widths(region)) <= 5000
