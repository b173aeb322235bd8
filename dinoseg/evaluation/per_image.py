"""Figures of single images: their mean, and the worst of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dinoseg.evaluation.metrics import iou


def image_iou(counts: Int[np.ndarray, "images 3 classes"]) -> Float[np.ndarray, " images"]:
    """Mean IoU of each image over the classes with a pixel in its truth or prediction, 0..1; NaN without any."""
    values = iou(counts)
    defined = (~np.isnan(values)).sum(axis=1)
    return np.divide(np.nansum(values, axis=1), defined, out=np.full(len(values), np.nan), where=defined > 0)


def per_image_figures(
    names: Sequence[str], counts: Int[np.ndarray, "images 3 classes"], worst: int = 10
) -> dict[str, Any]:
    """Mean over images of the image's mIoU in percent (null without a valid image), and the ``worst`` images."""
    values = image_iou(counts)
    order = [int(row) for row in np.argsort(values, kind="stable") if not np.isnan(values[row])]
    return {
        "mIoU": 100 * float(np.nanmean(values)) if order else None,
        "images": len(order),
        "worst": [{"name": names[row], "mIoU": 100 * float(values[row])} for row in order[:worst]],
    }
