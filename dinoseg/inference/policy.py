"""The window policy: how an image is cut for the model, and which policy a config asks for."""

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from dinoseg.config import Config
from dinoseg.data.transforms import as_size
from dinoseg.data.window_axis import Blend
from dinoseg.inference.accumulator import WindowGrid
from dinoseg.inference.tta import TtaPolicy
from dinoseg.models.segmenter import HEADS

Mode = Literal["whole", "slide"]


@dataclass(frozen=True)
class WindowPolicy:
    """How an image is cut for the model and put together again.

    Attributes:
        mode: ``whole`` feeds the image in one piece, ``slide`` in windows.
        crop: height and width of a window in pixels (slide).
        stride: step of the windows, down and across, in pixels (slide).
        batch_size: windows in one forward pass; None chooses by device, crop and number of classes.
        blend: weight of a pixel within its window where windows overlap.
        img_size: the short side is resized to this first; None keeps the size.
        tta: views to average; None for the image alone.

    Raises:
        ValueError: a value out of range, or strides that would leave gaps; the message names the config key.
    """

    mode: Mode = "slide"
    crop: tuple[int, int] = (512, 512)
    stride: tuple[int, int] = (341, 341)
    batch_size: int | None = None
    blend: Blend = "uniform"
    img_size: int | None = None
    tta: TtaPolicy | None = None

    def __post_init__(self) -> None:
        _require_choice("eval.mode", self.mode, get_args(Mode))
        _require_choice("eval.blend", self.blend, get_args(Blend))
        _require_positive("eval.crop_size", *self.crop)
        _require_positive("eval.stride", *self.stride)
        for key, value in (("eval.batch_size", self.batch_size), ("transforms.eval.img_size", self.img_size)):
            if value is not None:
                _require_positive(key, value)
        if self.mode == "slide" and any(s > c for s, c in zip(self.stride, self.crop, strict=True)):
            raise ValueError(
                f"eval.stride {list(self.stride)} exceeds eval.crop_size {list(self.crop)}: pixels between windows "
                "would have no score; give a stride no larger than the crop"
            )

    def view_sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Height and width of an image of ``size`` at every scale: its short side is ``img_size`` (or its own) times
        the scale."""
        short = self.img_size or min(size)
        scales = self.tta.scales if self.tta else (1.0,)
        factors = [short * scale / min(size) for scale in scales]
        return [(max(1, round(size[0] * factor)), max(1, round(size[1] * factor))) for factor in factors]

    def grid(self, size: tuple[int, int], batch_size: int) -> WindowGrid:
        """The windows over a view of this size: one that is all of it for ``whole``."""
        if self.mode == "whole":
            return WindowGrid.over(size, size, size, 1)
        return WindowGrid.over(size, self.crop, self.stride, batch_size)

    def scored_pixels(self, size: tuple[int, int]) -> int:
        """Pixels that the model scores for an image of this height and width, over all windows and views."""
        grids = [self.grid(view, 1) for view in self.view_sizes(size)]
        windows = sum(len(grid.tops) * len(grid.lefts) * grid.window[0] * grid.window[1] for grid in grids)
        return windows * (len(self.tta.orientations) if self.tta else 1)

    def describe(self) -> dict[str, Any]:
        """The policy for metrics.json; only what applies."""
        description: dict[str, Any] = {"mode": self.mode, "img_size": self.img_size}
        if self.mode == "slide":
            description |= {"crop": list(self.crop), "stride": list(self.stride), "blend": self.blend}
        description["tta"] = self.tta and {
            "scales": list(self.tta.scales),
            "horizontal_flip": self.tta.horizontal_flip,
            "right_angle_rotations": self.tta.right_angle_rotations,
            "backbone_once": self.tta.backbone_once,
        }
        return description

    def describe_origin(self) -> dict[str, Any]:
        """How predictions come about, for metrics.json: the resolution, and this policy."""
        return {"resolution": self.resolution, "window": self.describe()}

    @property
    def resolution(self) -> str:
        """What size images are predicted at, in words."""
        return "native" if self.img_size is None else f"short side {self.img_size}, scores resized to native"


def window_policy(config: Config) -> WindowPolicy:
    """Windows, blending, resizing and test-time augmentation from the ``eval`` and ``transforms.eval`` sections."""
    views = config.transforms.eval
    assert config.eval.crop_size is not None and config.eval.stride is not None  # filled in when it was loaded
    tta = TtaPolicy(
        tuple(views.tta_ratios),
        right_angle_rotations=views.tta_right_angle_rotations,
        backbone_once=_backbone_sees_once(config),
    )
    return WindowPolicy(
        mode=cast(Mode, config.eval.mode),
        crop=as_size(config.eval.crop_size),
        stride=as_size(config.eval.stride),
        batch_size=config.eval.batch_size,
        blend=cast(Blend, config.eval.blend),
        img_size=views.img_size,
        tta=tta if config.eval.use_tta else None,
    )


def _backbone_sees_once(config: Config) -> bool:
    asked = config.transforms.eval.tta_backbone
    if asked is not None:
        return asked == "once"
    # A head that was trained on features turned with the crop has never met those of a turned image. One that looks
    # at nothing else would say the same of both, and gains by what the backbone sees anew.
    return config.train.cache_features is True and HEADS[config.decoder_head.type].sees_image


def _require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{key} is {value!r}; choose one of {', '.join(choices)}")


def _require_positive(key: str, *values: int) -> None:
    if min(values) < 1:
        raise ValueError(f"{key} is {list(values) if len(values) > 1 else values[0]}; give whole numbers of 1 or more")
