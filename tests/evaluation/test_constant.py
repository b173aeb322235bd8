"""The constant prediction: its figures by hand, and which figures of a model it has, too."""

from typing import Any

import pytest
import torch

from dinoseg.console.policy_words import constant_in_words
from dinoseg.evaluation.constant import constant_figures, not_above_constant
from dinoseg.evaluation.metrics import AbsentPolicy, metrics_from_confusion

# 90, 8 and 2 true pixels; a fourth class that is neither true nor predicted.
MATRIX = torch.tensor([[50, 40, 0, 0], [0, 8, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(("policy", "miou"), [("skip_empty", 90 / 3), ("skip_absent", 90 / 3), ("zero", 90 / 4)])
def test_the_class_with_most_true_pixels_everywhere(policy: AbsentPolicy, miou: float) -> None:
    found = constant_figures(metrics_from_confusion(MATRIX, policy))
    assert found is not None
    assert found["class_index"] == 0 and found["aAcc"] == pytest.approx(90)
    assert found["mIoU"] == pytest.approx(miou)
    # Dice of 90 right, 100 predicted, 90 true.
    assert found["mDice"] == pytest.approx(miou / 90 * 100 * 180 / 190)
    assert found["mAcc"] == pytest.approx(25 if policy == "zero" else 100 / 3)


def test_it_is_the_evaluation_of_such_a_prediction() -> None:
    truth = MATRIX.sum(dim=1)
    constant = torch.zeros_like(MATRIX)
    constant[:, 0] = truth
    means = metrics_from_confusion(constant).means
    found = constant_figures(metrics_from_confusion(MATRIX))
    assert found == {"class_index": 0} | {name: means[name] for name in ("mIoU", "mAcc", "aAcc", "mDice")}


def test_without_a_true_pixel_there_is_none() -> None:
    assert constant_figures(metrics_from_confusion(torch.zeros(2, 2, dtype=torch.int64))) is None


@pytest.mark.parametrize(
    ("found", "limit", "beaten"),
    [
        ({"mIoU": 40.0, "aAcc": 95.0}, {"mIoU": 30.0, "aAcc": 90.0}, []),
        ({"mIoU": 40.0, "aAcc": 80.0}, {"mIoU": 30.0, "aAcc": 90.0}, ["aAcc"]),
        ({"mIoU": 30.0, "aAcc": 90.0}, {"mIoU": 30.0, "aAcc": 90.0}, ["mIoU", "aAcc"]),
        # A truth of one class: nothing can be better.
        ({"mIoU": 100.0, "aAcc": 100.0}, {"mIoU": 100.0, "aAcc": 100.0}, []),
        ({"mIoU": None, "aAcc": None}, {"mIoU": 30.0, "aAcc": 90.0}, []),
    ],
)
def test_what_a_model_does_not_beat(found: dict[str, Any], limit: dict[str, Any], beaten: list[str]) -> None:
    contents = found | {"constant": limit | {"class_index": 1}, "per_class": [{"name": "a"}, {"name": "road"}]}
    assert not_above_constant(contents) == beaten
    words = constant_in_words(contents)
    assert words.startswith(f"always road: mIoU {limit['mIoU']:.2f}  aAcc {limit['aAcc']:.2f}")
    assert ("not beaten in" in words) == bool(beaten)


def test_figures_of_an_earlier_version_compare_with_nothing() -> None:
    assert not_above_constant({"mIoU": 1.0, "aAcc": 1.0}) == []
