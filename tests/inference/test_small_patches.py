"""Small patches become what lies around them, by hand and by slow rules."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dinoseg.inference.small_patches import SmallPatches, absorb_small_patches


def drawn(*rows: str) -> np.ndarray:
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.uint8)


def test_a_patch_below_its_size_becomes_what_most_of_its_border_is() -> None:
    class_map = drawn("00000", "01102", "00022", "00022")
    assert absorb_small_patches(class_map, [0, 2, 0]).tolist() == class_map.tolist()
    expected = drawn("00000", "00002", "00022", "00022")
    assert absorb_small_patches(class_map, [0, 3, 0]).tolist() == expected.tolist()
    assert absorb_small_patches(class_map, [0, 3, 6])[:, 3:].tolist() == np.zeros((4, 2)).tolist()


def test_corners_connect() -> None:
    thin = drawn("1000", "0100", "0010", "0001")
    assert absorb_small_patches(thin, [0, 4]).tolist() == thin.tolist()
    assert not absorb_small_patches(thin, [0, 5]).any()


def test_holes_are_patches_of_what_is_in_them() -> None:
    ring = drawn("1111", "1001", "1001", "1111")
    assert absorb_small_patches(ring, [5, 0]).tolist() == np.ones((4, 4)).tolist()


def test_neighbours_do_not_decide_for_each_other() -> None:
    """Both are judged on the map as it was: each becomes what the other was."""
    assert absorb_small_patches(drawn("12"), [0, 9, 9]).tolist() == [[2, 1]]


def test_a_map_of_one_class_stays() -> None:
    assert absorb_small_patches(np.full((3, 4), 2, np.uint8), [99, 99, 99]).tolist() == np.full((3, 4), 2).tolist()
    assert absorb_small_patches(np.zeros((0, 4), np.uint8), [9]).shape == (0, 4)


def _slowly(class_map: np.ndarray, least: list[int]) -> np.ndarray:
    """The rule in words, pixel by pixel."""
    height, width = class_map.shape
    found, seen = class_map.copy(), set()
    for start in np.ndindex(height, width):
        if start in seen:
            continue
        own, patch, waiting = class_map[start], {start}, [start]
        while waiting:
            row, column = waiting.pop()
            for place in np.ndindex(3, 3):
                beside = (row + place[0] - 1, column + place[1] - 1)
                inside = 0 <= beside[0] < height and 0 <= beside[1] < width
                if inside and beside not in patch and class_map[beside] == own:
                    patch.add(beside)
                    waiting.append(beside)
        seen |= patch
        around = [0] * len(least)
        for row, column in patch:
            for beside in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if 0 <= beside[0] < height and 0 <= beside[1] < width and beside not in patch:
                    around[class_map[beside]] += 1
        if len(patch) < least[own] and any(around):
            for place in patch:
                found[place] = around.index(max(around))
    return found


@given(arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 2)), st.data())
def test_it_is_the_rule_in_words(class_map: np.ndarray, data: st.DataObject) -> None:
    least = data.draw(st.lists(st.integers(0, 6), min_size=3, max_size=3))
    assert absorb_small_patches(class_map, least).tolist() == _slowly(class_map, least).tolist()


def test_sizes_and_places_of_patches() -> None:
    found = SmallPatches.of(drawn("1001", "0001", "1000"), 1, 3)
    assert sorted(found.sizes.tolist()) == [1, 1, 2] and sorted(found.places.tolist()) == [0, 3, 7, 8]
    assert found.around.tolist() == [0, 0, 0]
