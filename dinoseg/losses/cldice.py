"""A differentiable clDice: gaps in thin structures cost, wherever they are, and width does not.

Shit et al., clDice: a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation (2021), section 3:
soft skeletons by repeated opening (algorithm 1), and the harmonic mean of how much of each skeleton lies in the other
map (equation 3).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.losses.one_hot import one_hot_of_valid
from dinoseg.system.processes import mean_over_processes

# Openings until nothing is left of a structure twice as wide.
_ITERATIONS = 6

Maps = Float[Tensor, "batch classes height width"]


class SoftClDice(nn.Module):
    """One minus soft clDice, averaged over all pairs of an image and a thin class that it holds.

    Args:
        classes: indices of the thin classes.
        ignore_index: value of the class map that counts nowhere: ignored pixels belong to neither map.
        weight: factor on the loss.
    """

    def __init__(self, classes: tuple[int, ...], ignore_index: int, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.classes = list(classes)
        self.ignore_index = ignore_index

    def forward(self, logits: Maps, class_map: Int[Tensor, "batch height width"]) -> Float[Tensor, ""]:
        """0 to the weight; 0 where no image holds one of the classes."""
        valid = class_map != self.ignore_index
        said = (logits.float().softmax(dim=1) * valid[:, None])[:, self.classes]
        true = one_hot_of_valid(class_map, valid, logits.shape[1])[:, self.classes]
        precision = _share_within(soft_skeleton(said), true)
        sensitivity = _share_within(soft_skeleton(true), said)
        agreement = 2 * precision * sensitivity / (precision + sensitivity).clamp(min=1e-6)
        present = true.amax(dim=(2, 3))
        count = mean_over_processes(present.sum())
        # The floor keeps 0/0 out; with several processes the mean may be below 1.
        return self.weight * ((1 - agreement) * present).sum() / count.clamp(min=torch.finfo(count.dtype).tiny)


def soft_skeleton(maps: Maps) -> Maps:
    """What each opening takes away, of maps of values 0..1: ridges, as high as the map is there."""
    skeleton = functional.relu(maps - _dilated(_eroded(maps)))
    for _ in range(_ITERATIONS):
        maps = _eroded(maps)
        ridges = functional.relu(maps - _dilated(_eroded(maps)))
        skeleton = skeleton + functional.relu(ridges - skeleton * ridges)
    return skeleton


def _eroded(maps: Maps) -> Maps:
    """The least of a pixel and its four neighbours."""
    down = -functional.max_pool2d(-maps, (3, 1), stride=1, padding=(1, 0))
    across = -functional.max_pool2d(-maps, (1, 3), stride=1, padding=(0, 1))
    return torch.minimum(down, across)


def _dilated(maps: Maps) -> Maps:
    """The most of a pixel and its eight neighbours."""
    return functional.max_pool2d(maps, 3, stride=1, padding=1)


def _share_within(skeleton: Maps, maps: Maps) -> Float[Tensor, "batch classes"]:
    """How much of a skeleton lies within a map; 1 where there is no skeleton."""
    return ((skeleton * maps).sum(dim=(2, 3)) + 1) / (skeleton.sum(dim=(2, 3)) + 1)
