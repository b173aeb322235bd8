"""clDice: centre lines by hand, and the formulas of the paper on random masks."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoseg.evaluation.skeleton import cldice, require_skeletonize, skeleton_counts

skimage = pytest.importorskip("skimage.morphology")
IGNORED = 255


def line(rows: slice, columns: slice) -> np.ndarray:
    class_map = np.zeros((21, 41), np.uint8)
    class_map[rows, columns] = 1
    return class_map


def figure(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(cldice(skeleton_counts(prediction, truth, [1], 2, IGNORED))[1])


def test_width_does_not_matter_and_gaps_do() -> None:
    truth = line(slice(8, 13), slice(2, 39))
    thin = line(slice(10, 11), slice(2, 39))
    assert figure(thin, truth) > 0.95
    thick = truth.copy()
    thick[:, 15:25] = 0
    # What is left of the predicted line lies in the true mask; the true centre line is found but for the gap.
    within, predicted, found, true = skeleton_counts(thick, truth, [1], 2, IGNORED)[:, 1]
    assert within == predicted
    assert found == true - 10
    assert figure(thick, truth) == pytest.approx(2 * (found / true) / (1 + found / true))
    # IoU says the opposite: the thin line is wrong, the broken thick one is not.
    assert figure(thick, truth) < figure(thin, truth)
    assert (thick & truth).sum() / truth.sum() > (thin & truth).sum() / truth.sum()


def test_one_line_of_a_pixel_is_its_own_skeleton() -> None:
    truth, prediction = line(slice(10, 11), slice(5, 15)), line(slice(10, 11), slice(10, 25))
    assert skeleton_counts(prediction, truth, [1], 2, IGNORED)[:, 1].tolist() == [5, 15, 5, 10]
    assert figure(prediction, truth) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


def test_counts_without_a_skeleton() -> None:
    counts = np.array([[0, 0, 0, 3], [0, 4, 0, 6], [0, 0, 0, 4], [0, 0, 5, 4]])
    # Neither; predicted only; true only; both: 1/2 and 1.
    assert cldice(counts) == pytest.approx([np.nan, 0, 0, 2 / 3], nan_ok=True)


@st.composite
def map_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = (draw(st.integers(1, 24)), draw(st.integers(1, 24)))
    prediction, truth = generator.integers(0, 3, (2, *shape)).astype(np.uint8)
    truth[generator.random(shape) < 0.2] = IGNORED
    return prediction, truth


@settings(max_examples=40, deadline=None)
@given(map_pairs(), st.integers(0, 100))
def test_the_counts_are_those_of_the_masks_without_ignored_pixels(
    drawn: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    prediction, truth = drawn
    counts = skeleton_counts(prediction, truth, [0, 2], 3, IGNORED)
    for index in (0, 2):
        predicted, true = (np.where(truth == IGNORED, 9, m) == index for m in (prediction, truth))
        lines = [set(zip(*np.nonzero(skimage.skeletonize(mask)), strict=True)) for mask in (predicted, true)]
        inside = [
            sum(bool(m[pixel]) for pixel in skeleton) for skeleton, m in zip(lines, (true, predicted), strict=True)
        ]
        assert counts[:, index].tolist() == [inside[0], len(lines[0]), inside[1], len(lines[1])]
    assert not counts[:, 1].any()
    noise = np.random.default_rng(seed).integers(0, 256, truth.shape).astype(np.uint8)
    other = np.where(truth == IGNORED, noise, prediction)
    assert skeleton_counts(other, truth, [0, 2], 3, IGNORED).tolist() == counts.tolist()


@settings(max_examples=30, deadline=None)
@given(map_pairs())
def test_the_truth_scores_all_of_it(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    _, truth = drawn
    values = cldice(skeleton_counts(truth, truth, [0, 1, 2], 3, IGNORED))
    assert set(values[~np.isnan(values)].tolist()) <= {1.0}
    assert not np.isnan(values[np.unique(truth[truth != IGNORED])]).any()


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.morphology", None)
    with pytest.raises(ValueError, match=r"pip install 'dinoseg\[thin\]'"):
        require_skeletonize()
