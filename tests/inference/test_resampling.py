"""Resampling by rows and columns is bilinear interpolation; the argmax takes the first of equal scores."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dinoseg.inference.resampling import AxisMap, argmax_classes, resample_columns, resample_rows


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_resampling_is_bilinear_interpolation(height: int, width: int, new_height: int, new_width: int) -> None:
    scores = torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))
    rows, columns = (
        AxisMap.between(source, output, torch.device("cpu"))
        for source, output in ((height, new_height), (width, new_width))
    )
    result = resample_columns(resample_rows(scores, 0, rows, 0, new_height), columns)
    expected = functional.interpolate(scores[None], (new_height, new_width), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_argmax_takes_the_first_of_equal_scores(classes: int, seed: int) -> None:
    scores = torch.randint(0, 4, (classes, 6, 7), generator=torch.Generator().manual_seed(seed)).float()
    winner = argmax_classes(scores)
    first = torch.tensor([[scores[:, y, x].tolist().index(scores[:, y, x].max()) for x in range(7)] for y in range(6)])
    assert torch.equal(winner.long(), first)
    assert winner.dtype == (torch.uint8 if classes <= 256 else torch.int32)
