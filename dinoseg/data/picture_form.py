"""How the values that a file or an array holds become the picture that a model takes."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dinoseg.config import DatasetsConfig
from dinoseg.data.image_files import load_file
from dinoseg.data.pictures import to_picture, to_rgb


@dataclass(frozen=True)
class PictureForm:
    """What a run decides of it, once for all its pictures; two runs of one form read a picture alike.

    Attributes:
        white_level: what is white in pictures with 16 bits; None where the run saw none, and 65535 is taken.
    """

    white_level: int | None = None

    @staticmethod
    def of(datasets: DatasetsConfig) -> "PictureForm":
        """The form of a run's config."""
        return PictureForm(datasets.white_level)

    def read(self, path: Path) -> Image.Image:
        """The picture of a file, upright.

        Raises:
            ValueError: missing, truncated or unreadable file, or a mode without a meaning as a picture.
        """
        return self.of_stored(load_file(path), path)

    def of_stored(self, stored: Image.Image, source: Path | str) -> Image.Image:
        """The picture of a file that ``load_file`` gave; ``source`` names it. Warns and raises as ``to_rgb`` does."""
        return to_rgb(stored, source, self.white_level)

    def of_values(self, values: object, source: Path | str = "image") -> Image.Image:
        """The picture of a PIL image or an array; ``source`` names it. Warns and raises as ``to_picture`` does."""
        return to_picture(values, source, self.white_level)


# Where no run says otherwise.
PLAIN_FORM = PictureForm()
