"""From an image and its class index map to the tensors that training and evaluation read.

Random numbers come from torch's CPU generator alone, which the dataset seeds per sample.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt
from torch import Tensor, nn
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from dinoseg.config import TransformsConfig
from dinoseg.config.defaults import IMAGENET_MEAN, IMAGENET_STD
from dinoseg.data.affine import AffineTransform
from dinoseg.data.appearance import degradations, intensity_distortion, photometric_distortion
from dinoseg.data.bands import Picture
from dinoseg.data.crop_choice import CROP_TRIES, largest_share, uniform
from dinoseg.data.picture_tensors import cut


def as_size(value: int | list[int]) -> tuple[int, int]:
    """Height and width, in pixels, of a config value that is a whole number (square) or ``[height, width]``."""
    height, width = value if isinstance(value, list) else (value, value)
    return height, width


def resize_image(
    image: Float[Tensor, "bands height width"], size: tuple[int, int]
) -> Float[Tensor, "bands new_height new_width"]:
    """Bilinear with antialiasing; the image itself where the size is its own."""
    if tuple(image.shape[-2:]) == size:
        return image
    return functional.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


def _integer_map(class_map: UInt[np.ndarray, "height width"]) -> tv_tensors.Mask:
    """The class index map as a mask tensor; 16-bit indices widened, since torch can do little with uint16."""
    return tv_tensors.Mask(torch.from_numpy(class_map if class_map.dtype == np.uint8 else class_map.astype(np.int32)))


def _resize_mask(mask: tv_tensors.Mask, size: tuple[int, int]) -> tv_tensors.Mask:
    """Nearest-neighbour resize about pixel centres.

    torchvision's own rule for masks takes the upper left neighbour, which shifts a shrunk mask against its image.
    """
    plain = mask.as_subclass(Tensor)[None]
    return tv_tensors.Mask(F.resize(plain, list(size), interpolation=InterpolationMode.NEAREST_EXACT)[0])


def _window_and_size(native: int, crop: int, scale: float) -> tuple[int, int]:
    """Along one axis: source pixels that a crop covers, and their number after the resize by ``scale``."""
    scaled = max(1, round(native * scale))
    if scaled <= crop:
        return native, scaled
    return min(native, max(1, round(crop / scale))), crop


@dataclass(frozen=True)
class TrainTransform:
    """Random resize, crop, flips, rotation and distortion of an image and its class index map, then normalisation.

    The crop is cut out in source pixels before it is resized, so that no part of a large image is resized in vain.
    Image and class map share the cut, and stay aligned to less than a pixel. What a small image leaves of the crop,
    to the right and below, holds zero (the mean colour) and the ignore index. A crop in which one class covers more
    than ``max_class_share`` of the pixels that count, or in which none counts, is drawn anew. After 10 tries in all the
    last one is taken; a share of 1 turns that off.
    """

    crop_size: tuple[int, int]
    ignore_index: int
    img_size: int | None
    ratio_range: tuple[float, float]
    max_class_share: float
    right_angle_rotations: bool
    appearance: v2.Compose

    def __call__(
        self, image: Picture, class_map: UInt[np.ndarray, "height width"]
    ) -> tuple[Float[Tensor, "bands crop_height crop_width"], Int64[Tensor, "crop_height crop_width"]]:
        """A picture and its class indices (H, W) -> normalised float image and int64 class map of the crop size."""
        quarter_turns = int(torch.randint(4, ()).item()) if self.right_angle_rotations else 0
        # A crop that is to be turned by 90 degrees is cut lying on its side, and comes out in the shape asked for.
        crop_height, crop_width = self.crop_size[:: -1 if quarter_turns % 2 else 1]
        scale = self._draw_scale(*class_map.shape)
        window_height, height = _window_and_size(class_map.shape[0], crop_height, scale)
        window_width, width = _window_and_size(class_map.shape[1], crop_width, scale)
        top, left, mask = self._draw_crop(_integer_map(class_map), (window_height, window_width), (height, width))
        window = tv_tensors.Image(cut(image, top, left, window_height, window_width))
        resized = F.resize(window, [height, width], antialias=True)
        if quarter_turns:
            resized = tv_tensors.Image(torch.rot90(resized, quarter_turns, (-2, -1)))
            mask = tv_tensors.Mask(torch.rot90(mask, quarter_turns, (-2, -1)))
        return self._padded(*self.appearance(resized, mask))

    def _draw_scale(self, native_height: int, native_width: int) -> float:
        base = 1.0 if self.img_size is None else self.img_size / min(native_height, native_width)
        return base * uniform(*self.ratio_range)

    def _draw_crop(
        self, mask: tv_tensors.Mask, window: tuple[int, int], size: tuple[int, int]
    ) -> tuple[int, int, tv_tensors.Mask]:
        """Upper left corner of the crop, in source pixels, and the class map of the crop at its final scale."""
        rows, columns = mask.shape[-2] - window[0] + 1, mask.shape[-1] - window[1] + 1
        tries = CROP_TRIES if self.max_class_share < 1.0 and rows * columns > 1 else 1
        for _ in range(tries):
            top, left = int(torch.randint(rows, ()).item()), int(torch.randint(columns, ()).item())
            crop = _resize_mask(F.crop(mask, top, left, *window), size)
            if tries > 1 and largest_share(crop.numpy(), self.ignore_index) <= self.max_class_share:
                break
        return top, left, crop

    def _padded(
        self, image: tv_tensors.Image, mask: tv_tensors.Mask
    ) -> tuple[Float[Tensor, "bands crop_height crop_width"], Int64[Tensor, "crop_height crop_width"]]:
        """Plain tensors of the crop size; padded after normalisation, where the mean colour is exactly zero."""
        height, width = mask.shape[-2:]
        padded_image = torch.zeros((image.shape[-3], *self.crop_size))
        padded_image[:, :height, :width] = image
        padded_map = torch.full(self.crop_size, self.ignore_index)
        padded_map[:height, :width] = mask
        return padded_image, padded_map


def build_train_transform(
    config: TransformsConfig, ignore_index: int, samples_features: bool = False
) -> TrainTransform | AffineTransform:
    """The training transform of a config.

    Args:
        samples_features: features of the whole image are to be sampled where the crop lies, which wants a placement.
    """
    train = config.train
    low, high = train.random_img_size_ratio_range
    mean, std = normalisation(config)
    distortion = [photometric_distortion()] if train.photometric_distortion and len(mean) == 3 else []
    steps = [intensity_distortion()] if train.photometric_distortion and len(mean) != 3 else []
    steps = [*steps, *degradations(train)]
    normalise = v2.Normalize(list(mean), list(std))
    if samples_features or train.rotation or train.shear or train.elastic or train.foreground_share:
        return AffineTransform(
            options=train,
            crop_size=as_size(train.crop_size),
            ignore_index=ignore_index,
            appearance=v2.Compose([*distortion, *steps, normalise]),
        )
    appearance = [
        v2.RandomHorizontalFlip(train.flip_prob),
        v2.RandomVerticalFlip(train.vertical_flip_prob),
        *distortion,
        v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        *(_OnImage(step) for step in steps),
        normalise,
    ]
    return TrainTransform(
        crop_size=as_size(train.crop_size),
        ignore_index=ignore_index,
        img_size=train.img_size,
        ratio_range=(low, high),
        max_class_share=train.max_class_share,
        right_angle_rotations=train.right_angle_rotations,
        appearance=v2.Compose(appearance),
    )


class _OnImage(nn.Module):
    """A step on an image that leaves the mask beside it as it is."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """The changed image, and the mask."""
        return tv_tensors.Image(self.step(image.as_subclass(Tensor))), mask


@dataclass(frozen=True)
class EvalTransform:
    """Normalisation at native size; the window engine does all the resizing of evaluation and prediction."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, image: Picture) -> Float[Tensor, "bands height width"]:
        """A picture as a float tensor, zero mean and unit deviation for images of the statistics given."""
        whole = cut(image, 0, 0, image.size[1], image.size[0])
        return F.normalize(F.to_dtype(whole, torch.float32, scale=True), list(self.mean), list(self.std))

    def __call__(
        self, image: Picture, class_map: UInt[np.ndarray, "height width"]
    ) -> tuple[Float[Tensor, "bands height width"], Int64[Tensor, "height width"]]:
        """A picture and its class indices (H, W) -> normalised float image and int64 class map, both native size."""
        return self.normalise(image).contiguous(), torch.from_numpy(class_map.astype(np.int64))


def build_eval_transform(config: TransformsConfig) -> EvalTransform:
    """The evaluation transform of a config."""
    return EvalTransform(*normalisation(config))


def normalisation(config: TransformsConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each band; ImageNet's where a config does not say them."""
    mean, std = config.mean, config.std
    return tuple(IMAGENET_MEAN if mean is None else mean), tuple(IMAGENET_STD if std is None else std)
