"""What changes the look of a training image and moves nothing: colour, gamma, noise, blur, low resolution, cutout."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from dinoseg.config import TrainTransformConfig

_PROBABILITY = 0.3
_CUTOUT_SIDE = 0.25


def photometric_distortion() -> v2.Transform:
    """Brightness, contrast, saturation and hue, each with probability one half, in random order.

    The ranges are SSD's (Liu et al. 2016, section 2.2, data augmentation) as torchvision has them, without SSD's
    permutation of the channels: where the colour tells the classes apart, it would exchange them.
    """
    distortions = (
        v2.ColorJitter(brightness=(0.875, 1.125)),
        v2.ColorJitter(contrast=(0.5, 1.5)),
        v2.ColorJitter(saturation=(0.5, 1.5)),
        v2.ColorJitter(hue=(-0.05, 0.05)),
    )
    return v2.RandomOrder([v2.RandomApply([distortion], p=0.5) for distortion in distortions])


def intensity_distortion() -> v2.Transform:
    """Brightness and contrast alone, of float images, 0..1, of any number of bands: saturation and hue are of three."""
    return v2.RandomOrder(
        [v2.RandomApply([distortion], p=0.5) for distortion in (Brightness(0.875, 1.125), Contrast(0.5, 1.5))]
    )


def degradations(options: TrainTransformConfig) -> list[nn.Module]:
    """What ``transforms.train`` asks for beside colours; of float images, 0..1."""
    sometimes: list[nn.Module | None] = [
        Gamma(options.gamma) if options.gamma else None,
        Blur(options.blur) if options.blur else None,
        LowResolution(options.low_resolution) if options.low_resolution > 1 else None,
        Noise(options.noise) if options.noise else None,
    ]
    steps: list[nn.Module] = [v2.RandomApply([step], p=_PROBABILITY) for step in sometimes if step is not None]
    return [*steps, RandomCutout(options.cutout)] if options.cutout else steps


class _UpTo(nn.Module):
    """A change of an image of random strength, ``most`` at most."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most


class _Between(nn.Module):
    """A change of an image by a random factor of a range."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def _factor(self) -> float:
        return self.low + (self.high - self.low) * float(torch.rand(()))


class Brightness(_Between):
    """All bands times one factor."""

    def forward(self, image: Float[Tensor, "bands height width"]) -> Float[Tensor, "bands height width"]:
        """The image, 0..1, darker or brighter."""
        return (image * self._factor()).clamp(0, 1)


class Contrast(_Between):
    """The distance of each pixel from the mean of its band times one factor."""

    def forward(self, image: Float[Tensor, "bands height width"]) -> Float[Tensor, "bands height width"]:
        """The image, 0..1, flatter or steeper."""
        mean = image.mean(dim=(-2, -1), keepdim=True)
        return (mean + (image - mean) * self._factor()).clamp(0, 1)


class Gamma(_UpTo):
    """The image to the power of exp(u), u uniform within ``most``."""

    def forward(self, image: Float[Tensor, "bands height width"]) -> Float[Tensor, "bands height width"]:
        """The image, 0..1, darker or brighter."""
        return image.clamp(0, 1) ** float(torch.exp(self.most * (2 * torch.rand(()) - 1)))


class Blur(_UpTo):
    """Gaussian blur of a deviation up to ``most`` pixels."""

    def forward(self, image: Float[Tensor, "bands height width"]) -> Float[Tensor, "bands height width"]:
        """The image, 0..1, less sharp."""
        deviation = self.most * float(torch.rand(()))
        # Three deviations either way, as far as the image reaches: it is mirrored at its border.
        kernel = [2 * min(math.ceil(3 * deviation), side - 1) + 1 for side in (image.shape[-1], image.shape[-2])]
        return F.gaussian_blur(image, kernel, [deviation, deviation]) if deviation else image


class Noise(_UpTo):
    """Gaussian noise of a deviation up to ``most``."""

    def forward(self, image: Float[Tensor, "bands height width"]) -> Float[Tensor, "bands height width"]:
        """The image, 0..1, with noise."""
        return (image + self.most * torch.rand(()) * torch.randn_like(image)).clamp(0, 1)


class LowResolution(_UpTo):
    """The image as if it had been taken with up to ``most`` times fewer pixels a side."""

    def forward(self, image: Float[Tensor, "bands height width"]) -> Float[Tensor, "bands height width"]:
        """An image of the same size."""
        factor = 1 + (self.most - 1) * float(torch.rand(()))
        size = [max(1, round(side / factor)) for side in image.shape[-2:]]
        small = functional.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)
        return functional.interpolate(small, image.shape[-2:], mode="bilinear", align_corners=False)[0]


class RandomCutout(nn.Module):
    """Grey rectangles over about ``share`` of the image, a quarter of its sides at most (DeVries, Taylor 2017)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: Float[Tensor, "bands height width"]) -> Float[Tensor, "bands height width"]:
        """The image, 0..1, with holes; the labels below them stay."""
        image = image.clone()
        height, width = image.shape[-2:]
        # A hole covers a quarter of its largest extent on average.
        for _ in range(round(self.share * 4 / _CUTOUT_SIDE**2)):
            hole = [max(1, round(float(torch.rand(())) * _CUTOUT_SIDE * side)) for side in (height, width)]
            top, left = (int(torch.randint(side, ())) for side in (height, width))
            image[:, top : top + hole[0], left : left + hole[1]] = 0.5
        return image
