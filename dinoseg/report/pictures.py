"""The pictures of a report: which images, drawn anew from the checkpoint, small in the page and full beside it."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer
from PIL import Image

from dinoseg.data.bands import shown_picture
from dinoseg.data.dataset import read_encoded
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PictureForm
from dinoseg.drawing.overlay import error_map, overlay
from dinoseg.evaluation.confusion import confusion_matrix
from dinoseg.evaluation.metrics import counts_from_confusion, image_iou, iou
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace

VIEWS = ("image", "truth", "prediction", "errors")

# Longest sides of thumbnails, in pixels; the first that keeps the page within its size is taken.
_SIDES = (640, 480, 360, 270, 200, 150)

ClassMap = Integer[np.ndarray, "height width"]
Views = dict[str, Image.Image]


@dataclass(frozen=True)
class Picture:
    """One image of the report.

    Attributes:
        row: its place in the evaluation.
        size: width and height of the image, in pixels.
        thumbnails: small views, at most the first of ``_SIDES`` long.
        full: file of each view at native size, relative to the report.
        ignored: share of pixels that count nowhere, 0..1.
        counts: pixels in intersection, prediction and truth by class, of what is drawn.
    """

    name: str
    row: int
    size: tuple[int, int]
    thumbnails: Views
    full: dict[str, str]
    ignored: float
    counts: Int[np.ndarray, "3 classes"]


def choose_images(counts: Int[np.ndarray, "images 3 classes"], most: int) -> list[int]:
    """Rows of the images to show, worst image IoU first.

    When not all fit, half are the worst of all; the others are the worst of each class that occurs in their truth, by
    turns, so that a filter by class has something to show. Places left go to the next worst.
    """
    order = np.argsort(image_iou(counts), kind="stable").tolist()  # NaN comes last
    if len(order) <= most:
        return order
    chosen = dict.fromkeys(order[: (most + 1) // 2])
    values = np.where(counts[:, 2] > 0, iou(counts), np.nan)
    queues = [
        [row for row in np.argsort(column, kind="stable").tolist() if not np.isnan(column[row])] for column in values.T
    ]
    for rank in range(len(order)):
        for queue in queues:
            if rank < len(queue) and len(chosen) < most:
                chosen[queue[rank]] = None
    for row in order:
        if len(chosen) < most:
            chosen[row] = None
    return [row for row in order if row in chosen]


def draw_pictures(
    predictor: Predictor,
    pairs: Sequence[Pair],
    rows: Sequence[int],
    folder: Path,
    link: str,
    progress: Callable[[], None] = lambda: None,
) -> list[Picture]:
    """Predicts images and draws their views; those of native size go to ``folder/<name>/<view>.jpg``.

    Args:
        rows: place in the evaluation of each pair.
        link: path of ``folder`` as the report refers to it.
        progress: called after each image.

    Raises:
        ValueError: an image or mask cannot be read.
    """
    pictures = []
    for pair, row in zip(pairs, rows, strict=True):
        pictures.append(_draw(predictor, pair, row, folder, link))
        progress()
    return pictures


def data_uris(pictures: Sequence[Picture], most_bytes: int) -> list[dict[str, str]]:
    """Every view of every picture as a ``data:`` URI, together at most ``most_bytes`` long.

    Raises:
        ValueError: the pictures do not fit even when very small.
    """
    for side in _SIDES:
        encoded = [{view: _data_uri(image, side) for view, image in p.thumbnails.items()} for p in pictures]
        if sum(len(uri) for views in encoded for uri in views.values()) <= most_bytes:
            return encoded
    raise ValueError(
        f"{len(pictures)} images do not fit a page of {most_bytes / 1e6:.0f} MB; show fewer with --max-images"
    )


def _draw(predictor: Predictor, pair: Pair, row: int, folder: Path, link: str) -> Picture:
    space = predictor.label_space
    form = PictureForm.of(predictor.config.datasets)
    picture, truth = read_encoded(pair, space, form)
    prediction = predictor.predict(Exposures({form: picture})).class_map
    image = shown_picture(picture)
    matrix = confusion_matrix(prediction, truth, space.num_classes, space.ignore_index)
    ignored = truth == space.ignore_index
    full = {}
    target = folder / pair.name
    target.mkdir(parents=True, exist_ok=True)
    for view, drawn in _views(image, truth, prediction, space, legend=True).items():
        # Chroma at full resolution: subsampled, the thin outlines would lose their class's colour.
        drawn.save(target / f"{view}.jpg", quality=92, subsampling=0)
        full[view] = f"{link}/{pair.name}/{view}.jpg"
    # Small views are drawn small, not shrunk: hatching and outlines stay visible.
    small = _fitted(image, _SIDES[0], Image.Resampling.LANCZOS)
    small_truth, small_prediction = (_shrunk(class_map, small.size) for class_map in (truth, prediction))
    return Picture(
        name=pair.name,
        row=row,
        size=image.size,
        thumbnails=_views(small, small_truth, small_prediction, space, legend=False),
        full=full,
        ignored=float(ignored.mean()),
        counts=counts_from_confusion(matrix).numpy(),
    )


def _views(image: Image.Image, truth: ClassMap, prediction: ClassMap, space: LabelSpace, legend: bool) -> Views:
    shown = np.where(truth == space.ignore_index, space.ignore_index, prediction)
    return {
        "image": image,
        "truth": overlay(image, truth, space, legend=legend),
        "prediction": overlay(image, shown, space, legend=legend),
        "errors": error_map(image, truth, prediction, space),
    }


def _shrunk(class_map: ClassMap, size: tuple[int, int]) -> ClassMap:
    """Nearest class indices at (width, height) ``size``."""
    rows = (np.arange(size[1]) + 0.5) * class_map.shape[0] / size[1]
    columns = (np.arange(size[0]) + 0.5) * class_map.shape[1] / size[0]
    return class_map[rows.astype(int)[:, None], columns.astype(int)[None]]


def _fitted(image: Image.Image, side: int, resampling: Image.Resampling) -> Image.Image:
    """The image with its longer side at most ``side`` pixels."""
    ratio = side / max(image.size)
    if ratio >= 1:
        return image
    return image.resize((max(1, round(image.width * ratio)), max(1, round(image.height * ratio))), resampling)


def _data_uri(image: Image.Image, side: int) -> str:
    buffer = io.BytesIO()
    _fitted(image, side, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=84, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
