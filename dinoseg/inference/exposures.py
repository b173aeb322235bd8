"""One image as runs read it: the form of its pictures is each run's own."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dinoseg.data.bands import BandPicture, Picture, shown_picture
from dinoseg.data.picture_form import PictureForm

ImageSource = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Exposures:
    """Pictures of one image, by the form they are given; the first is the one that is shown."""

    pictures: dict[PictureForm, Picture]

    @staticmethod
    def of(image: ImageSource, forms: Iterable[PictureForm], name: str | None = None) -> "Exposures":
        """Reads an image once for each form.

        Args:
            name: what messages call an image that is no file.

        Raises:
            ValueError: the file cannot be read as an image, or the array has another shape or type.
        """
        if isinstance(image, str | Path):
            return Exposures({form: form.read(Path(image)) for form in forms})
        source = "image" if name is None else name
        return Exposures({form: form.of_values(image, source) for form in forms})

    @property
    def shown(self) -> Image.Image:
        """RGB, which overlays are drawn on."""
        return shown_picture(next(iter(self.pictures.values())))

    @property
    def is_blank(self) -> bool:
        """Whether its pixels are all the same, in every picture."""
        return all(_is_constant(picture) for picture in self.pictures.values())


def _is_constant(picture: Picture) -> bool:
    values = picture.values if isinstance(picture, BandPicture) else np.asarray(picture)
    return bool((values == values[:1, :1]).all())
