"""Which probabilities ``predict`` writes, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinoseg.inference.fingerprint import digest_of
from dinoseg.inference.map_probabilities import MapProbabilities
from dinoseg.labels import LabelSpace

PROBABILITIES, CONFIDENCE = "probabilities", "confidence"


@dataclass(frozen=True)
class ProbabilityOptions:
    """Which probabilities ``predict`` writes.

    Attributes:
        every: of every class, or the ``top`` largest of each pixel.
        top: None for every class.
        confidence: a picture of the largest.
        in_overlay: the overlay fades where the model is uncertain.

    Raises:
        ValueError: ``top`` without ``every``, or below 1.
    """

    every: bool = False
    top: int | None = None
    confidence: bool = False
    in_overlay: bool = False

    def __post_init__(self) -> None:
        if self.top is None:
            return
        if not self.every:
            raise ValueError(f"--top-k {self.top}: is of the probabilities that --probabilities writes; add that")
        if self.top < 1:
            raise ValueError(f"--top-k {self.top}: give 1 or more, or leave it out for every class")

    @property
    def any(self) -> bool:
        """Whether the model is asked for probabilities at all."""
        return self.every or self.confidence or self.in_overlay

    @property
    def words(self) -> str:
        """The options as they were given; empty without any."""
        asked = [("--probabilities", self.every), (f"--top-k {self.top}", self.top is not None)]
        asked += [("--confidence", self.confidence), ("--overlay-uncertainty", self.in_overlay)]
        return " ".join(name for name, given in asked if given)

    @property
    def folders(self) -> list[str]:
        """Where files go, below the output folder."""
        return [*([PROBABILITIES] if self.every else []), *([CONFIDENCE] if self.confidence else [])]

    def check(self, label_space: LabelSpace) -> None:
        """Raises ValueError where more are asked for than there are classes."""
        if self.top is not None and self.top > label_space.num_classes:
            raise ValueError(
                f"--top-k {self.top}: the run has {label_space.num_classes} classes; give as many or fewer, or leave "
                "it out for every class"
            )

    def overlay_settings(self, labels: str, temperatures: Sequence[float]) -> str:
        """The settings that decide label map and overlay, by those that decide the label map alone."""
        return f"{labels} fading {list(temperatures)}" if self.in_overlay else labels

    def fingerprint(self, labels: str | None, temperatures: Sequence[float]) -> str | None:
        """Names what decides the files of probabilities, by the fingerprint of the label map; None without that."""
        if labels is None:
            return None
        return digest_of(f"{labels} probabilities {list(temperatures)} {self.top}")

    def of_map(self, image: Path, out: Path, name: str, fingerprint: str | None) -> MapProbabilities | None:
        """Where the probabilities of a map go; None where none are wanted.

        Args:
            image: the map, for messages.
            out: the output folder.

        Raises:
            ValueError: options that are of pictures.
        """
        of_pictures = [f"--top-k {self.top}"] if self.top is not None else []
        of_pictures += ["--overlay-uncertainty"] if self.in_overlay else []
        if of_pictures:
            raise ValueError(f"{image}: a map, and {' '.join(of_pictures)} is of pictures; leave it out")
        if not self.any:
            return None
        every = out / PROBABILITIES / f"{name}.tif" if self.every else None
        return MapProbabilities(every, out / CONFIDENCE / f"{name}.tif" if self.confidence else None, fingerprint)

    def describe(self, written: Mapping[str, str], temperatures: Sequence[float]) -> dict[str, Any]:
        """What predictions.json says of them.

        Args:
            written: label map by input, as there.
        """
        if not self.any:
            return {}
        said: dict[str, Any] = {"temperatures": list(temperatures)}
        if self.every:
            said["top"] = self.top
            said["probabilities"] = {path: _beside(labels, PROBABILITIES, ".npz") for path, labels in written.items()}
        if self.confidence:
            said["confidence"] = {path: _beside(labels, CONFIDENCE, ".png") for path, labels in written.items()}
        return {"probabilities": said}


NO_PROBABILITIES = ProbabilityOptions()


def _beside(labels: str, folder: str, suffix: str) -> str:
    """The file of the same name in another folder; those of maps are GeoTIFFs in each."""
    name = labels.removeprefix("labels/")
    return f"{folder}/{name if name.endswith('.tif') else name.removesuffix('.png') + suffix}"
