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
    views = config.transforms.eval
    if views.tta_right_angle_rotations and not config.eval.use_tta:
        raise ValueError(
            "transforms.eval.tta_right_angle_rotations=true has no effect without eval.use_tta=true; add it"
        )
    tta = TtaPolicy(tuple(views.tta_ratios), right_angle_rotations=views.tta_right_angle_rotations)
    return WindowPolicy(
        mode=cast(Literal["whole", "slide"], config.eval.mode),
        crop=as_size(config.eval.crop_size, "eval.crop_size"),
        stride=as_size(config.eval.stride, "eval.stride"),
        batch_size=config.eval.batch_size,
        blend=cast(Blend, config.eval.blend),
        img_size=views.img_size,
        tta=tta if config.eval.use_tta else None,
    )
