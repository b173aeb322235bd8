"""What the page shows of a prediction: picture, classes and confidence at the size of a screen, and their drawing."""

import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from dinoseg.drawing.overlay import overlay, without_classes
from dinoseg.labels import LabelSpace

# The longer side of what is shown; files that are downloaded have native size.
LONGEST_SIDE = 1200
# Up to so many pixels a picture is sent as it is; larger ones as JPEG, which is drawn and sent ten times as fast.
_EXACT_PIXELS = 400_000
_JPEG_QUALITY = 92

ViewKind = Literal["classes", "confidence"]
VIEW_KINDS: tuple[ViewKind, ...] = ("classes", "confidence")


@dataclass(frozen=True)
class View:
    """How a prediction is drawn.

    Attributes:
        kind: its classes over the picture, or how sure the model is.
        opacity: of the classes, 0..1.
        hidden: class indices that are not drawn.
    """

    kind: ViewKind = "classes"
    opacity: float = 0.5
    hidden: frozenset[int] = frozenset()

    @staticmethod
    def parse(kind: str, opacity: float, hidden: str) -> "View":
        """A view as an address of the page names it: opacity in percent, class indices with commas between them.

        Raises:
            ValueError: no such view.
        """
        found = next((known for known in VIEW_KINDS if known == kind), None)
        if found is None:
            raise ValueError(f"view={kind}: choose {' or '.join(VIEW_KINDS)}")
        if not 0 <= opacity <= 100:
            raise ValueError(f"opacity={opacity:g}: choose 0 to 100")
        names = [name for name in hidden.split(",") if name]
        if not all(name.isdecimal() for name in names):
            raise ValueError(f"hidden={hidden}: class indices with commas between them are wanted")
        return View(found, opacity / 100, frozenset(map(int, names)))


@dataclass(frozen=True)
class Seen:
    """A prediction at the size of a screen; of small pictures, at native size.

    Attributes:
        picture: RGB.
        class_map: class indices.
        confidence: the largest probability of each pixel, 0..1 as 1..255.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    class_map: Integer[np.ndarray, "height width"]
    confidence: UInt8[np.ndarray, "height width"]

    @staticmethod
    def of(
        picture: Image.Image,
        class_map: Integer[np.ndarray, "native_height native_width"],
        confidence: UInt8[np.ndarray, "native_height native_width"],
    ) -> "Seen":
        """From native size. Of classes and confidence, each pixel is one of those it stands for; they have no mean."""
        factor = max(picture.size) / LONGEST_SIDE
        if factor <= 1:
            return Seen(np.asarray(picture.convert("RGB")), class_map, confidence)
        width, height = (max(1, round(side / factor)) for side in picture.size)
        rows, columns = (_middles(*sides) for sides in ((class_map.shape[0], height), (class_map.shape[1], width)))
        smaller = picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
        at = np.ix_(rows, columns)
        return Seen(np.asarray(smaller), class_map[at], confidence[at])

    def save(self, path: Path) -> None:
        """Writes an .npz file, not packed: it is read for every stroke of a slider."""
        np.savez(path, picture=self.picture, class_map=self.class_map, confidence=self.confidence)

    @staticmethod
    def load(path: Path) -> "Seen":
        """What ``save`` wrote. Raises OSError where it is gone."""
        with np.load(path) as arrays:
            return Seen(arrays["picture"], arrays["class_map"], arrays["confidence"])

    def draw(self, view: View, label_space: LabelSpace) -> Image.Image:
        """The picture with a view of the prediction, RGB."""
        if view.kind == "confidence":
            return Image.fromarray(self.confidence).convert("RGB")
        picture = Image.fromarray(self.picture)
        drawn = overlay(picture, self.class_map, label_space, view.opacity, legend=False)
        return without_classes(drawn, picture, self.class_map, view.hidden)


@dataclass(frozen=True)
class ClassShare:
    """A line of the legend.

    Attributes:
        index: class index.
        colour: (red, green, blue), 0..255.
        drawn: whether the overlay fills it; a background is not.
        share: of the pixels of the whole picture, 0..1.
    """

    index: int
    name: str
    colour: tuple[int, int, int]
    drawn: bool
    share: float


def class_shares(
    class_map: Integer[np.ndarray, "height width"], label_space: LabelSpace, drawn: Collection[int]
) -> tuple[ClassShare, ...]:
    """The legend of a class map, by class index; ``drawn`` are the classes that an overlay fills."""
    counts = np.bincount(class_map.ravel(), minlength=label_space.num_classes)
    shares = counts / max(1, class_map.size)
    return tuple(
        ClassShare(index, entry.name, entry.colour, index in drawn, float(shares[index]))
        for index, entry in enumerate(label_space.classes)
    )


def encoded(picture: Image.Image) -> tuple[bytes, str]:
    """The bytes of a picture as a browser takes it, and their media type: PNG, or JPEG where it is large."""
    buffer = io.BytesIO()
    if picture.width * picture.height <= _EXACT_PIXELS:
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


def _middles(native: int, size: int) -> Integer[np.ndarray, " size"]:
    """The native rows (or columns) at the middle of each that is shown."""
    return ((np.arange(size) + 0.5) * native / size).astype(np.int64)
