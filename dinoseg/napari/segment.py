"""The widget: an image of the viewer through a run, into a layer of label ids."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from dinoseg.inference.predictor import load
from dinoseg.napari.label_layer import LayerData, label_layer

# What of an image's layer says where it lies.
_PLACE = ("scale", "translate", "rotate", "shear", "affine")

if TYPE_CHECKING:
    import napari.layers
    import napari.qt.threading
    import napari.types


def segment(
    image: "napari.layers.Image | None", run: Annotated[Path, {"mode": "d", "label": "run folder"}]
) -> "napari.qt.threading.FunctionWorker[napari.types.LayerDataTuple]":
    """Predicts the image with a run folder, beside the window's own work; the layer comes when it is done.

    Args:
        image: a picture (height, width), with colours as its last axis where napari shows them so, or a stack of such,
            of which each is predicted alone.
        run: that ``dinoseg train`` or ``dinoseg export`` wrote.

    Raises:
        ValueError: no image, no run, or values that the run does not read; napari shows the message.
    """
    from napari.qt.threading import thread_worker

    if image is None:
        raise ValueError("there is no image to segment; open one first")
    return thread_worker(segmented_layer, start_thread=True)(image, run)


def segmented_layer(image: "napari.layers.Image", run: Path) -> LayerData:
    """The layer of label ids of an image, which lies where the image does.

    Raises:
        ValueError: see ``segment``.
    """
    values, predictor = np.asarray(image.data[0] if image.multiscale else image.data), load(run)
    # Of what a picture has, the axes before it count pictures.
    axes = 3 if image.rgb else 2
    shape = values.shape[: values.ndim - axes]
    labels = np.stack([predictor.predict(values[place]).labels for place in np.ndindex(shape)])
    labels = labels.reshape(shape + labels.shape[1:])
    layer, settings, kind = label_layer(labels, predictor.label_space.classes, f"{image.name} by {run.name}")
    return layer, settings | {name: getattr(image, name) for name in _PLACE}, kind
