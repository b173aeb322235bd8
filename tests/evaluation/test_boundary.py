"""Boundary IoU: bands by hand and pixel by pixel, class by class, as the paper defines them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoseg.evaluation.boundary import boundary_counts, boundary_distance

IGNORED = 255


def band_of(mask: np.ndarray, counted: np.ndarray, distance: int) -> np.ndarray:
    """Counted pixels of a mask from which a counted pixel outside of it, or the image's outside, is within reach."""
    height, width = mask.shape
    band = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask & counted), strict=True):
        for v in range(y - distance, y + distance + 1):
            for u in range(x - distance, x + distance + 1):
                inside = 0 <= v < height and 0 <= u < width
                band[y, x] |= not inside or (counted[v, u] and not mask[v, u])
    return band


def counted_one_by_one(prediction: np.ndarray, truth: np.ndarray, num_classes: int, distance: int) -> list[list[int]]:
    counted = truth != IGNORED
    bands = [
        [band_of(class_map == index, counted, distance) for class_map in (prediction, truth)]
        for index in range(num_classes)
    ]
    return [[int((a & b).sum()) for a, b in bands], [int((a | b).sum()) for a, b in bands]]


@st.composite
def map_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Prediction and truth in patches, the truth with ignored pixels, and the number of classes."""
    num_classes, side = draw(st.integers(1, 4)), draw(st.sampled_from([1, 3]))
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = (-(-height // side), -(-width // side))
    maps = [generator.integers(0, num_classes, shape).astype(np.uint8) for _ in range(2)]
    maps[1][generator.random(shape) < draw(st.sampled_from([0.0, 0.3]))] = IGNORED
    prediction, truth = (np.kron(m, np.ones((side, side), np.uint8))[:height, :width] for m in maps)
    return prediction, truth, num_classes


@settings(max_examples=80, deadline=None)
@given(map_pairs(), st.sampled_from([0.01, 0.1, 0.25]))
def test_bands_are_those_of_each_mask_on_its_own(drawn: tuple[np.ndarray, np.ndarray, int], share: float) -> None:
    prediction, truth, num_classes = drawn
    expected = counted_one_by_one(prediction, truth, num_classes, boundary_distance(*truth.shape, share))
    assert boundary_counts(prediction, truth, num_classes, IGNORED, share).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(map_pairs(), st.integers(0, 100))
def test_what_is_predicted_at_ignored_pixels_changes_nothing(
    drawn: tuple[np.ndarray, np.ndarray, int], seed: int
) -> None:
    prediction, truth, num_classes = drawn
    noise = np.random.default_rng(seed).integers(0, 256, truth.shape).astype(np.uint8)
    other = np.where(truth == IGNORED, noise, prediction)
    found = [boundary_counts(m, truth, num_classes, IGNORED, 0.1).tolist() for m in (prediction, other)]
    assert found[0] == found[1]


def test_a_shifted_square_by_hand() -> None:
    # 20 x 20 (d = 1 at 2 %): a square of 6 x 6, predicted one pixel to the right. Each band is its ring of 20 pixels;
    # the rings share the 5 + 5 pixels of top and bottom that overlap.
    truth, prediction = np.zeros((2, 20, 20), np.uint8)
    truth[7:13, 7:13] = 1
    prediction[7:13, 8:14] = 1
    assert boundary_distance(20, 20, 0.02) == 1
    intersection, union = boundary_counts(prediction, truth, 2, IGNORED)
    assert (intersection[1], union[1]) == (10, 30)
    # The background: its ring along the image (76 pixels), and the ring of 8 x 8 around the square without its inside,
    # 28 pixels each, of which 7 + 7 in the rows above and below and none in the columns agree.
    assert (intersection[0], union[0]) == (76 + 14, 76 + 42)


def test_the_interior_of_a_large_class_does_not_count() -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[10:90, 10:90] = 1
    frayed = truth.copy()
    frayed[10:90:2, 10:13] = 0
    intersection, union = boundary_counts(frayed, truth, 2, IGNORED)
    overlap = (frayed & truth).sum() / (frayed | truth).sum()
    assert overlap > 0.98 and intersection[1] / union[1] < 0.95


def test_no_contour_runs_along_ignored_pixels() -> None:
    truth = np.zeros((30, 30), np.uint8)
    truth[:, 15:] = IGNORED
    everywhere = boundary_counts(np.zeros_like(truth), truth, 1, IGNORED)
    # The ring along the image alone, cut where the ignored half begins: 30 + 2 * 14.
    assert everywhere.tolist() == [[58], [58]]
    assert boundary_counts(truth, np.full_like(truth, IGNORED), 1, IGNORED).tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("size", "share", "pixels"), [((3, 4), 0.02, 1), ((300, 400), 0.02, 10), ((300, 400), 0.005, 2), ((1, 1), 0.02, 1)]
)
def test_the_distance_is_a_share_of_the_diagonal(size: tuple[int, int], share: float, pixels: int) -> None:
    assert boundary_distance(*size, share) == pixels


def test_a_class_index_that_needs_sixteen_bits_is_counted() -> None:
    truth = np.full((9, 9), 299, np.uint16)
    assert boundary_counts(truth, truth, 300, 65535)[:, 299].tolist() == [32, 32]
