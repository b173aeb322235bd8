"""How a run turns a picture into what its model takes."""

from dataclasses import dataclass

from dinoseg.data.picture_form import PictureForm
from dinoseg.data.transforms import EvalTransform


@dataclass(frozen=True)
class Reading:
    """The form of its pictures, and the normalisation."""

    form: PictureForm
    transform: EvalTransform
