"""The class index of each pixel from its scores."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


def argmax_classes(
    scores: Float[Tensor, "classes height width"],
) -> UInt8[Tensor, "height width"] | Int[Tensor, "height width"]:
    """Index of the largest score, the first where several are; uint8 on the CPU up to 256 classes, else integers.

    On the CPU one pass over the classes with the running maximum in cache: an order of magnitude faster than
    ``torch.argmax`` over the leading dimension.
    """
    if scores.device.type != "cpu":
        return scores.argmax(dim=0).to(torch.uint8 if len(scores) <= 256 else torch.int32)
    values = scores.numpy()
    dtype = np.uint8 if len(values) <= 256 else np.int32
    best = values[0].copy()
    winner = np.zeros(best.shape, dtype)
    larger = np.empty(best.shape, bool)
    candidate = np.empty(best.shape, dtype)
    for index in range(1, len(values)):
        np.greater(values[index], best, out=larger)
        np.multiply(larger, dtype(index), out=candidate)
        # Indices ascend, so the largest index that ever won is the winner.
        np.maximum(winner, candidate, out=winner)
        np.maximum(best, values[index], out=best)
    return torch.from_numpy(winner)
