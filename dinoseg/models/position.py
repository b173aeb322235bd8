"""Sine position embedding of maps."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sine_positions(height: int, width: int, dim: int, parameter: Tensor) -> Float[Tensor, "cells dim"]:
    """One row a cell: sines and cosines of its normalised row (first half) and column (second half).

    Carion et al. 2020 (DETR), appendix A.4, with positions scaled to 0..2 pi and temperature 10000.

    Args:
        parameter: of the model, whose device and precision they have: half of a model that is half as a whole, and fp32
            where autocast alone makes halves.
    """
    device = parameter.device
    channel = torch.arange(dim // 2, device=device)
    wavelength = 10000.0 ** (2 * (channel // 2) / (dim // 2))

    def encode(length: int) -> Tensor:
        position = torch.arange(1, length + 1, device=device) / (length + 1e-6) * (2 * math.pi)
        angle = position[:, None] / wavelength
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=-1).flatten(1)

    rows = encode(height)[:, None].expand(-1, width, -1)
    columns = encode(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(parameter.dtype)
