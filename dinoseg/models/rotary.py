"""Rotary position embedding of a sequence in which patches have a place and other tokens have none.

Su et al. 2021 (RoFormer), on two axes as in DINOv3 (Simeoni et al. 2025, section 3.2): half of the angles are those of
a patch's row, half those of its column.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

_BASE = 100.0


def rotary_tables(
    grid: tuple[int, int], head_dim: int, *, rescale: float = 1.0, device: torch.device
) -> tuple[Float[Tensor, "cells head_dim"], Float[Tensor, "cells head_dim"]]:
    """Cosines and sines of the angles by which the patches of a grid (rows, columns) are rotated.

    Args:
        head_dim: a multiple of 4.
        rescale: factor on the places, which are -1 and 1 at the outer edges of the image.
    """
    quarter = head_dim // 4
    periods = _BASE ** (torch.arange(quarter, dtype=torch.float32, device=device) / quarter)

    def angles(length: int) -> Tensor:
        centres = (torch.arange(length, dtype=torch.float32, device=device) + 0.5) * (2 / length) - 1
        return (2 * math.pi * rescale) * centres[:, None] / periods

    rows = angles(grid[0])[:, None].expand(-1, grid[1], -1)
    columns = angles(grid[1])[None].expand(grid[0], -1, -1)
    half = torch.cat([rows, columns], dim=-1).flatten(0, 1)
    whole = torch.cat([half, half], dim=-1)
    return whole.cos(), whole.sin()


def rotate(
    tokens: Float[Tensor, "batch heads tokens head_dim"],
    cosines: Float[Tensor, "cells head_dim"],
    sines: Float[Tensor, "cells head_dim"],
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """The tokens, the last ``cells`` of which are patches and rotated; channel i turns with i + head_dim / 2."""
    others, patches = tokens.split([tokens.shape[2] - len(cosines), len(cosines)], dim=2)
    first, second = patches.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return torch.cat([others, patches * cosines.to(tokens.dtype) + turned * sines.to(tokens.dtype)], dim=2)
