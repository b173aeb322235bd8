"""What decides the features of an image, beside the image: the key of a folder of the cache."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dinoseg.backbone import Backbone, fitted_size
from dinoseg.config import Config
from dinoseg.data.transforms import as_size, normalisation
from dinoseg.system.files import user_cache_folder

# Raised whenever the same recipe gives other numbers, or files another form.
VERSION = 2


@dataclass(frozen=True)
class FeatureRecipe:
    """How features of an image are computed.

    Attributes:
        backbone: its name, for people.
        backbone_sha256: of its weights.
        layers: tapped, by index.
        use_norm: whether the backbone's final norm is applied to each.
        scale: how much larger than ``img_size`` makes it the backbone sees an image.
        img_size: the short side is resized to this first; None keeps it.
        tile: largest height and width, in pixels after ``img_size``, that go through the backbone in one piece; None
            for any. Larger images go in overlapping tiles, as evaluation's windows do.
        model_dtype: precision of the forward pass.
        mean, std: of the normalisation.
    """

    backbone: str
    backbone_sha256: str
    layers: tuple[int, ...]
    use_norm: bool
    scale: float
    img_size: int | None
    tile: tuple[int, int] | None
    model_dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(config: Config, backbone: Backbone, backbone_sha256: str) -> "FeatureRecipe":
        """What evaluation would feed the backbone, so that a head is trained on what it will meet.

        Args:
            backbone_sha256: of its ``frozen_state``; to find it takes seconds for a large one.
        """
        views = config.transforms.eval
        crop = config.eval.crop_size
        mean, std = normalisation(config.transforms)
        assert crop is not None  # filled in when the config was loaded
        return FeatureRecipe(
            backbone=config.model.dino_hub,
            backbone_sha256=backbone_sha256,
            layers=backbone.layers,
            use_norm=backbone.use_norm,
            scale=backbone.scale,
            img_size=views.img_size,
            tile=None if config.eval.mode == "whole" else as_size(crop),
            model_dtype=config.model_dtype,
            mean=mean,
            std=std,
        )

    @property
    def key(self) -> str:
        """The name of the folder that holds such features."""
        text = json.dumps([VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width after ``img_size`` of an image of ``size``."""
        factor = 1.0 if self.img_size is None else self.img_size / min(size)
        height, width = (max(1, round(side * factor)) for side in size)
        return height, width

    def bytes_for(self, size: tuple[int, int], backbone: Backbone) -> int:
        """What the features of an image of ``size`` (height, width) take, but for a header."""
        patch = backbone.spec.patch_size
        height, width = fitted_size(self.resized(size), patch, self.scale)
        values = sum(
            channels * (height // stride) * (width // stride)
            for channels, stride in zip(backbone.out_channels, backbone.strides, strict=True)
        )
        return values * torch.float16.itemsize


def default_cache_folder() -> Path:
    """Where features are kept unless ``train.cache_folder`` says otherwise."""
    return user_cache_folder() / "features"
