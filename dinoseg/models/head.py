"""What every head has: options of its own, a forward pass on image and features, and class scores for each pixel."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dinoseg.backbone import Backbone, FeatureMap
from dinoseg.config import DecoderHeadConfig

Output = TypeVar("Output")
Options = TypeVar("Options", bound="HeadOptions")


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Options of one type of head; each field has the name of its key in ``decoder_head``."""

    @classmethod
    def from_config(cls: type[Options], config: DecoderHeadConfig) -> Options:
        """The options that the config gives."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})


@dataclass
class PixelOutput:
    """Class scores before softmax, at a resolution of the head's own.

    Attributes:
        logits: the scores.
        auxiliary: scores of coarser levels of the head, which the loss supervises too; in training only.
    """

    logits: Float[Tensor, "batch classes height width"]
    auxiliary: tuple[Float[Tensor, "batch classes _ _"], ...] = ()


class Head(nn.Module, ABC, Generic[Output]):
    """Features and image to class scores; ``Output`` is what its loss takes.

    Attributes:
        predicts: scores of pixels (``PixelOutput``) or masks with a class each (``MaskOutput``, or several of
            them), by which the loss is chosen.
        class_layers: names of the layers that have one row a class, and for masks one more, "no object".
        scores_are_probabilities: whether ``semantic_logits`` can be averaged as they are, or want a softmax first; see
            ``class_probabilities``.
        sees_image: whether ``forward`` looks at more of the image than its size.
    """

    predicts: ClassVar[Literal["pixels", "masks"]]
    class_layers: ClassVar[tuple[str, ...]]
    scores_are_probabilities: ClassVar[bool]
    sees_image: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def from_config(cls, config: DecoderHeadConfig, backbone: Backbone, num_classes: int) -> "Head[Output]":
        """A freshly initialised head for the features of the backbone.

        Raises:
            ValueError: the options do not fit each other or the backbone.
        """

    def set_progress(self, progress: float) -> None:
        """Told before every training step: how much of the training is done, from 0 to below 1.

        What a head changes in the course of a training is a function of this alone, and of nothing that happened
        before; so a resumed training goes on as an unbroken one. Most heads change nothing.
        """
        return

    @abstractmethod
    def forward(self, image: Float[Tensor, "batch bands height width"], features: list[FeatureMap]) -> Output:
        """What the loss takes.

        Args:
            image: normalised, any size.
            features: one map a tapped layer, each over the extent of the image.
        """

    @abstractmethod
    def semantic_logits(self, output: Output, size: tuple[int, int]) -> Float[Tensor, "batch classes height width"]:
        """One score a class and pixel, at ``size`` (height, width) in pixels; the largest wins."""


def class_probabilities(
    scores: Float[Tensor, "classes height width"], are_probabilities: bool, temperature: float = 1.0
) -> Float[Tensor, "classes height width"]:
    """Scores of any head as probabilities, which add up to 1 over the classes of a pixel.

    The softmax of raw scores; what are sums or means of probabilities already is divided by its sum over classes. Where
    that sum is 0 the probabilities are 0, too: such a pixel has no say in a mean.

    A temperature T divides the logarithms of the probabilities, which are normalised anew (Guo, Pleiss, Sun and
    Weinberger, On Calibration of Modern Neural Networks, 2017): above 1 they become less sure, below 1 more, and their
    order stays. Of raw scores this is the softmax of scores / T.

    Args:
        scores: of a head, or a weighted mean of them.
        are_probabilities: the head's ``scores_are_probabilities``; and whatever went through a softmax before.
        temperature: above 0.
    """
    if not are_probabilities:
        return (scores if temperature == 1.0 else scores / temperature).softmax(dim=0)
    tiny = torch.finfo(scores.dtype).tiny
    if temperature != 1.0:
        # By the largest first: a small one may vanish, all of them may not.
        scores = (scores / scores.amax(dim=0).clamp_min(tiny)).pow(1 / temperature)
    return scores / scores.sum(dim=0).clamp_min(tiny)
