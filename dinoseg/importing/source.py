"""What every format is read into: pictures with shapes, the classes, and what could not be taken over."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dinoseg.importing.classes import ClassTable
from dinoseg.importing.runs import Region

# The value that marks pixels which count nowhere; datasets.ignore has it by default.
IGNORED_ID = 255
CENTRES = "a pixel belongs to a shape if its centre lies inside (even-odd)"


@dataclass(frozen=True)
class Shape:
    """One annotation: the region, the label id it is drawn with, and where it stands (``annotations[3]``).

    Shapes of a higher ``layer`` lie on top, whatever the rule for overlaps.
    """

    label_id: int
    region: Region
    where: str
    layer: int = 0


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture and what is drawn on it.

    Attributes:
        name: its path in the data set, with suffix.
        file: where it lies; where it is embedded, the file that holds it.
        where: its entry, for messages.
        stated_size: (width, height) by the annotations; None where they say none and mean the picture as one sees it.
        embedded: gives the bytes of a picture that is no file.
        split: train, val or test; empty where the source has no splits.
        raster_size: (width, height) of a raster, as read from it; None for a picture, whose size is yet to be read.
    """

    name: str
    file: Path
    where: str
    shapes: tuple[Shape, ...]
    stated_size: tuple[int, int] | None = None
    embedded: Callable[[], bytes] | None = None
    split: str = ""
    raster_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Dropped:
    """Something in the source that is not in the data set."""

    where: str
    reason: str


@dataclass(frozen=True)
class Source:
    """Annotations of any format.

    Attributes:
        format: as on the command line.
        origin: files and folders they were read from, as given.
        pixel_rule: which pixels a shape covers, in words.
        dropped: what is not taken over, and why.
        notes: what else one must know of how they were read, in sentences.
    """

    format: str
    origin: str
    pictures: tuple[AnnotatedPicture, ...]
    classes: ClassTable
    pixel_rule: str = CENTRES
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
