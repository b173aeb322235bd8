"""The window engine: one image to scores or to a label map at native size, in bounded memory.

Validation, ``eval``, ``predict`` and the Python API all come through here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dinoseg.data.transforms import resize_image
from dinoseg.data.window_axis import Blend
from dinoseg.inference.accumulator import RowAccumulator, WindowGrid
from dinoseg.inference.judged_rows import JudgedRows, OnRows, Say, deciding_scores
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.resampling import argmax_classes
from dinoseg.inference.tta import Orientation, SemanticModel, WindowScorer
from dinoseg.models.bilinear import AxisMap, resample_columns, resample_rows

# Pixels and scores of a stripe: small enough for caches, and for an allocator to use the same memory again (16 MiB).
_STRIPE_PIXELS = 1 << 18
_STRIPE_SCORES = 1 << 22
# Scores of a batch of windows, where the batch size is left to the engine. A CPU gains nothing from larger batches.
_BATCH_SCORES = {"cpu": 1 << 23}
_BATCH_SCORES_ACCELERATOR = 1 << 28
_MOST_WINDOWS = 16
# Scores held between stripes, over all scales. Above, windows at the border of stripes are scored twice.
_HELD_BYTES = 2 << 30


@dataclass(frozen=True)
class Sight:
    """One model, and an image as it sees it.

    Attributes:
        model: gives scores of windows; left on its device and in its mode.
        image: normalised, any size.
        policy: windows, blending, test-time augmentation.
        autocast_dtype: precision of the forward pass; None or float32 for whatever the caller has set.
        temperature: that its probabilities are taken at; changes no class of one model alone.
        class_weights: of one model alone, see ``judged_rows.py::Say``.
    """

    model: SemanticModel
    image: Float[Tensor, "bands height width"]
    policy: WindowPolicy
    autocast_dtype: torch.dtype | None = None
    temperature: float = 1.0
    class_weights: tuple[float, ...] | None = None


def predict_class_map(
    model: SemanticModel,
    image: Float[Tensor, "bands height width"],
    policy: WindowPolicy,
    native_size: tuple[int, int] | None = None,
    *,
    device: torch.device | str | None = None,
    autocast_dtype: torch.dtype | None = None,
    stripe_rows: int | None = None,
    held_bytes: int = _HELD_BYTES,
    on_rows: OnRows | None = None,
) -> UInt8[Tensor, "native_height native_width"] | Int[Tensor, "native_height native_width"]:
    """Class indices at native size: scores, resized bilinearly to native size, then argmax (the first of equals).

    Works in horizontal stripes: beside the image and the model, memory holds ``crop height x width`` rows of scores
    that wait for windows, one batch of windows, and one stripe. The result does not depend on the stripes. (``whole``
    scores the image in one piece: the model's own output is all of it.)

    Args:
        model: gives scores of windows; left on its device and in its mode.
        image: normalised, any size.
        policy: windows, blending, test-time augmentation.
        native_size: height and width of the result; the image's own when left out.
        device: where windows are scored and accumulated; the model's when left out.
        autocast_dtype: precision of the forward pass; None or float32 for whatever the caller has set.
        stripe_rows: rows of a stripe; from width and number of classes when left out.
        held_bytes: when the waiting scores would exceed this, windows that reach into two stripes are scored for each
            of them instead: slower, bounded whatever the image, the crop and the scales, and the same result.
        on_rows: told of each stripe once it is decided, with the probabilities behind it.

    Returns:
        uint8 up to 256 classes, else int32, on the CPU.
    """
    return mean_class_map(
        [Sight(model, image, policy, autocast_dtype)],
        _target(device, model, image),
        native_size,
        stripe_rows=stripe_rows,
        held_bytes=held_bytes,
        on_rows=on_rows,
    )


def mean_class_map(
    sights: Sequence[Sight],
    device: torch.device,
    native_size: tuple[int, int] | None = None,
    *,
    stripe_rows: int | None = None,
    held_bytes: int = _HELD_BYTES,
    on_rows: OnRows | None = None,
) -> UInt8[Tensor, "native_height native_width"] | Int[Tensor, "native_height native_width"]:
    """Class indices of several models' mean, stripe by stripe as ``predict_class_map`` does it for one.

    Each model's scores come to native size as if it were alone, and become probabilities there, at its temperature
    (``models/head.py::class_probabilities``); their mean decides. One model alone keeps its scores.

    Args:
        sights: models of the same classes, with one image as each of them sees it.
        device: where windows are scored and accumulated.
        native_size: height and width of the result; those of the first image when left out.
        stripe_rows, held_bytes, on_rows: see ``predict_class_map``; the bytes are of all models together.
    """
    stripes = _StripedScores(sights, device, native_size, _StripeMemory(stripe_rows, held_bytes))
    num_classes = sights[0].model.num_classes
    class_map = torch.empty(stripes.size, dtype=torch.uint8 if num_classes <= 256 else torch.int32)
    with torch.no_grad():
        for first, last in stripes.ranges:
            says = stripes.says(first, last)
            if on_rows is None:
                class_map[first:last] = argmax_classes(deciding_scores(says))
                continue
            kept = tuple(says)
            class_map[first:last] = argmax_classes(deciding_scores(kept))
            on_rows(JudgedRows(first, class_map[first:last], kept))
    return class_map


def infer_scores(
    model: SemanticModel,
    image: Float[Tensor, "bands height width"],
    policy: WindowPolicy,
    native_size: tuple[int, int] | None = None,
    *,
    device: torch.device | str | None = None,
    autocast_dtype: torch.dtype | None = None,
) -> Float[Tensor, "classes native_height native_width"]:
    """The scores behind ``predict_class_map`` (same arguments), fp32, all at once and on the model's device.

    Probabilities with test-time augmentation or where the model's scores are such; otherwise its raw scores.
    """
    return mean_scores([Sight(model, image, policy, autocast_dtype)], _target(device, model, image), native_size)


def mean_scores(
    sights: Sequence[Sight], device: torch.device, native_size: tuple[int, int] | None = None
) -> Float[Tensor, "classes native_height native_width"]:
    """The scores behind ``mean_class_map`` (same arguments), fp32, all at once and on the device.

    Probabilities where there are several models; those of one are what ``infer_scores`` gives.
    """
    rows = native_size[0] if native_size else sights[0].image.shape[-2]
    stripes = _StripedScores(sights, device, native_size, _StripeMemory(rows, None))
    with torch.no_grad():
        return deciding_scores(stripes.says(0, rows))


@dataclass(frozen=True)
class _StripeMemory:
    """Native rows of a stripe (None: from width and classes), and bytes of scores held between stripes (None: any)."""

    rows: int | None
    held_bytes: int | None


def _scorer(sight: Sight, device: torch.device) -> WindowScorer:
    model, tta, precision = sight.model, sight.policy.tta, sight.autocast_dtype
    if tta is None:
        return WindowScorer(model, (Orientation(),), False, device, precision)
    return WindowScorer(model, tta.orientations, True, device, precision, tta.backbone_once)


class _StripedScores:
    """Scores at native size, averaged over scales and models, by ranges of rows from top to bottom."""

    def __init__(
        self,
        sights: Sequence[Sight],
        device: torch.device,
        native_size: tuple[int, int] | None,
        memory: _StripeMemory,
    ) -> None:
        self.size = native_size or _size(sights[0].image)
        plans = [_Plan.of(sight, _scorer(sight, device)) for sight in sights]
        grids = [grid for plan in plans for grid in plan.grids]
        rows, keep = _stripe_plan(grids, self.size, sights[0].model.num_classes, memory)
        self.ranges = [(first, min(first + rows, self.size[0])) for first in range(0, self.size[0], rows)]
        models = [_ModelScores(plan, self.size, self.ranges, keep) for plan in plans]
        self._models = list(zip(models, sights, strict=True))

    def says(self, first: int, last: int) -> Iterator[Say]:
        """What each model says of native rows ``first`` to ``last`` (exclusive)."""
        for model, sight in self._models:
            are_probabilities = model.scorer.gives_probabilities
            yield Say(model.rows(first, last), are_probabilities, sight.temperature, sight.class_weights)


@dataclass(frozen=True)
class _Plan:
    """One model's scales of an image, and the windows over each."""

    scorer: WindowScorer
    blend: Blend
    images: list[Float[Tensor, "bands _ _"]]
    grids: list[WindowGrid]

    @staticmethod
    def of(sight: Sight, scorer: WindowScorer) -> "_Plan":
        policy, size = sight.policy, _size(sight.image)
        images = [resize_image(sight.image, view) for view in policy.view_sizes(size)]
        batch_size = policy.batch_size or _batch_size(policy.crop, scorer.model.num_classes, scorer.device)
        return _Plan(scorer, policy.blend, images, [policy.grid(_size(view), batch_size) for view in images])


class _ModelScores:
    """Scores of one model at native size, averaged over scales."""

    def __init__(self, plan: _Plan, size: tuple[int, int], ranges: list[tuple[int, int]], keep: bool) -> None:
        self.scorer = plan.scorer
        self._views = []
        for view, grid in zip(plan.images, plan.grids, strict=True):
            axes = [AxisMap.between(grid.size[axis], size[axis], plan.scorer.device) for axis in (0, 1)]
            sources = [axes[0].source_rows(*stripe) for stripe in ranges]
            most_rows = max(last - first for first, last in sources)
            accumulator = RowAccumulator(plan.scorer, view, grid, plan.blend, most_rows, keep)
            self._views.append((accumulator, axes[0], axes[1]))

    def rows(self, first: int, last: int) -> Float[Tensor, "classes rows width"]:
        """Scores of native rows ``first`` to ``last`` (exclusive)."""
        total: Tensor | None = None
        for view, rows, columns in self._views:
            source_first, source_last = rows.source_rows(first, last)
            scores = view.rows(source_first, source_last)
            scores = resample_columns(resample_rows(scores, source_first, rows, first, last), columns)
            total = scores if total is None else total.add_(scores)
        assert total is not None
        return total.div_(len(self._views)) if len(self._views) > 1 else total


def _stripe_plan(
    grids: list[WindowGrid], size: tuple[int, int], num_classes: int, memory: _StripeMemory
) -> tuple[int, bool]:
    """Native rows of a stripe, and whether scores are kept between stripes."""
    stripe_rows, held_bytes = memory.rows, memory.held_bytes
    widest = max(size[1], *(grid.size[1] for grid in grids))
    rows = stripe_rows or max(1, min(_STRIPE_PIXELS, _STRIPE_SCORES // num_classes) // widest)
    if held_bytes is None:
        return rows, True
    source_rows = [rows * grid.size[0] // size[0] + 2 for grid in grids]
    held = sum(grid.most_rows_held(most) * grid.size[1] for grid, most in zip(grids, source_rows, strict=True))
    if 4 * num_classes * held <= held_bytes:
        return rows, True
    if stripe_rows is None:
        # Larger stripes have fewer borders, and so fewer windows that are scored twice. Beside the rings a stripe
        # exists three times while it is resampled.
        per_row = 4 * num_classes * (3 * widest + sum(g.size[1] * g.size[0] / size[0] for g in grids))
        rows = min(size[0], max(rows, int(held_bytes / per_row)))
    return rows, False


def _batch_size(crop: tuple[int, int], num_classes: int, device: torch.device) -> int:
    scores = _BATCH_SCORES.get(device.type, _BATCH_SCORES_ACCELERATOR)
    return max(1, min(_MOST_WINDOWS, scores // (num_classes * crop[0] * crop[1])))


def _size(image: Float[Tensor, "bands height width"]) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _target(device: torch.device | str | None, model: SemanticModel, image: Tensor) -> torch.device:
    if device is not None:
        return torch.device(device)
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return image.device if parameter is None else parameter.device
