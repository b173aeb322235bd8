"""Per-image figures by hand."""

import numpy as np
import pytest

from dinoseg.evaluation.metrics import image_iou, per_image_figures

# Intersection, prediction, truth of two classes: IoU 1/2 and 1; 0 and absent; nothing valid.
COUNTS = np.array([[[2, 3], [3, 3], [3, 3]], [[0, 0], [4, 0], [2, 0]], [[0, 0], [0, 0], [0, 0]]])


def test_absent_classes_do_not_count_and_an_image_without_pixels_has_no_figure() -> None:
    values = image_iou(COUNTS)
    assert values[:2] == pytest.approx([0.75, 0.0])
    assert np.isnan(values[2])


def test_the_mean_is_over_images_with_a_figure_and_the_worst_come_first() -> None:
    figures = per_image_figures(["a", "b", "c"], COUNTS, worst=1)
    assert figures == {"mIoU": 37.5, "images": 2, "worst": [{"name": "b", "mIoU": 0.0}]}
    assert per_image_figures(["c"], COUNTS[2:])["mIoU"] is None
