"""An ensemble: the mean of several runs' class probabilities, each run reading and cutting an image as it was trained.

One run alone is an ensemble of one, and keeps its scores as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dinoseg.config import Config
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.reading import Reading
from dinoseg.data.transforms import build_eval_transform
from dinoseg.inference.decision import BY_SCORES, Decision
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.features import ImageFeatures, image_features
from dinoseg.inference.judged_rows import OnRows
from dinoseg.inference.policy import WindowPolicy, window_policy
from dinoseg.inference.small_patches import absorb_small_patches
from dinoseg.inference.tta import SemanticModel
from dinoseg.inference.windows import Sight, mean_class_map
from dinoseg.models.segmenter import Segmenter
from dinoseg.run_folder.calibration_file import LeastPatches
from dinoseg.system.device import DTYPES


@dataclass(frozen=True)
class Member:
    """A model with all that decides what it says of an image.

    Attributes:
        model: in evaluation mode, on the device of the ensemble.
        config: of its run; ``transforms``, ``eval`` and the form of its pictures decide size, windows, augmentation
            and what the model sees.
        fingerprint: names what decides its predictions beside the image; None where that is not known.
        origin: what metrics.json says of it.
        decision: what it decides by beside its scores.
    """

    model: SemanticModel
    config: Config
    fingerprint: str | None = None
    origin: "Origin | None" = None
    decision: Decision = BY_SCORES

    @cached_property
    def window(self) -> WindowPolicy:
        """How it cuts an image."""
        return window_policy(self.config)

    @cached_property
    def reading(self) -> Reading:
        """How it reads one."""
        return Reading(PictureForm.of(self.config.datasets), build_eval_transform(self.config.transforms))

    def sight(self, image: Float[Tensor, "bands height width"]) -> Sight:
        """An image that was read its way, for the window engine."""
        tuned, temperature = self.decision.tuned, self.decision.temperature
        weights = None if tuned is None else tuple(tuned.weights)
        return Sight(self.model, image, self.window, DTYPES[self.config.model_dtype], temperature, weights)

    def features(self, exposures: Exposures, device: torch.device, img_size: int | None) -> list[ImageFeatures]:
        """What its backbone says of the whole image.

        Args:
            img_size: the short side is resized to this first; None keeps the size.

        Raises:
            ValueError: the model is none of dinoseg's.
        """
        if not isinstance(self.model, Segmenter):
            raise ValueError(f"a {type(self.model).__name__} has no backbone to take features from")
        image = self.reading.transform.normalise(exposures.pictures[self.reading.form])
        return image_features(self.model, image, device, DTYPES[self.config.model_dtype], img_size)

    def describe(self) -> dict[str, Any]:
        """How its predictions come about."""
        return self.window.describe_origin() | self.decision.describe()


@dataclass(frozen=True)
class Origin:
    """Where a member comes from.

    Attributes:
        run: the run folder, as it was given.
        checkpoint: its name.
        weights_sha256: of the weights file.
    """

    run: str
    checkpoint: str
    weights_sha256: str


@dataclass(frozen=True)
class Ensemble:
    """Members of the same classes, on one device.

    Raises:
        ValueError: no member.
    """

    members: tuple[Member, ...]
    device: torch.device

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("no run is given; give one or more run folders")

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """The ways in which members read a picture, each once."""
        return tuple(dict.fromkeys(member.reading for member in self.members))

    @property
    def least_patches(self) -> LeastPatches | None:
        """Least sizes of patches of its class maps; of one run alone."""
        return self.members[0].decision.patches

    def class_map(
        self, images: Sequence[Float[Tensor, "bands height width"]], on_rows: OnRows | None = None
    ) -> UInt8[Tensor, "height width"] | Int[Tensor, "height width"]:
        """Class indices of an image, given as each of ``readings`` has it, at its own size, on the CPU.

        Args:
            on_rows: told of each stripe as the scores decide it, before small patches become what lies around them.
        """
        found = mean_class_map(self.sights(images), self.device, on_rows=on_rows)
        if self.least_patches is None:
            return found
        return torch.from_numpy(absorb_small_patches(found.numpy(), self.least_patches.pixels))

    def sights(self, images: Sequence[Float[Tensor, "bands height width"]]) -> list[Sight]:
        """What each member sees of an image, given as each of ``readings`` has it."""
        by_reading = dict(zip(self.readings, images, strict=True))
        return [member.sight(by_reading[member.reading]) for member in self.members]

    def describe(self) -> dict[str, Any]:
        """How predictions come about, for the policy of metrics.json: of one run, or of each of several."""
        if len(self.members) == 1:
            return self.members[0].describe()
        origins = [vars(member.origin) if member.origin else {} for member in self.members]
        described = zip(origins, self.members, strict=True)
        return {"members": [origin | member.describe() for origin, member in described]}
