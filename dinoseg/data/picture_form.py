"""How the values that a file or an array holds become the picture that a model takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Num
from PIL import Image, ImageOps

from dinoseg.config import DatasetsConfig
from dinoseg.config.bands import Percentiles, Ranges, parse_range
from dinoseg.data.band_files import array_bands, chosen, is_array, read_band_file, values_of
from dinoseg.data.bands import BandPicture, Picture, finite_pixels, with_inside
from dinoseg.data.image_files import load_array, load_file
from dinoseg.data.pictures import LARGEST_WHITE, to_picture, to_rgb, warn_of_range


@dataclass(frozen=True)
class LoadedPicture:
    """The picture of a file, upright; width and height before the EXIF rotation, and its tag (1: none)."""

    picture: Picture
    stored_size: tuple[int, int]
    orientation: int


@dataclass(frozen=True)
class PictureForm:
    """What a run decides of it, once for all its pictures; two runs of one form read a picture alike.

    Attributes:
        white_level: what is white in pictures with 16 bits; None where the run saw none, and 65535 is taken.
        bands: of the file, counted from 1, in the order of the model's; None for grey or RGB.
        ranges: values that become 0 and 1, one pair for all bands or one for each; None for 0 to 255, or to white.
    """

    white_level: int | None = None
    bands: tuple[int, ...] | None = None
    ranges: Ranges | None = None

    @staticmethod
    def of(datasets: DatasetsConfig) -> "PictureForm":
        """The form of a run's config.

        Raises:
            ValueError: ``datasets.range`` names percentiles, which are measured when a training begins.
        """
        ranges = parse_range(datasets.range)
        if isinstance(ranges, Percentiles):
            raise ValueError(
                f"datasets.range={datasets.range} is measured when a training begins, and the run keeps the values; "
                "give two values, -1,1, or leave it out"
            )
        return PictureForm(datasets.white_level, _bands(datasets), ranges)

    @staticmethod
    def before_measuring(datasets: DatasetsConfig) -> "PictureForm":
        """The same where percentiles are not known yet: which values are read is, what becomes of them is not."""
        ranges = parse_range(datasets.range)
        ranges = ((0.0, 1.0),) if isinstance(ranges, Percentiles) else ranges
        return PictureForm(datasets.white_level, _bands(datasets), ranges)

    @property
    def takes_values(self) -> bool:
        """Whether pictures are read as values of bands, not as images of 8 bits."""
        return self.bands is not None or self.ranges is not None

    @property
    def channels(self) -> int:
        """Bands that the model sees."""
        return 3 if self.bands is None else len(self.bands)

    def read(self, path: Path) -> Picture:
        """The picture of a file, upright.

        Raises:
            ValueError: missing, truncated or unreadable file, without one of the bands, or a mode without a meaning as
                a picture.
        """
        return self.load(path).picture

    def load(self, path: Path) -> LoadedPicture:
        """``read``, with what was done to turn it upright."""
        if self.takes_values:
            found = read_band_file(path, self.bands)
            return LoadedPicture(self.of_bands(found.values, path, found.inside), found.stored_size, found.orientation)
        if is_array(path):
            picture = self.of_values(load_array(path), path)
            return LoadedPicture(picture, picture.size, 1)
        stored = load_file(path)
        return LoadedPicture(
            to_rgb(stored, path, self.white_level), stored.info["stored_size"], stored.info["orientation"]
        )

    def of_values(self, values: object, source: Path | str = "image") -> Picture:
        """The picture of a PIL image or an array; ``source`` names it. Warns and raises as ``to_picture`` does."""
        if not self.takes_values:
            return to_picture(values, source, self.white_level)
        return self.of_bands(chosen(every_band(values, source), self.bands, source), source)

    def of_bands(
        self,
        values: Num[np.ndarray, "height width bands"],
        source: Path | str,
        inside: Bool[np.ndarray, "height width"] | None = None,
    ) -> Picture:
        """The picture of the chosen bands; a pixel that is not finite in one of them holds no data.

        Args:
            source: names it in messages.
            inside: where it holds data.

        Raises:
            ValueError: values without a range: floating-point numbers, or below 0.
        """
        if not self.takes_values:
            return to_picture(values[..., 0] if values.shape[2] == 1 else values, source, self.white_level)
        values = self.read_of(values)
        ranges = self._ranges_of(values, source)
        inside = finite_pixels(values, inside)
        picture = BandPicture(values, ranges, inside)
        return picture if self.bands is not None else with_inside(picture.shown(), inside)

    def read_of(self, values: Num[np.ndarray, "height width every"]) -> Num[np.ndarray, "height width bands"]:
        """What the model sees of chosen bands: of all, where none are named, red, green and blue, or grey."""
        return values if self.bands is not None else values[..., : 3 if values.shape[2] >= 3 else 1]

    def _ranges_of(self, values: Num[np.ndarray, "height width bands"], source: Path | str) -> Ranges:
        """Low and high of each band."""
        count = values.shape[2]
        if self.ranges is not None:
            return self.ranges if len(self.ranges) == count else self.ranges * count
        if values.dtype == np.uint8:
            return ((0.0, 255.0),) * count
        if values.dtype == np.uint16:
            warn_of_range(values, source, self.white_level)
            return ((0.0, float(self.white_level or LARGEST_WHITE)),) * count
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        found = f" ({finite.min():g} to {finite.max():g})" if finite.size else ""
        raise ValueError(
            f"{source}: values of type {values.dtype}{found} have no white of their own; set datasets.range=low,high, "
            "or datasets.range=p1-p99 when a training begins"
        )


# Where no run says otherwise.
PLAIN_FORM = PictureForm()


def every_band(values: object, source: Path | str) -> Num[np.ndarray, "height width bands"]:
    """All bands of a PIL image or an array.

    Raises:
        ValueError: neither, or an array of another shape or type.
    """
    if isinstance(values, Image.Image):
        return values_of(ImageOps.exif_transpose(values), source)
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{source}: a {type(values).__name__} is no image; give a PIL image or an array")
    return array_bands(values, source)


def _bands(datasets: DatasetsConfig) -> tuple[int, ...] | None:
    return None if datasets.bands is None else tuple(datasets.bands)
