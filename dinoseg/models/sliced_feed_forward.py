"""The two linear layers with ReLU between of a transformer layer, in slices that stay in a processor's cache.

Over ten thousand tokens the hidden layer is the largest tensor of the pixel decoder. Written whole, it costs as much
time in memory as in arithmetic. The pages of every new block of that size come from the system one by one, and ReLU and
its gradient read and write all of it again. Slice by slice both happen in cache, and the sums are the same.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# Tokens of a slice: with a hidden width of 1024, 2 MB.
_SLICE = 512


def feed_forward(
    tokens: Float[Tensor, "batch tokens dim"],
    first: torch.nn.Linear,
    second: torch.nn.Linear,
) -> Float[Tensor, "batch tokens dim"]:
    """``second(relu(first(tokens)))``; differentiable once with respect to tokens and parameters."""
    device = tokens.device.type
    if device != "cpu" or torch.is_autocast_enabled(device) or torch.compiler.is_compiling():
        return second(functional.relu(first(tokens)))
    arguments: tuple[Tensor, ...] = (tokens, first.weight, first.bias, second.weight, second.bias)
    if not torch.is_grad_enabled():
        # Else the function below would keep the hidden layer for a backward pass that never comes.
        arguments = tuple(argument.detach() for argument in arguments)
    return _SlicedFeedForward.apply(*arguments)


class _SlicedFeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        rows = tokens.flatten(0, 1)
        result = torch.empty_like(rows)
        hidden = []
        for part, out in zip(rows.split(_SLICE), result.split(_SLICE), strict=True):
            active = torch.addmm(bias1, part, weight1.t()).relu_()
            torch.addmm(bias2, active, weight2.t(), out=out)
            if any(ctx.needs_input_grad):
                hidden.append(active)
        if hidden:
            ctx.save_for_backward(rows, weight1, weight2, *hidden)
        return result.view_as(tokens)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        rows, weight1, weight2, *hidden = ctx.saved_tensors
        incoming = gradient.reshape(-1, gradient.shape[-1])
        to_rows = torch.empty_like(rows)
        to_weight1, to_weight2 = torch.zeros_like(weight1), torch.zeros_like(weight2)
        to_bias1 = weight1.new_zeros(len(weight1))
        slices = zip(rows.split(_SLICE), incoming.split(_SLICE), to_rows.split(_SLICE), hidden, strict=True)
        for part, arriving, out, active in slices:
            to_weight2.addmm_(arriving.t(), active)
            to_hidden = arriving @ weight2
            # ReLU lets through where its result is above zero.
            to_hidden = torch.ops.aten.threshold_backward(to_hidden, active, 0)
            to_weight1.addmm_(to_hidden.t(), part)
            to_bias1 += to_hidden.sum(dim=0)
            torch.mm(to_hidden, weight1, out=out)
        return to_rows.view_as(gradient), to_weight1, to_bias1, to_weight2, incoming.sum(dim=0)
