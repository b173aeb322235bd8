"""One image as runs read it: what is white in 16 bits is each run's own."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dinoseg.data.pictures import read_image, to_picture

ImageSource = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class Exposures:
    """RGB pictures of one image, by white level; the first is the one that is shown."""

    pictures: dict[int | None, Image.Image]

    @staticmethod
    def of(image: ImageSource, white_levels: Iterable[int | None], name: str | None = None) -> "Exposures":
        """Reads an image once for each white level.

        Args:
            name: what messages call an image that is no file.

        Raises:
            ValueError: the file cannot be read as an image, or the array has another shape or type.
        """
        if isinstance(image, str | Path):
            return Exposures({level: read_image(Path(image), level) for level in white_levels})
        source = "image" if name is None else name
        return Exposures({level: to_picture(image, source, level) for level in white_levels})

    @property
    def shown(self) -> Image.Image:
        """The picture that overlays are drawn on."""
        return next(iter(self.pictures.values()))
