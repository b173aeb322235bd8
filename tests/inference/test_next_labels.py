"""Which image comes next: uncertain ones first, then those unlike all that is chosen or known."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dinoseg.inference.next_labels import CANDIDATES, choose_next


def at_angles(*degrees: float) -> np.ndarray:
    turned = np.deg2rad(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def test_the_most_uncertain_comes_first_and_then_the_farthest() -> None:
    uncertainty = np.array([0.5, 0.9, 0.6, 0.7])
    # Image 1 lies at 0 degrees; image 2 is opposite, 3 beside it, 0 between.
    chosen = choose_next(uncertainty, at_angles(90, 0, 180, 10), 3)
    assert [index for index, _ in chosen] == [1, 2, 0]
    np.testing.assert_allclose([distance for _, distance in chosen], [0, 2, 1], atol=1e-12)


def test_what_has_labels_is_kept_away_from() -> None:
    chosen = choose_next(np.array([0.9, 0.8]), at_angles(5, 90), 2, known=at_angles(0))
    assert [index for index, _ in chosen] == [1, 0]
    np.testing.assert_allclose(chosen[0][1], 1, atol=1e-12)


def test_sure_images_are_no_candidates_however_strange() -> None:
    uncertainty = np.array([0.1] + [0.9] * CANDIDATES)
    assert choose_next(uncertainty, at_angles(180, *range(CANDIDATES)), 1)[0][0] != 0


def test_of_twins_one_is_taken_first_and_the_other_last() -> None:
    chosen = choose_next(np.array([0.9, 0.9, 0.5]), at_angles(0, 0, 40), 3)
    assert [index for index, _ in chosen] == [0, 2, 1]


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 3), st.randoms(use_true_random=False))
def test_each_is_chosen_once_and_no_more_than_there_are(images: int, number: int, known: int, random) -> None:
    generator = np.random.default_rng(random.randrange(1 << 32))
    points = at_angles(*generator.choice([0, 0, 30, 90, 200], images + known))
    chosen = choose_next(generator.random(images), points[:images], number, points[images:])
    assert len({index for index, _ in chosen}) == len(chosen) == min(images, number)
    assert all(0 <= distance <= 2 + 1e-9 for _, distance in chosen)
