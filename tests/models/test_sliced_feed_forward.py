"""The sliced feed-forward layers: same values and gradients as the two linear layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.models.sliced_feed_forward import feed_forward


def _layers(dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(6, 11).to(dtype), nn.Linear(11, 6).to(dtype)


def _run(tokens: Tensor, layers: tuple[nn.Linear, nn.Linear], sliced: bool) -> list[Tensor]:
    first, second = layers
    tokens = tokens.detach().requires_grad_()
    result = feed_forward(tokens, first, second) if sliced else second(functional.relu(first(tokens)))
    # A gradient that differs from token to token.
    upstream = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    parameters = [*first.parameters(), *second.parameters()]
    return [result.detach(), *torch.autograd.grad(result, [tokens, *parameters], upstream)]


def test_values_and_gradients_are_those_of_the_two_layers_for_any_number_of_tokens() -> None:
    for tokens in (1, 511, 512, 513, 1300):
        x = torch.randn(2, tokens, 6, dtype=torch.float64)
        for ours, plain in zip(_run(x, _layers(), True), _run(x, _layers(), False), strict=True):
            torch.testing.assert_close(ours, plain)


def test_gradcheck() -> None:
    first, second = _layers()
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: feed_forward(x, first, second), (x, *first.parameters()))


def test_tokens_that_are_not_contiguous() -> None:
    x = torch.randn(6, 40, 2, dtype=torch.float64).permute(2, 1, 0)
    for ours, plain in zip(_run(x, _layers(), True), _run(x.contiguous(), _layers(), False), strict=True):
        torch.testing.assert_close(ours, plain)


def test_autocast_rounds_as_for_the_two_layers() -> None:
    first, second = _layers(torch.float32)
    x = torch.randn(1, 20, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, plain = feed_forward(x, first, second), second(functional.relu(first(x)))
    assert ours.dtype == plain.dtype == torch.bfloat16
    assert torch.equal(ours, plain)
