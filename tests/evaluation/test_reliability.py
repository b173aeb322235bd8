"""ECE and NLL by hand, and the same integers whoever adds them up."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.two_processes import in_two_processes
from torch import Tensor

from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.reliability import (
    BINS,
    calibration_contents,
    is_tempered,
    reliability_counts,
    reliability_figures,
    rows_reliability,
)
from dinoseg.inference.judged_rows import JudgedRows, Say, normalised_entropy

# Five pixels of two classes: the probability of class 0, and the truth; the last one is ignored.
CHANCES = [0.9, 0.6, 0.6, 0.2, 0.9]
TRUTH = [0, 0, 1, 1, 255]


def _five() -> tuple[Tensor, Tensor, Tensor]:
    first = torch.tensor([CHANCES])
    probabilities = torch.stack([first, 1 - first])
    return probabilities, probabilities.argmax(dim=0), torch.tensor([TRUTH])


def _random(rows: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 4, (rows, 9), generator=generator)
    truth[torch.rand(rows, 9, generator=generator) < 0.2] = 255
    return 2 * torch.randn(4, rows, 9, generator=generator), truth


def _judged(scores: Tensor, first: int = 0, temperature: float = 1.0) -> JudgedRows:
    return JudgedRows(first, scores.argmax(dim=0).to(torch.uint8), (Say(scores, False, temperature),))


def test_figures_by_hand() -> None:
    figures = reliability_figures(reliability_counts(*_five(), 255).numpy())
    # Bins of a fifteenth: 0.9 alone, 0.6 twice (0.6 is the upper end of its bin), 0.8 alone.
    found = {row["pixels"]: row for row in figures["bins"] if row["pixels"] == 2}
    assert found[2]["accuracy"] == 50 and found[2]["confidence"] == pytest.approx(60, abs=1e-3)
    expected = (1 * abs(1 - 0.9) + 2 * abs(0.5 - 0.6) + 1 * abs(1 - 0.8)) / 4
    assert figures["ECE"] == pytest.approx(100 * expected, abs=1e-3)
    surprise = -(math.log(0.9) + math.log(0.6) + math.log(0.4) + math.log(0.8)) / 4
    assert figures["NLL"] == pytest.approx(surprise, abs=1e-5)
    assert [row["pixels"] for row in figures["bins"]].count(0) == BINS - 3


def test_an_independent_implementation_agrees() -> None:
    scores, truth = _random(40)
    probabilities = scores.softmax(dim=0).double().numpy()
    counted = truth.numpy() != 255
    confidence, right = probabilities.max(axis=0)[counted], (probabilities.argmax(axis=0) == truth.numpy())[counted]
    expected, edges = 0.0, np.linspace(0, 1, BINS + 1)
    for low, high in pairwise(edges.tolist()):
        within = (confidence > low) & (confidence <= high)
        if within.any():
            expected += within.mean() * abs(right[within].mean() - confidence[within].mean())
    figures = reliability_figures(rows_reliability(_judged(scores), truth, 255)[0].numpy())
    assert figures["ECE"] == pytest.approx(100 * expected, abs=1e-4)
    nll = torch.nn.functional.cross_entropy(scores[None], truth[None], ignore_index=255)
    assert figures["NLL"] == pytest.approx(float(nll), abs=1e-5)


def test_ignored_pixels_are_nowhere() -> None:
    scores, truth = _random()
    before = rows_reliability(_judged(scores), truth, 255)
    assert int(before[0, :, 0].sum()) == int((truth != 255).sum())
    changed = scores.clone()
    changed[:, truth == 255] = torch.randn(4, int((truth == 255).sum()))
    assert torch.equal(rows_reliability(_judged(changed), truth, 255), before)
    nothing = rows_reliability(_judged(scores), torch.full_like(truth, 255), 255)
    figures = calibration_contents(nothing, True)
    assert figures["ECE"] is None and figures["NLL"] is None and figures["uncalibrated"]["ECE"] is None


def test_a_true_class_without_a_chance_costs_as_much_as_fp32_can_tell() -> None:
    probabilities = torch.tensor([[[1.0]], [[0.0]]])
    counts = reliability_counts(probabilities, torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1, 1).long(), 255)
    assert reliability_figures(counts.numpy())["NLL"] == pytest.approx(87.3365, abs=1e-3)


def test_stripes_add_up_to_the_whole() -> None:
    scores, truth = _random()
    whole = rows_reliability(_judged(scores, temperature=1.7), truth, 255)
    parts = [rows_reliability(_judged(scores[:, f : f + 5], f, 1.7), truth, 255) for f in (0, 5, 10)]
    assert torch.equal(sum(parts[1:], parts[0]), whole)
    assert not torch.equal(whole[0], whole[1])
    assert torch.equal(whole[1], rows_reliability(_judged(scores), truth, 255)[0])


def test_two_processes_count_what_one_counts() -> None:
    in_two_processes(_count_in_turn)


def _count_in_turn(rank: int) -> None:
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:29613", rank=rank, world_size=2)
    images = [_random(seed=seed) for seed in range(5)]
    measures = Measures(reliability=True)
    mine, every = (Counts.empty(5, 4, measures) for _ in range(2))
    for number, (scores, truth) in enumerate(images):
        every.count_rows(_judged(scores), truth, 255)
        if number % 2 == rank:
            mine.count_rows(_judged(scores), truth, 255)
    total = mine.over_processes().reliability
    assert total is not None and every.reliability is not None and torch.equal(total, every.reliability)
    torch.distributed.destroy_process_group()


def test_what_the_policy_says_of_temperatures() -> None:
    assert not is_tempered({"resolution": "native"}) and is_tempered({"temperature": 1.2})
    assert is_tempered({"members": [{}, {"temperature": 0.9}]}) and not is_tempered({"members": [{}, {}]})


def test_entropy_is_a_share_of_the_largest() -> None:
    probabilities = torch.tensor([[[0.25, 1.0, 0.5]]] * 1 + [[[0.25, 0.0, 0.5]]] + [[[0.25, 0.0, 0.0]]] * 2)
    expected = torch.tensor([[1.0, 0.0, 0.5]])
    torch.testing.assert_close(normalised_entropy(probabilities), expected)
    assert normalised_entropy(torch.ones(1, 2, 2)).tolist() == [[0, 0], [0, 0]]
