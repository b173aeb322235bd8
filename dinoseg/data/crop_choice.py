"""What the drawing of a crop has in common, however it is cut: how often, from which range, of how many classes."""

import numpy as np
import torch
from jaxtyping import Integer

CROP_TRIES = 10


def uniform(low: float, high: float) -> float:
    """A random number from torch's CPU generator."""
    return low + (high - low) * torch.rand(()).item()


def largest_share(class_map: Integer[np.ndarray, "height width"], ignore_index: int) -> float:
    """Share, 0..1, of the most frequent class among the pixels that count; 1 where none counts."""
    counts = np.bincount(class_map.reshape(-1))
    counts[ignore_index:] = 0
    return float(counts.max() / counts.sum()) if counts.any() else 1.0
