"""Points at which masks are compared: centres of valid pixels, some at random, some where the prediction is unsure."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class PointSettings:
    """How many points a mask is compared at (Kirillov et al. 2020, PointRend, section 3.1).

    Args:
        num_points: points a mask, in the loss and in the matching.
        oversample_ratio: candidates per point of the loss.
        importance_sample_ratio: share of the loss's points that are the most uncertain candidates; the rest is random.
    """

    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75

    @property
    def candidates(self) -> int:
        """Points of an image among which the uncertain ones are looked for."""
        return int(self.num_points * self.oversample_ratio)

    @property
    def uncertain(self) -> int:
        """Points of a mask that are chosen by uncertainty."""
        return int(self.num_points * self.importance_sample_ratio)


@dataclass(frozen=True)
class SampledPoints:
    """Random valid pixels of each image, as flat pixel numbers ``row * width + column``.

    All masks and stages of an image share them. A mask's points in the loss are the most uncertain ``candidates`` and
    all of ``remainder``.
    """

    matching: Int[Tensor, "batch points"]
    candidates: Int[Tensor, "batch candidates"]
    remainder: Int[Tensor, "batch remainder"]


def sample_points(valid: Bool[Tensor, "batch height width"], settings: PointSettings) -> SampledPoints:
    """Draws the points of a batch from the random generator of the tensor's device.

    The numbers drawn depend on the shape alone, so neither the prediction nor a batch mate's mask shifts them.
    """
    counts = [settings.num_points, settings.candidates, settings.num_points - settings.uncertain]
    return SampledPoints(*sample_valid_pixels(valid, sum(counts)).split(counts, dim=1))


def sample_valid_pixels(valid: Bool[Tensor, "batch height width"], count: int) -> Int[Tensor, "batch count"]:
    """Flat pixel numbers, uniform over each image's valid pixels, with replacement.

    Where an image has no valid pixel the numbers are in range but mean nothing.
    """
    flat = valid.flatten(1)
    order, pixels = flat.cumsum(dim=1), flat.shape[1]
    # Each image's valid pixels, packed to the front without a wait for their number; the last place takes the rest.
    packed = torch.zeros(len(flat), pixels + 1, dtype=torch.int64, device=valid.device)
    numbers = torch.arange(pixels, device=valid.device).expand_as(order)
    packed.scatter_(1, torch.where(flat, order - 1, pixels), numbers)
    drawn = torch.randint(2**31 - 1, (len(flat), count), device=valid.device)
    return packed.gather(1, drawn % order[:, -1:].clamp(min=1))


def pixel_coordinates(pixels: Int[Tensor, "*shape"], size: tuple[int, int]) -> Float[Tensor, "*shape 2"]:
    """Centres of pixels of an image of ``size`` (height, width) as (x, y), -1 and 1 at the image's outer edges."""
    height, width = size
    row, column = pixels // width, pixels % width
    return torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)


def sample_maps(
    maps: Float[Tensor, "maps height width"], coordinates: Float[Tensor, "rows points 2"]
) -> Float[Tensor, "maps points"]:
    """Bilinear samples of each map at its row of coordinates; a single row serves all maps.

    At pixel centres this is the value of the map after resizing to the image (half-pixel convention, edges repeated).
    """
    grid = coordinates[:, :, None].expand(maps.shape[0], -1, -1, -1)
    # One map a batch entry, not one a channel: PyTorch's CPU kernel is six times faster so, on all cores.
    samples = functional.grid_sample(maps[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return samples[:, 0, :, 0]


def most_uncertain(logits: Float[Tensor, "masks candidates"], count: int) -> Int[Tensor, "masks count"]:
    """Positions of the ``count`` logits of each row that are nearest to zero, in no particular order."""
    return logits.abs().topk(count, dim=1, largest=False, sorted=False).indices
