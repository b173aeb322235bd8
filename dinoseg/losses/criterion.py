"""The criterion of a head, from the config."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dinoseg.config import Config, TrainConfig
from dinoseg.labels import LabelSpace
from dinoseg.losses.cldice import SoftClDice
from dinoseg.losses.mask_classification import MaskClassificationLoss
from dinoseg.losses.matching import check_query_count
from dinoseg.losses.pixel import PixelLoss
from dinoseg.models.segmenter import HEADS


def build_criterion(
    config: Config, label_space: LabelSpace, class_pixels: list[int], most_classes: int | None = None
) -> nn.Module:
    """The loss that the head of ``decoder_head.type`` brings.

    Args:
        class_pixels: pixels of each class index in the training masks, for ``train.class_weights=auto``.
        most_classes: the most classes that one training image holds.

    Raises:
        ValueError: an image holds more classes than there are queries, ``train.class_weights`` is neither none, auto
            nor a mapping of known class names to numbers, or ``train.cldice_classes`` names no class.
    """
    weights = class_weights(config.train.class_weights, label_space, class_pixels)
    if HEADS[config.decoder_head.type].predicts == "masks":
        check_query_count(label_space.num_classes, config.decoder_head.num_queries, most_classes)
        return MaskClassificationLoss(
            num_classes=label_space.num_classes,
            ignore_index=label_space.ignore_index,
            settings=config.m2f_train,
            class_weights=weights,
        )
    # Filled in when the config was loaded.
    assert config.train.diceloss_weight is not None
    return PixelLoss(
        ignore_index=label_space.ignore_index,
        celoss_weight=config.train.celoss_weight,
        diceloss_weight=config.train.diceloss_weight,
        class_weights=weights,
        auxiliary_weight=config.train.auxiliary_weight,
        cldice=_cldice(config.train, label_space, class_pixels),
    )


def _cldice(train: TrainConfig, label_space: LabelSpace, class_pixels: list[int]) -> SoftClDice | None:
    classes = thin_classes(train.cldice_classes, label_space, class_pixels)
    if not train.cldice_weight:
        return None
    return SoftClDice(classes, label_space.ignore_index, train.cldice_weight)


def thin_classes(names: list[str] | None, label_space: LabelSpace, class_pixels: list[int]) -> tuple[int, ...]:
    """Indices of the classes whose centre lines count; all but the most frequent where none is named.

    Raises:
        ValueError: a name that is no class, or an empty list.
    """
    if not names and names is not None:
        raise ValueError("train.cldice_classes is empty; name the thin classes, or leave it out")
    if names is None:
        most = max(range(label_space.num_classes), key=lambda index: class_pixels[index])
        return tuple(index for index in range(label_space.num_classes) if index != most)
    for name in names:
        if name not in label_space.class_names:
            known = ", ".join(label_space.class_names)
            raise ValueError(f"train.cldice_classes names {name!r}, which is no class; use some of {known}")
    return tuple(sorted({label_space.class_names.index(name) for name in names}))


def class_weights(setting: Any, label_space: LabelSpace, class_pixels: list[int]) -> Tensor | None:
    """One weight a class, with mean 1 over the classes that occur; None for equal weights.

    ``auto`` is the inverse square root of the class's pixel share; a class that never occurs gets weight 1.
    """
    if setting is None or setting == "none":
        return None
    if setting == "auto":
        pixels = torch.tensor(class_pixels, dtype=torch.float64)
        occurs = pixels > 0
        weights = torch.ones_like(pixels)
        weights[occurs] = (pixels[occurs] / pixels.sum()).rsqrt()
        weights[occurs] /= weights[occurs].mean()
        return weights.float()
    if not isinstance(setting, dict):
        raise ValueError(f"train.class_weights={setting!r}; give none, auto, or {{name: weight}}")
    weights = torch.ones(label_space.num_classes)
    for name, weight in setting.items():
        if name not in label_space.class_names:
            known = ", ".join(label_space.class_names)
            raise ValueError(f"train.class_weights names {name!r}, which is no class; use one of {known}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"train.class_weights.{name}={weight!r}; give a finite number of 0 or more")
        weights[label_space.class_names.index(name)] = float(weight)
    if not weights.any():
        raise ValueError(f"train.class_weights={setting}: all are 0, nothing to learn; raise one of them")
    return weights
