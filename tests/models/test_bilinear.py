"""Resampling by rows and columns is bilinear interpolation, and the same to the last bit for any part of the rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dinoseg.models import bilinear
from dinoseg.models.bilinear import AxisMap, resample_columns, resample_rows


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


@pytest.mark.parametrize(("width", "new_width"), [(32, 128), (37, 90), (90, 37), (20, 20), (1, 5)])
@pytest.mark.parametrize("block", [1, 300, 1 << 18])
def test_rows_in_parts_and_blocks_equal_the_whole_to_the_last_bit(
    width: int, new_width: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = torch.randn(2, 3, 11, width, generator=torch.Generator().manual_seed(1))
    device = torch.device("cpu")
    rows, columns = AxisMap.between(11, 29, device), AxisMap.between(width, new_width, device)
    with_gradient = scores.clone().requires_grad_()
    whole = resample_columns(resample_rows(with_gradient, 0, rows, 0, 29), columns)
    assert whole.shape == (2, 3, 29, new_width)
    monkeypatch.setattr(bilinear, "_BLOCK_CELLS", block)
    for first, last in [(0, 1), (3, 17), (28, 29)]:
        begin, end = rows.source_rows(first, last)
        part = resample_columns(resample_rows(scores[..., begin:end, :], begin, rows, first, last), columns)
        assert torch.equal(part, whole[..., first:last, :])


def test_rows_that_stay_as_they_are_are_cut_out() -> None:
    scores = torch.randn(2, 7, 5)
    rows = AxisMap.between(7, 7, torch.device("cpu"))
    assert torch.equal(resample_rows(scores, 0, rows, 2, 4), scores[:, 2:4])
    assert torch.equal(resample_rows(scores[:, 2:], 2, rows, 2, 4), scores[:, 2:4])
