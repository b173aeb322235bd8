"""Evaluations in words: what a prediction leaves out altogether."""

import pytest

from dinoseg.console.policy_words import never_predicted_in_words


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        # True and predicted pixels; a class that no image has is no miss.
        ([(9, 9), (5, 0), (0, 0), (0, 3)], ["Never predicted, though the truth has them: b."]),
        ([(9, 9), (5, 1)], []),
        ([(1, 0)] * 8, ["Never predicted, though the truth has them: a, b, c, d, e, f and 2 more."]),
    ],
)
def test_classes_that_are_never_predicted_are_named(pixels: list[tuple[int, int]], words: list[str]) -> None:
    rows = [
        {"name": name, "truth": truth, "prediction": seen}
        for name, (truth, seen) in zip("abcdefgh", pixels, strict=False)
    ]
    assert never_predicted_in_words({"per_class": rows}) == words
