"""Costs equal the formulas pair by pair; the assignment is the cheapest of all; too few queries are reported."""

import itertools
import warnings

import pytest
import torch
from torch.nn import functional

from dinoseg.losses.matching import Coefficients, assign, check_query_count, matching_costs

STAGES, QUERIES, POINTS, CLASSES = 2, 5, 30, 6


def inputs(scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "class_logits": torch.randn(STAGES, QUERIES, CLASSES + 1, generator=generator),
        "point_logits": 2 * scale * torch.randn(STAGES, QUERIES, POINTS, generator=generator),
        "labels": torch.randint(0, 3, (POINTS,), generator=generator),
        "classes": torch.tensor([0, 1, 2, 4]),  # No point lies on class 4.
    }


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_costs_of_each_pair(scale: float) -> None:
    given = inputs(scale)
    coefficients = Coefficients(5.0, 3.0, 2.0)
    costs = matching_costs(**inputs(scale), coefficients=coefficients)
    for stage, query, target in itertools.product(range(STAGES), range(QUERIES), range(4)):
        label = given["classes"][target]
        logits = given["point_logits"][stage, query].double()
        truth = (given["labels"] == label).double()
        mask = functional.binary_cross_entropy_with_logits(logits, truth)
        dice = 1 - (2 * (logits.sigmoid() * truth).sum() + 1) / (logits.sigmoid().sum() + truth.sum() + 1)
        probability = given["class_logits"][stage, query].double().softmax(0)[label]
        expected = 5 * mask + 3 * dice - 2 * probability
        assert costs[stage, query, target].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-4)


def test_each_coefficient_weighs_its_own_term() -> None:
    whole = matching_costs(**inputs(), coefficients=Coefficients(1.0, 1.0, 1.0))
    parts = [matching_costs(**inputs(), coefficients=Coefficients(*row)) for row in torch.eye(3).tolist()]
    torch.testing.assert_close(sum(parts), whole)
    assert parts[2].max() < 0 < parts[0].min()


def test_assignment_is_the_cheapest() -> None:
    torch.manual_seed(0)
    costs = [torch.randn(3, 5, 2), torch.randn(3, 5, 4), torch.randn(3, 5, 0), torch.randn(3, 5, 5)]
    found = assign(costs)
    assert [tuple(queries.shape) for queries in found] == [(3, 2), (3, 4), (3, 0), (3, 5)]
    for cost, queries in zip(costs, found, strict=True):
        targets = range(cost.shape[2])
        for stage in range(3):
            row = queries[stage].tolist()
            assert len(set(row)) == len(row)
            least = min(
                sum(cost[stage, query, target].item() for target, query in enumerate(choice))
                for choice in itertools.permutations(range(5), len(targets))
            )
            assert sum(cost[stage, row[target], target].item() for target in targets) == pytest.approx(least)


def test_a_cost_that_is_no_number_is_avoided() -> None:
    cost = torch.tensor([[[float("nan")], [7.0], [float("inf")]]])
    assert assign([cost])[0].tolist() == [[1]]


def test_fewer_queries_than_classes_warns_with_the_numbers() -> None:
    with pytest.warns(UserWarning, match=r"150 classes, but decoder_head\.num_queries=100"):
        check_query_count(150, 100, most_classes=40)


def test_an_image_with_too_many_classes_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"an image holds 11 classes, but decoder_head\.num_queries=10"):
        check_query_count(11, 10, most_classes=11)


def test_enough_queries_say_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_query_count(100, 100, most_classes=100)
