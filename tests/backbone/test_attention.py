"""Attention by blocks is PyTorch's attention, and takes its place where it is quicker and nowhere else."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoseg.backbone import Backbone, build_backbone
from dinoseg.backbone import attention as attention_module
from dinoseg.backbone.attention import attention_by_blocks, quick_attention


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    block=st.integers(1, 200),
)
def test_blocks_of_any_size_give_what_pytorch_gives(
    batch: int, heads: int, rows: int, columns: int, block: int
) -> None:
    generator = torch.Generator().manual_seed(rows * columns)
    queries = torch.randn(batch, heads, rows, 4, generator=generator)
    keys, values = torch.randn(2, batch, heads, columns, 4, generator=generator)

    found = attention_by_blocks(queries, keys, values, block, least_rows=1)

    torch.testing.assert_close(found, F.scaled_dot_product_attention(queries, keys, values))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with pytest.warns(UserWarning, match="random initialisation"):
        return build_backbone("dinov3_vits16", "none", "FOUR_LAST").eval()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call that was answered by blocks."""
    answered: list[int] = []

    def counted(*args: torch.Tensor) -> torch.Tensor:
        answered.append(args[0].shape[2])
        return attention_by_blocks(*args, block_scores=1000, least_rows=1)

    monkeypatch.setattr(attention_module, "attention_by_blocks", counted)
    return answered


def test_a_frozen_backbone_in_bfloat16_uses_it_in_every_block(backbone: Backbone, calls: list[int]) -> None:
    image = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))

    with torch.autocast("cpu", torch.bfloat16):
        by_blocks = backbone(image)

    assert len(calls) == backbone.spec.depth
    with torch.no_grad():
        exact = backbone(image)
    for found, expected in zip(by_blocks, exact, strict=True):
        error = (found.map - expected.map).norm() / expected.map.norm()
        assert error < 0.02


@pytest.mark.parametrize("precision", [None, torch.float16])
def test_other_precisions_are_left_to_pytorch(
    backbone: Backbone, calls: list[int], precision: torch.dtype | None
) -> None:
    with torch.autocast("cpu", precision, enabled=precision is not None):
        backbone(torch.zeros(1, 3, 32, 32))

    assert calls == []


def test_with_gradients_it_is_left_to_pytorch(calls: list[int]) -> None:
    queries = torch.randn(1, 1, 4, 4, dtype=torch.bfloat16, requires_grad=True)

    with torch.autocast("cpu", torch.bfloat16), quick_attention(queries):
        F.scaled_dot_product_attention(queries, queries, queries)

    assert calls == []


def test_what_asks_for_more_than_attention_is_left_to_pytorch(calls: list[int]) -> None:
    queries = torch.randn(1, 1, 4, 4, dtype=torch.bfloat16)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), quick_attention(queries):
        F.scaled_dot_product_attention(queries, queries, queries, attn_mask=mask)
        F.scaled_dot_product_attention(queries, queries, queries, is_causal=True)
        F.scaled_dot_product_attention(queries, queries, queries, scale=1.0)
        assert calls == []
        F.scaled_dot_product_attention(queries, queries, queries, dropout_p=0.0)

    assert calls == [4]
