"""The argmax takes the first of equal scores."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoseg.inference.resampling import argmax_classes


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_argmax_takes_the_first_of_equal_scores(classes: int, seed: int) -> None:
    scores = torch.randint(0, 4, (classes, 6, 7), generator=torch.Generator().manual_seed(seed)).float()
    winner = argmax_classes(scores)
    first = torch.tensor([[scores[:, y, x].tolist().index(scores[:, y, x].max()) for x in range(7)] for y in range(6)])
    assert torch.equal(winner.long(), first)
    assert winner.dtype == (torch.uint8 if classes <= 256 else torch.int32)
