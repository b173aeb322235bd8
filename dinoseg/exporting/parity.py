"""Proof that an exported file says what its run says: both predict the same pictures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from dinoseg.data.reading import Reading
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.tta import SemanticModel
from dinoseg.inference.windows import infer_scores
from dinoseg.onnx.description import IMAGES, LABELS, LOGITS, OnnxDescription

# Largest difference of a score, as a share of the range that scores have.
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2}


@runtime_checkable
class ExportedModel(Protocol):
    """What is proved: a file, opened by the engine that it is for."""

    def scores(self, image: Path) -> Float[np.ndarray, "classes height width"]:
        """One score a class and pixel of a picture, at native size."""


@dataclass(frozen=True)
class Parity:
    """How far a file is from its run, over some pictures.

    Attributes:
        images: their names.
        score_range: largest score less smallest, of the run.
        largest_difference: of one score.
        pixels: of all pictures.
        pixels_that_differ: where another class has the largest score.
    """

    images: tuple[str, ...]
    score_range: float
    largest_difference: float
    pixels: int
    pixels_that_differ: int

    @property
    def share_of_range(self) -> float:
        """The largest difference of a score, as a share of the range that scores have."""
        return self.largest_difference / max(self.score_range, 1e-12)

    def describe(self) -> dict[str, Any]:
        """For the file beside the exported one."""
        return asdict(self) | {"share_of_range": self.share_of_range}


class TorchScores:
    """What a model of PyTorch says of pictures, on the CPU: a run's segmenter, or a program made of it.

    Args:
        model: in evaluation mode.
        reading: the run's way to read pictures.
        policy: the windows of the exported file.
    """

    def __init__(self, model: SemanticModel, reading: Reading, policy: WindowPolicy) -> None:
        self._model, self._reading, self._policy = model, reading, policy

    def scores(self, image: Path) -> Float[np.ndarray, "classes height width"]:
        """One score a class and pixel of a picture, at native size."""
        tensor = self._reading.transform.normalise(self._reading.form.read(image))
        return infer_scores(self._model, tensor, self._policy, device="cpu").numpy()

    def of(self, model: SemanticModel) -> "TorchScores":
        """What another model says of pictures that are read and cut in the same way."""
        return TorchScores(model, self._reading, self._policy)


class ProgramModel:
    """A program of ``torch.export`` in place of the segmenter that it was made of.

    Args:
        file: of the program: windows to scores.
        num_classes: of these.
        scores_are_probabilities: of the segmenter.
    """

    def __init__(self, file: Path, num_classes: int, scores_are_probabilities: bool) -> None:
        self._program, self.num_classes = _program_of(file), num_classes
        self.scores_are_probabilities = scores_are_probabilities

    def semantic_logits(self, image: torch.Tensor) -> torch.Tensor:
        """Windows to scores."""
        given = self._program(image)
        scores: torch.Tensor = given[0] if isinstance(given, tuple) else given
        return scores


def compare(run: Sequence[np.ndarray], exported: ExportedModel, images: Sequence[Path]) -> Parity:
    """How far the file's scores are from the run's.

    Args:
        run: the run's scores of each picture.
    """
    lowest, highest, largest, pixels, differing = np.inf, -np.inf, 0.0, 0, 0
    for expected, image in zip(run, images, strict=True):
        found = exported.scores(image)
        lowest, highest = min(lowest, float(expected.min())), max(highest, float(expected.max()))
        difference = np.abs(found - expected).max()
        # A score that is no number is as far as can be.
        largest = max(largest, float(difference) if np.isfinite(difference) else np.inf)
        pixels += expected[0].size
        differing += int((found.argmax(axis=0) != expected.argmax(axis=0)).sum())
    return Parity(tuple(image.name for image in images), highest - lowest, largest, pixels, differing)


def refuse_other_labels(file: Path, description: OnnxDescription) -> None:
    """Raises ValueError where the label ids that a file gives are not those of its own scores, for windows of noise.

    Args:
        file: an ONNX file, or a program of ``torch.export``.
    """
    shape = (2, len(description.picture.mean), *description.window.size)
    scores, labels = _outputs(file, np.random.default_rng(0).normal(size=shape).astype(np.float32))
    expected = np.array(description.label_ids)[scores.argmax(axis=1)]
    differing = int((labels != expected).sum())
    if differing:
        raise ValueError(
            f"the label ids that its graph gives are not those of its scores, at {differing} of {expected.size} "
            "pixels; leave --labels out"
        )


def _outputs(file: Path, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and label ids of windows."""
    if file.suffix.lower() == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        scores, labels = session.run([LOGITS, LABELS], {IMAGES: windows})
        return scores, labels
    with torch.no_grad():
        scores, labels = _program_of(file)(torch.from_numpy(windows))
    return scores.numpy(), labels.numpy()


def _program_of(file: Path) -> Any:
    # As a stream: a path has to end in .pt2, written so, or PyTorch logs lines of its own.
    with file.open("rb") as stream:
        return torch.export.load(stream).module()
