"""Label maps of ``dinoseg predict`` as layers of napari."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dinoseg.data.masks import read_mask
from dinoseg.inference.recorded_predictions import RecordedPredictions
from dinoseg.napari.label_layer import LayerData, label_layer

Paths = str | Sequence[str]


def reader_of(paths: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """The reader of these files, where all are label maps (PNG, TIFF) that lie where ``dinoseg predict`` wrote them.

    None for others, which napari then opens in its own way: a picture in a folder of its own is no label map.

    Raises:
        ValueError: their predictions.json is damaged.
    """
    listed = _listed(paths)
    return read_label_maps if listed and all(RecordedPredictions.around(path) for path in listed) else None


def read_label_maps(paths: Paths) -> list[LayerData]:
    """A layer for each.

    Raises:
        ValueError: a damaged file, or one that is no label map of ``dinoseg predict``.
    """
    layers = []
    for path in _listed(paths):
        predictions = RecordedPredictions.around(path)
        if predictions is None:
            raise ValueError(f"{path}: not in the labels/ folder of a prediction; open a label map of dinoseg predict")
        layers.append(label_layer(read_mask(path, predictions.kind), predictions.classes, path.stem))
    return layers


def _listed(paths: Paths) -> list[Path]:
    return [Path(path) for path in ([paths] if isinstance(paths, str) else paths)]
