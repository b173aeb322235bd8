"""Class maps as one map a class."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def one_hot_of_valid(
    class_map: Int[Tensor, "batch height width"], valid: Bool[Tensor, "batch height width"], num_classes: int
) -> Float[Tensor, "batch classes height width"]:
    """1 where a pixel is of a class, 0 elsewhere and, for every class, where ``valid`` says no."""
    indices = class_map.masked_fill(~valid, 0)
    truth = torch.zeros(
        class_map.shape[0], num_classes, *class_map.shape[1:], device=class_map.device, dtype=torch.float32
    )
    return truth.scatter_(1, indices[:, None], valid[:, None].to(truth.dtype))
