"""The window policy that a config asks for."""

from typing import Literal, cast

from dinoseg.config import Config
from dinoseg.data.transforms import as_size
from dinoseg.inference.blending import Blend
from dinoseg.inference.windows import TtaPolicy, WindowPolicy


def window_policy(config: Config) -> WindowPolicy:
    """Windows, blending, resizing and test-time augmentation from the ``eval`` and ``transforms.eval`` sections.

    Raises:
        ValueError: a value out of range; the message names its key.
    """
    tta = TtaPolicy(scales=tuple(config.transforms.eval.tta_ratios)) if config.eval.use_tta else None
    return WindowPolicy(
        mode=cast(Literal["whole", "slide"], config.eval.mode),
        crop=as_size(config.eval.crop_size, "eval.crop_size"),
        stride=as_size(config.eval.stride, "eval.stride"),
        batch_size=config.eval.batch_size,
        blend=cast(Blend, config.eval.blend),
        img_size=config.transforms.eval.img_size,
        tta=tta,
    )
