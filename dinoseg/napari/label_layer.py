"""A layer of label ids as napari takes it: each id with the name and the colour of its class."""

from typing import Any

import numpy as np
from jaxtyping import Integer

from dinoseg.labels.settings import LabelClass

# Values, keywords of napari's layer, and its kind.
LayerData = tuple[np.ndarray, dict[str, Any], str]


def label_layer(labels: Integer[np.ndarray, "..."], classes: tuple[LabelClass, ...], name: str) -> LayerData:
    """Label ids of a picture (height, width) or of slices (slices, height, width), as a layer of that name.

    Ids of no class, which are ignored ones, are transparent.
    """
    colours: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0)}
    entries = [(label_id, entry) for entry in classes for label_id in entry.label_ids]
    for label_id, entry in entries:
        colours[label_id] = (*(channel / 255 for channel in entry.colour), 1.0)
    # napari finds the row of a label id by the column ``index``, and shows it where the mouse is.
    features = {"index": [label_id for label_id, _ in entries], "class": [entry.name for _, entry in entries]}
    return labels, {"name": name, "colormap": colours, "features": features, "opacity": 0.5}, "labels"
