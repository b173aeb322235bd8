"""Test-time augmentation: the same window scored at several scales and orientations, as probabilities."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dinoseg.backbone import FeatureMap


@runtime_checkable
class SemanticModel(Protocol):
    """What inference knows of a model."""

    num_classes: int

    @property
    def scores_are_probabilities(self) -> bool:
        """Whether scores can be averaged as they are, or want a softmax over classes first."""

    def semantic_logits(self, image: Tensor) -> Tensor:
        """Images (batch, 3, height, width) to scores (batch, num_classes, height, width)."""


@runtime_checkable
class TwoPartModel(SemanticModel, Protocol):
    """A model whose features can be had apart from its scores."""

    def features(self, image: Tensor) -> list[FeatureMap]:
        """Maps over the extent of the images."""

    def semantic_logits(self, image: Tensor, features: list[FeatureMap] | None = None) -> Tensor:
        """As above, from these features; they are computed when left out."""


@dataclass(frozen=True)
class Orientation:
    """A symmetry of the square: ``quarter_turns`` counter-clockwise turns, then a horizontal flip where ``flipped``."""

    quarter_turns: int = 0
    flipped: bool = False

    def apply(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels _ _"]:
        """The image so oriented; odd turns swap height and width."""
        turned = torch.rot90(image, self.quarter_turns, (-2, -1)) if self.quarter_turns else image
        return turned.flip(-1) if self.flipped else turned

    def undo(self, scores: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels _ _"]:
        """The inverse of ``apply``."""
        straight = scores.flip(-1) if self.flipped else scores
        return torch.rot90(straight, -self.quarter_turns, (-2, -1)) if self.quarter_turns else straight


@dataclass(frozen=True)
class TtaPolicy:
    """Which views of an image are averaged.

    Attributes:
        scales: factors on the size of the image (after ``img_size``).
        horizontal_flip: each view also mirrored.
        right_angle_rotations: each view also turned by 90, 180 and 270 degrees.
        backbone_once: the backbone sees each scale upright alone, and its features are mirrored and turned along with
            the image.

    Raises:
        ValueError: no scale, or one that is not positive.
    """

    scales: tuple[float, ...] = (1.0,)
    horizontal_flip: bool = True
    right_angle_rotations: bool = False
    backbone_once: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(
                f"transforms.eval.tta_ratios is {list(self.scales)}; give at least one scale, all above 0, e.g. [1.0]"
            )

    @property
    def orientations(self) -> tuple[Orientation, ...]:
        """The upright view first."""
        turns = range(4 if self.right_angle_rotations else 1)
        flips = (False, True) if self.horizontal_flip else (False,)
        return tuple(Orientation(turn, flipped) for turn in turns for flipped in flips)


@dataclass(frozen=True)
class WindowScorer:
    """Scores a batch of windows in every orientation.

    Orientations are applied to the window, not to the image: they then share one grid of windows and one accumulator,
    and memory does not grow with their number.

    Attributes:
        model: see ``SemanticModel``.
        orientations: averaged; without augmentation the upright one alone.
        backbone_once: features of the window as it is serve all orientations; of a ``TwoPartModel``.
        as_probabilities: softmax over classes first, where the model's scores are not probabilities already.
        device: where the model runs.
        autocast_dtype: of the forward pass; None or float32 for whatever the caller has set.
    """

    model: SemanticModel
    orientations: tuple[Orientation, ...]
    as_probabilities: bool
    device: torch.device
    autocast_dtype: torch.dtype | None = None
    backbone_once: bool = False

    def __call__(
        self, windows: Float[Tensor, "batch bands height width"]
    ) -> Float[Tensor, "batch classes height width"]:
        """Windows to fp32 scores. What the model gave may be a buffer of its own, so nothing is changed in place."""
        first, *others = self.orientations
        if not others:
            return first.undo(self._scores(first.apply(windows), None))
        features = self._features(windows) if self.backbone_once else None
        total: Tensor | None = None
        for orientation in self.orientations:
            turned = None if features is None else [_turned(feature, orientation) for feature in features]
            scores = orientation.undo(self._scores(orientation.apply(windows), turned)) / len(self.orientations)
            total = scores if total is None else total.add_(scores)
        assert total is not None
        return total

    @property
    def gives_probabilities(self) -> bool:
        """Whether what this gives are probabilities or sums of them; they may add up to less than 1 over classes."""
        return self.as_probabilities or self.model.scores_are_probabilities

    def _features(self, windows: Float[Tensor, "batch bands height width"]) -> list[FeatureMap]:
        assert isinstance(self.model, TwoPartModel)
        with self._precision():
            return self.model.features(windows)

    def _scores(
        self, windows: Float[Tensor, "batch bands height width"], features: list[FeatureMap] | None
    ) -> Float[Tensor, "batch classes height width"]:
        with self._precision():
            if features is None:
                scores = self.model.semantic_logits(windows)
            else:
                assert isinstance(self.model, TwoPartModel)
                scores = self.model.semantic_logits(windows, features)
        expected = (len(windows), self.model.num_classes, *windows.shape[-2:])
        if scores.shape != expected:
            raise ValueError(f"semantic_logits gave {tuple(scores.shape)} for windows that want {expected}")
        softmax = self.as_probabilities and not self.model.scores_are_probabilities
        return scores.float().softmax(dim=1) if softmax else scores.float()

    def _precision(self) -> AbstractContextManager[None]:
        if self.autocast_dtype in (None, torch.float32):
            return nullcontext()  # not a disabled autocast: that would undo one of the caller's
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)


def _turned(feature: FeatureMap, orientation: Orientation) -> FeatureMap:
    """The features moved as the image is; a class token is of the whole image."""
    return replace(feature, map=orientation.apply(feature.map))
