"""What ``dinoseg predict`` writes: label maps and overlays, each with the fingerprint that spares making it twice."""

import glob
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image

from dinoseg.data.folders import Pair
from dinoseg.data.masks import read_image, read_pair, write_label_map
from dinoseg.inference.files import InputImage
from dinoseg.inference.fingerprint import bears_fingerprint, output_fingerprint, png_text
from dinoseg.inference.predictor import Prediction, Predictor
from dinoseg.labels import LabelSpace
from dinoseg.system.files import replace_text, replaced_file


@dataclass(frozen=True)
class Outcome:
    """What became of one input: predicted, kept from before, or failed with an error."""

    image: InputImage
    kept: bool = False
    error: str | None = None


@dataclass(frozen=True)
class OpenedImage:
    """An image that waits for its prediction.

    Attributes:
        picture: RGB, upright.
        truth: (H, W) label ids of the true mask, where its ignored pixels are to be kept.
        fingerprint: of the outputs to be.
    """

    image: InputImage
    picture: Image.Image
    truth: Integer[np.ndarray, "height width"] | None
    fingerprint: str | None


@dataclass(frozen=True)
class PredictionSummary:
    """What happened to each input, by its path.

    Attributes:
        written: label maps, those kept from before included; paths under the output folder.
        failed: messages of the inputs without an output.
        kept: inputs whose output was there already.
    """

    written: dict[str, str]
    failed: dict[str, str]
    kept: tuple[str, ...] = ()


def summarise(outcomes: Iterable[Outcome]) -> PredictionSummary:
    """The summary in the order of the outcomes."""
    written, failed, kept = {}, {}, []
    for outcome in outcomes:
        path = str(outcome.image.path)
        if outcome.error is not None:
            failed[path] = outcome.error
            continue
        written[path] = f"labels/{outcome.image.name}.png"
        if outcome.kept:
            kept.append(path)
    return PredictionSummary(written, failed, tuple(kept))


@dataclass(frozen=True)
class OutputFolder:
    """Where predictions go, and how they look.

    Attributes:
        path: ``labels/``, ``overlays/`` and ``predictions.json`` are written here.
        mask_ignored: folder of true masks; their ignored pixels keep their label id and are hatched in the overlay.
        palette: write label maps with colours (PNG mode P) in place of plain grey values.
        overwrite: predict an image even when both its outputs carry the right fingerprint.
    """

    path: Path
    mask_ignored: Path | None = None
    palette: bool = False
    overwrite: bool = False

    def fill(self, predictor: Predictor, image: InputImage) -> Outcome:
        """Predicts one image and writes its outputs, unless they are there already.

        An image that cannot be predicted is an outcome; an output that cannot be written (a full disk) ends the job.

        Raises:
            OSError: an output cannot be written.
        """
        opened = self.open(predictor, image)
        if isinstance(opened, Outcome):
            return opened
        prediction = self.predict(predictor, opened)
        return prediction if isinstance(prediction, Outcome) else self.write(opened, prediction)

    def open(self, predictor: Predictor, image: InputImage) -> OpenedImage | Outcome:
        """What the model works on, or the outcome where it has nothing to do: kept from before, or not readable."""
        try:
            mask = None if self.mask_ignored is None else _find_mask(self.mask_ignored, image)
            fingerprint = None
            if predictor.fingerprint is not None:
                fingerprint = output_fingerprint(predictor.fingerprint, self.palette, image.path, mask)
                if not self.overwrite and self._holds(image, fingerprint):
                    return Outcome(image, kept=True)
            if mask is None:
                return OpenedImage(image, read_image(image.path), None, fingerprint)
            pair = read_pair(Pair(image.name, image.path, mask), predictor.label_space.kind)
            return OpenedImage(image, *pair, fingerprint)
        except (ValueError, OSError) as error:
            return Outcome(image, error=str(error))

    def predict(self, predictor: Predictor, opened: OpenedImage) -> Prediction | Outcome:
        """The prediction, or the outcome where the image cannot be predicted."""
        try:
            return predictor.predict(opened.picture)
        except ValueError as error:
            return Outcome(opened.image, error=str(error))

    def write(self, opened: OpenedImage, prediction: Prediction) -> Outcome:
        """Writes the label map and the overlay of a prediction.

        Raises:
            OSError: an output cannot be written.
        """
        text = png_text(opened.fingerprint)
        try:
            labels = prediction.labels
            if opened.truth is not None:
                labels = prediction.label_space.mask_ignored(labels, opened.truth)
                prediction = prediction.hide_ignored(opened.truth)
            path = self._label_map(opened.image)
            write_label_map(path, labels, prediction.label_space, palette=self.palette, pnginfo=text)
        except ValueError as error:
            return Outcome(opened.image, error=str(error))
        with replaced_file(self._overlay(opened.image)) as path:
            prediction.overlay().save(path, pnginfo=text)
        return Outcome(opened.image)

    def record(self, summary: PredictionSummary, label_space: LabelSpace) -> None:
        """Writes ``predictions.json``; the same file whether outputs were made now or kept."""
        classes = [
            {"name": c.name, "label_ids": list(c.label_ids), "colour": list(c.colour)} for c in label_space.classes
        ]
        contents = {"classes": classes, "labels": summary.written, "failed": summary.failed}
        replace_text(self.path / "predictions.json", json.dumps(contents, indent=2) + "\n")

    def _holds(self, image: InputImage, fingerprint: str) -> bool:
        return all(bears_fingerprint(path, fingerprint) for path in (self._label_map(image), self._overlay(image)))

    def _label_map(self, image: InputImage) -> Path:
        return self.path / "labels" / f"{image.name}.png"

    def _overlay(self, image: InputImage) -> Path:
        return self.path / "overlays" / f"{image.name}.png"


def _find_mask(folder: Path, image: InputImage) -> Path:
    matches = sorted(folder.glob(f"{glob.escape(image.name)}.*"))
    if not matches:
        raise ValueError(f"{image.path}: no mask {image.name}.* in {folder}; leave --mask-ignored out or add the mask")
    return matches[0]
