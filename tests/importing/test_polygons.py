"""A pixel belongs to a polygon if its centre lies inside: against exact arithmetic, point by point."""

from fractions import Fraction

import numpy as np
import pytest
from helpers.annotations import outlines, random_ids
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoseg.importing import polygons
from dinoseg.importing.polygons import Polygon, box_ring, ring_of

HEIGHT, WIDTH = 9, 11
# Eighths, within the picture and outside it: exact as floats, and often on a centre.
COORDINATE = st.integers(-16, 8 * 14).map(lambda eighths: eighths / 8)
RING = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=9)


def pixels(polygon: Polygon, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """How often each pixel is painted."""
    runs, counts = polygon.runs(height, width), np.zeros((height, width), int)
    for row, start, end in zip(runs.rows, runs.starts, runs.ends, strict=True):
        assert 0 <= start < end <= width
        counts[row, start:end] += 1
    assert runs.area == counts.sum()
    return counts


def polygon_of(*rings: list[tuple[float, float]]) -> Polygon:
    return Polygon(tuple(ring_of(ring, "test") for ring in rings))


def crossings(ring: list[tuple[float, float]], x: Fraction, y: Fraction) -> int | None:
    """How many sides lie to the right of a point; None for a point on a side."""
    count = 0
    for (ax, ay), (bx, by) in zip(ring, [*ring[1:], ring[0]], strict=True):
        x0, y0, x1, y1 = (Fraction(value) for value in (ax, ay, bx, by))
        side = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        if side == 0 and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
            return None
        if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            count += 1
    return count


@settings(max_examples=300, deadline=None)
@given(st.lists(RING, min_size=1, max_size=3))
def test_every_centre_that_is_on_no_side_is_where_exact_arithmetic_says(rings: list[list[tuple[float, float]]]) -> None:
    painted = pixels(polygon_of(*rings))
    assert painted.max() <= 1
    for row in range(HEIGHT):
        for column in range(WIDTH):
            found = [crossings(ring, Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2)) for ring in rings]
            if None not in found:
                assert painted[row, column] == sum(filter(None, found)) % 2


@settings(max_examples=100, deadline=None)
@given(RING, st.tuples(COORDINATE, COORDINATE))
def test_polygons_with_a_common_side_share_no_pixel_and_leave_none_out(
    ring: list[tuple[float, float]], apex: tuple[float, float]
) -> None:
    """A fan of triangles around a point covers, by the even-odd rule, what its outline covers."""
    total = np.zeros((HEIGHT, WIDTH), int)
    for start, end in zip(ring, [*ring[1:], ring[0]], strict=True):
        total += pixels(polygon_of([apex, start, end]))
    np.testing.assert_array_equal(total % 2, pixels(polygon_of(ring)))


@settings(max_examples=50, deadline=None)
@given(RING)
def test_direction_and_first_corner_do_not_matter(ring: list[tuple[float, float]]) -> None:
    expected = pixels(polygon_of(ring))
    np.testing.assert_array_equal(pixels(polygon_of(ring[::-1])), expected)
    np.testing.assert_array_equal(pixels(polygon_of([*ring[2:], *ring[:2]])), expected)


@settings(max_examples=50, deadline=None)
@given(RING, st.integers(1, 40))
def test_bands_that_fit_the_memory_change_nothing(ring: list[tuple[float, float]], most: int) -> None:
    expected = pixels(polygon_of(ring))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygons, "_MOST_CROSSINGS", most)
        np.testing.assert_array_equal(pixels(polygon_of(ring)), expected)


@pytest.mark.parametrize("seed", range(5))
def test_outlines_of_pixels_give_the_pixels(seed: int) -> None:
    region = random_ids(seed) > 0
    polygon = polygon_of(*outlines(region))
    np.testing.assert_array_equal(pixels(polygon, *region.shape), region)


def test_a_centre_on_a_left_or_upper_side_belongs_to_it() -> None:
    box = pixels(Polygon((box_ring(1.5, 2.5, 4.5, 5.5),)))
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[2:5, 1:4] = 1
    np.testing.assert_array_equal(box, expected)


def test_what_is_outside_is_cut_and_far_corners_do_no_harm() -> None:
    assert pixels(polygon_of([(-1e6, -1e6), (1e6, -1e6), (1e6, 1e6), (-1e6, 1e6)])).all()
    assert not pixels(polygon_of([(50, 0), (60, 0), (60, 9)])).any()
    assert not pixels(polygon_of([(-9, 0), (-1, 0), (-1, 9)])).any()


def test_a_turned_box_goes_clockwise() -> None:
    # A quarter turn about its centre (5, 4) makes the wide box a high one.
    np.testing.assert_array_equal(
        pixels(Polygon((box_ring(2.0, 3.0, 8.0, 5.0, 90.0),))), pixels(Polygon((box_ring(4.0, 1.0, 6.0, 7.0),)))
    )
    corner = box_ring(0.0, 0.0, 2.0, 2.0, 30.0)[0]
    # The upper left corner goes up and to the right.
    assert corner[0] > 0 and corner[1] < 0


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[0, 0], [1, 1]], "a polygon of 2 points, which covers nothing; three are the fewest"),
        ([], "a polygon of 0 points"),
        ([[0, 0], [1, 1], [2]], "point 2 is [2]; two numbers [x, y] expected"),
        ([[0, 0], [1, "a"], [2, 2]], "point 1 is [1, 'a']"),
        ([[0, 0], None, [2, 2]], "point 1 is null"),
        ([[0, 0], [float("nan"), 1], [2, 2]], "point 1 is [nan, 1]"),
        ([[0, 0], [1e9, 1], [2, 2]], "coordinate 1e+09 is far from any picture"),
    ],
)
def test_what_is_no_polygon_is_said(points: list[object], words: str) -> None:
    with pytest.raises(ValueError) as refused:
        ring_of(points, "shapes[4]")
    assert str(refused.value).startswith("shapes[4]") and words in str(refused.value)
