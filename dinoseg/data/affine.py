"""The training transform that samples: crop, scale, rotation, shear, flips and elastic deformation in one step.

Image, class map and, where there are any, features of the backbone are sampled at the same places.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from dinoseg.config import TrainTransformConfig
from dinoseg.data.bands import Picture, channels_of
from dinoseg.data.crop_choice import CROP_TRIES, largest_share, uniform
from dinoseg.data.picture_tensors import cut
from dinoseg.data.placement import Placement, Positions, Window, is_inside, sampled

# Points along a side of the grid on which an elastic deformation is drawn.
_ELASTIC_POINTS = 5


@dataclass(frozen=True)
class AffineTransform:
    """Draws a placement, samples image and class map there, and changes the appearance of the image.

    What lies outside the image holds zero (the mean colour) and the ignore index.

    Attributes:
        options: ``transforms.train``.
        crop_size: height and width of the result.
        appearance: of the sampled image, 0..1, to its normalised form.
    """

    options: TrainTransformConfig
    crop_size: tuple[int, int]
    ignore_index: int
    appearance: v2.Transform = field(repr=False)

    def __call__(
        self, image: Picture, class_map: UInt[np.ndarray, "height width"]
    ) -> tuple[Float[Tensor, "bands crop_height crop_width"], Int64[Tensor, "crop_height crop_width"]]:
        """A picture and its class indices -> normalised float image and int64 class map of the crop size."""
        return self.at(self.draw(class_map), image, class_map)

    def draw(self, class_map: UInt[np.ndarray, "height width"]) -> Placement:
        """A random placement; anew, 9 times at most, where one class covers more than ``max_class_share`` of it."""
        share = self.options.max_class_share
        # A share is told from every fourth pixel each way as well as from all.
        coarse = [max(1, side // 4) for side in self.crop_size]
        for _ in range(CROP_TRIES if share < 1 else 1):
            placement = self._draw_once(class_map)
            if share == 1:
                break
            cropped = self._cropped(placement.size, placement.positions(*coarse), class_map)
            if largest_share(cropped.numpy(), self.ignore_index) <= share:
                break
        return placement

    def at(
        self, placement: Placement, image: Picture, class_map: UInt[np.ndarray, "height width"]
    ) -> tuple[Float[Tensor, "bands crop_height crop_width"], Int64[Tensor, "crop_height crop_width"]]:
        """What the crop shows when it is placed so."""
        positions = placement.positions(*self.crop_size)
        inside = is_inside(positions)
        cropped = self._cropped(placement.size, positions, class_map)
        window = Window.around(positions, placement.size)
        if window is None:
            return torch.zeros(channels_of(image), *self.crop_size), cropped
        part = cut(image, window.top, window.left, window.bottom - window.top, window.right - window.left)
        pixels = F.to_dtype(part, torch.float32, scale=True)
        local = window.localised(positions, placement.size)
        # A crop that shrinks the image by sampling alone would alias.
        shrink = 1 / math.sqrt(abs(torch.linalg.det(placement.matrix).item()))
        if shrink < 1:
            size = [max(1, round(side * shrink)) for side in pixels.shape[-2:]]
            pixels = F.resize(pixels, size, antialias=True)
        return self.appearance(sampled(pixels, local)) * inside, cropped

    def class_map_at(
        self, placement: Placement, class_map: UInt[np.ndarray, "height width"]
    ) -> Int64[Tensor, "crop_height crop_width"]:
        """The class map of the crop when it is placed so; for a head that does not look at the image."""
        return self._cropped(placement.size, placement.positions(*self.crop_size), class_map)

    def _cropped(
        self, size: tuple[int, int], positions: Positions, class_map: UInt[np.ndarray, "height width"]
    ) -> Int64[Tensor, "rows columns"]:
        places = (positions + 1) * (torch.tensor([size[1], size[0]]) / 2)
        columns, rows = places.floor().long().unbind(dim=-1)
        height, width = size
        found = class_map[rows.clamp(0, height - 1).numpy(), columns.clamp(0, width - 1).numpy()]
        cropped = torch.from_numpy(found.astype(np.int64))
        return cropped.masked_fill(~is_inside(positions), self.ignore_index)

    def _draw_once(self, class_map: UInt[np.ndarray, "height width"]) -> Placement:
        options = self.options
        height, width = class_map.shape
        base = 1.0 if options.img_size is None else options.img_size / min(height, width)
        scale = base * uniform(*options.random_img_size_ratio_range)
        matrix = self._draw_matrix() / scale
        return Placement(
            size=(height, width),
            crop=self.crop_size,
            centre=self._draw_centre(class_map, scale),
            matrix=matrix,
            displacement=self._draw_displacement(),
        )

    def _draw_matrix(self) -> Float[Tensor, "2 2"]:
        options = self.options
        angle = math.radians(uniform(-options.rotation, options.rotation))
        if options.right_angle_rotations:
            angle += math.pi / 2 * int(torch.randint(4, ()).item())
        shear = math.tan(math.radians(uniform(-options.shear, options.shear)))
        across = -1.0 if torch.rand(()).item() < options.flip_prob else 1.0
        down = -1.0 if torch.rand(()).item() < options.vertical_flip_prob else 1.0
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return turn @ torch.tensor([[1.0, shear], [0.0, 1.0]]) @ torch.diag(torch.tensor([across, down]))

    def _draw_centre(self, class_map: UInt[np.ndarray, "height width"], scale: float) -> tuple[float, float]:
        if torch.rand(()).item() < self.options.foreground_share:
            found = self._draw_foreground(class_map)
            if found is not None:
                return found
        centre = []
        # As much of the crop as there can be lies in the image, where it is not turned.
        for side, length in zip((self.crop_size[1], self.crop_size[0]), class_map.shape[::-1], strict=True):
            half = side / scale / 2
            centre.append(uniform(min(half, length / 2), max(length - half, length / 2)))
        return centre[0], centre[1]

    def _draw_foreground(self, class_map: UInt[np.ndarray, "height width"]) -> tuple[float, float] | None:
        """The place of a random pixel of a random class, of those that are not the image's most frequent."""
        counts = np.bincount(class_map.reshape(-1))[: self.ignore_index]
        classes = np.flatnonzero(counts)
        classes = classes[classes != counts.argmax()] if len(classes) else classes
        if not len(classes):
            return None
        chosen = classes[int(torch.randint(len(classes), ()).item())]
        pixels = np.flatnonzero(class_map.reshape(-1) == chosen)
        row, column = divmod(int(pixels[int(torch.randint(len(pixels), ()).item())]), class_map.shape[1])
        # A corner of the pixel: its centre would lie on the seam between two pixels of the crop.
        return float(column), float(row)

    def _draw_displacement(self) -> Float[Tensor, "1 2 _ _"] | None:
        if not self.options.elastic:
            return None
        return self.options.elastic * (2 * torch.rand(1, 2, _ELASTIC_POINTS, _ELASTIC_POINTS) - 1)
