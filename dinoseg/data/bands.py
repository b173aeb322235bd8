"""Pictures of any number of bands, which training and inference take where a PIL image would stand."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Num
from PIL import Image

from dinoseg.config.bands import Ranges

Inside = Bool[np.ndarray, "height width"]


def finite_pixels(values: Num[np.ndarray, "height width bands"], inside: Inside | None) -> Inside | None:
    """Where values hold data: inside, and finite in every band; None for everywhere."""
    if values.dtype.kind == "f":
        finite = np.isfinite(values).all(axis=-1)
        inside = finite if inside is None else inside & finite
    return None if inside is None or inside.all() else inside


@dataclass(frozen=True, eq=False)
class BandPicture:
    """Values as they are stored, upright, with the range that makes 0..1 of them; a crop alone is converted.

    Attributes:
        values: of the chosen bands.
        ranges: low and high, one pair a band.
        inside: where it holds data; None for everywhere. Elsewhere every band is 0.
    """

    values: Num[np.ndarray, "height width bands"]
    ranges: Ranges
    inside: Inside | None = field(default=None)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as of a PIL image."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def mode(self) -> str:
        """Bands and type in words, where a PIL image has its mode."""
        return f"{self.values.shape[2]} x {self.values.dtype}"

    def tobytes(self) -> bytes:
        """What decides its pixels, to be hashed."""
        known = b"" if self.inside is None else self.inside.tobytes()
        return f"{self.values.dtype} {self.ranges}".encode() + np.ascontiguousarray(self.values).tobytes() + known

    def pixels(self, top: int, left: int, height: int, width: int) -> Float32[np.ndarray, "bands height width"]:
        """A part of it, 0..1."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        # float32 does not tell large whole numbers apart.
        wide = self.values.dtype.itemsize > 2 and self.values.dtype != np.float32
        values = np.moveaxis(self.values[rows, columns], -1, 0).astype("f8" if wide else "f4")
        low, high = (np.array(side, dtype=values.dtype)[:, None, None] for side in zip(*self.ranges, strict=True))
        scaled = np.clip((values - low) / (high - low), 0, 1).astype("f4")
        if self.inside is None:
            return scaled
        # What stands where there is no data may be no number.
        return np.where(self.inside[rows, columns], scaled, np.float32(0))

    def shown(self) -> Image.Image:
        """RGB of 8 bits for the eye: the first three bands; the first one as grey where there are fewer."""
        pixels = self.pixels(0, 0, *self.values.shape[:2])
        colours = pixels[:3] if len(pixels) >= 3 else pixels[:1].repeat(3, axis=0)
        return Image.fromarray(np.moveaxis((colours * 255).round().astype(np.uint8), 0, -1).copy())


Picture = Image.Image | BandPicture

# Where a PIL image keeps what ``BandPicture.inside`` says.
_INSIDE = "inside"


def shown_picture(picture: Picture) -> Image.Image:
    """A picture as RGB, for the eye."""
    return picture.shown() if isinstance(picture, BandPicture) else picture


def with_inside(picture: Image.Image, inside: Inside | None) -> Image.Image:
    """Notes on a PIL image where it holds data."""
    if inside is not None:
        picture.info[_INSIDE] = inside
    return picture


def inside_of(picture: Picture) -> Inside | None:
    """Where a picture holds data; None for everywhere."""
    return picture.inside if isinstance(picture, BandPicture) else picture.info.get(_INSIDE)


def channels_of(picture: Picture) -> int:
    """How many bands it has; an image of PIL's is RGB here."""
    return picture.values.shape[2] if isinstance(picture, BandPicture) else 3
