"""A prediction job: images through a predictor into an output folder, each proven and kept, or predicted anew."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from dinoseg.check.mask_scan import read_mask_facts
from dinoseg.data.bands import Picture
from dinoseg.data.found_files import is_volume
from dinoseg.data.masks import LabelMap, read_pair
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PictureForm
from dinoseg.data.regions import read_region
from dinoseg.drawing.qgis_style import polygon_style, raster_style, write_style
from dinoseg.inference.chosen_runs import Opened, OpenedEnsemble
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.files import InputImage
from dinoseg.inference.fingerprint import output_fingerprint
from dinoseg.inference.judged_rows import OnRows
from dinoseg.inference.map_polygons import write_polygons
from dinoseg.inference.maps import MapOutput, add_overviews, count_blocks, is_map, predict_map
from dinoseg.inference.outcomes import Outcome
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.prediction import Prediction
from dinoseg.inference.predictor import Predictor
from dinoseg.inference.probability_files import written_probabilities
from dinoseg.inference.vector_files import vector_fingerprint
from dinoseg.inference.volumes import VOLUME_OUTPUT_SUFFIX, count_slices, predict_volume, slice_axis_of
from dinoseg.labels.settings import Kind
from dinoseg.system.files import refuse_special_file
from dinoseg.system.messages import system_error


@dataclass(frozen=True)
class OpenedImage:
    """An image that waits for its prediction.

    Attributes:
        picture: RGB, upright, as each run reads it.
        truth: (H, W) label ids of the true mask, where its ignored pixels are to be kept.
        fingerprint: of the outputs to be.
        probability_fingerprint: of its files of probabilities.
    """

    image: InputImage
    picture: Exposures
    truth: Integer[np.ndarray, "height width"] | None
    fingerprint: str | None
    probability_fingerprint: str | None = None


@dataclass(frozen=True)
class Parts:
    """What a file is predicted in: ``noun`` in words, and how many."""

    noun: str
    count: int


def _is_volume(image: InputImage) -> bool:
    # A row may be called anything.
    return image.row is None and is_volume(image.path)


def as_asked(opened: Opened, outputs: OutputFolder) -> Opened:
    """What is opened, as far as these outputs depend on it; see ``OpenedRun.for_label_maps``."""
    return opened if isinstance(opened, OpenedEnsemble) or outputs.probabilities.any else opened.for_label_maps()


@dataclass(frozen=True)
class PredictionJob:
    """What predicts, and where its predictions go."""

    predictor: Predictor
    outputs: OutputFolder

    def do(self, image: InputImage) -> Outcome:
        """Predicts one image and writes its outputs, unless they are there already.

        An image that cannot be predicted is an outcome; an output that cannot be written (a full disk) ends the job.

        Raises:
            OSError: an output cannot be written.
        """
        if self.parts_of(image):
            return self.do_parts(image)
        opened = self.open(image)
        if isinstance(opened, Outcome):
            return opened
        prediction = self.predict(opened)
        return prediction if isinstance(prediction, Outcome) else self.write(opened, prediction)

    def parts_of(self, image: InputImage) -> Parts | None:
        """What a file is predicted in that is not predicted whole, and how many; None for a picture.

        Headers are read.
        """
        if _is_volume(image):
            return Parts("slices", count_slices(image.path, slice_axis_of(self.predictor)))
        return Parts("blocks", count_blocks(image.path)) if self.is_map(image) else None

    def do_parts(self, image: InputImage, advance: Callable[[], None] = lambda: None) -> Outcome:
        """Predicts a map block by block, or a volume slice by slice, unless its outputs are there already.

        Args:
            advance: called after each part that is predicted.

        Raises:
            OSError: an output cannot be written.
        """
        return self._do_volume(image, advance) if _is_volume(image) else self._do_map(image, advance)

    def is_map(self, image: InputImage) -> bool:
        """Whether a file is predicted in blocks, with its georeference.

        Where an option or the labels are of whole pictures, a GeoTIFF is a picture like any other.
        """
        whole = self.outputs.of_pictures or self.predictor.resized_to is not None
        return not whole and self.predictor.label_space.kind == "ids" and is_map(image.path)

    def _do_volume(self, image: InputImage, advance: Callable[[], None]) -> Outcome:
        predictor, outputs = self.predictor, self.outputs
        try:
            outputs.refuse_volume(image)
            fingerprint = None
            if predictor.fingerprint is not None:
                settings = f"{predictor.fingerprint} {slice_axis_of(predictor)}"
                fingerprint = output_fingerprint(settings, False, image.sha256)
            output = outputs.of_volume(image, fingerprint)
            outputs.refuse_foreign_of_volume(image, output)
            kept = not outputs.overwrite and outputs.holds_volume(output)
            if not kept:
                predict_volume(predictor, image.path, output, advance)
        except ValueError as error:
            return Outcome(image, error=str(error))
        return Outcome(image, kept=kept, suffix=VOLUME_OUTPUT_SUFFIX)

    def _do_map(self, image: InputImage, advance: Callable[[], None]) -> Outcome:
        predictor, outputs = self.predictor, self.outputs
        try:
            fingerprint = None
            if predictor.fingerprint is not None:
                fingerprint = output_fingerprint(predictor.fingerprint, outputs.palette, image.sha256)
            output = outputs.of_map(image, fingerprint, self._of_probabilities(fingerprint))
            outputs.refuse_foreign_of_map(image, output)
            kept = not outputs.overwrite and outputs.holds_map(output)
            if not kept:
                outputs.prepare_map(image, output)
                predict_map(predictor, image.path, output, advance)
            added = self._complete(output)
        except ValueError as error:
            return Outcome(image, error=str(error))
        return Outcome(image, kept=kept, suffix=output.labels.suffix, completed=kept and added)

    def _complete(self, output: MapOutput) -> bool:
        """Adds what is made of a label map that may have been there before; returns whether something was missing."""
        space, fingerprint = self.predictor.label_space, output.fingerprint
        added = output.overviews and add_overviews(output.labels)
        if self.outputs.style:
            added |= write_style(output.labels, raster_style(space))
        if output.polygons is None:
            return added
        if fingerprint is None or vector_fingerprint(output.polygons) != fingerprint:
            write_polygons(output.labels, output.polygons, space, fingerprint or "")
            added = True
        if self.outputs.style:
            added |= write_style(output.polygons, polygon_style(space))
        return added

    def open(self, image: InputImage) -> OpenedImage | Outcome:
        """What the model works on, or the outcome where it has nothing to do: kept from before, or not readable."""
        predictor, outputs = self.predictor, self.outputs
        forms = predictor.forms
        try:
            outputs.refuse_picture(image)
            if image.row is None:
                refuse_special_file(image.path)
            mask, fingerprint = outputs.mask_of(image), None
            outputs.refuse_foreign(image)
            if predictor.fingerprint is not None:
                settings = outputs.probabilities.overlay_settings(predictor.fingerprint, predictor.temperatures)
                fingerprint = output_fingerprint(settings, outputs.palette, image.sha256, mask, image.region)
            beside = self._of_probabilities(fingerprint)
            if fingerprint is not None and not outputs.overwrite and outputs.holds(image, fingerprint, beside):
                return Outcome(image, kept=True)
            if mask is None:
                return OpenedImage(image, image.exposures(forms), None, fingerprint, beside)
            if image.row is not None:
                raise ValueError(f"{image.path}: a row of a parquet file, and --mask-ignored is of image files")
            pair = Pair(image.name, image.path, mask)
            picture, truth = _read_with_mask(pair, predictor.label_space.kind, forms[0])
            others = Exposures.of(image.path, forms[1:]).pictures
            return OpenedImage(image, Exposures({forms[0]: picture} | others), truth, fingerprint, beside)
        except OSError as error:
            return Outcome(image, error=system_error(error))
        except ValueError as error:
            return Outcome(image, error=str(error))

    def predict(self, opened: OpenedImage) -> Prediction | Outcome:
        """The prediction, or the outcome where the image cannot be predicted.

        Probabilities of every class are written here, as they come.

        Raises:
            OSError: they cannot be written.
        """
        wanted = self.outputs.probabilities
        largest = wanted.confidence or wanted.in_overlay
        try:
            if not wanted.any:
                return self.predictor.predict(opened.picture)
            if not wanted.every:
                return self.predictor.predict(opened.picture, confidence=largest)
            with self._probability_file(opened) as on_rows:
                return self.predictor.judge(opened.picture, on_rows, confidence=largest)
        except ValueError as error:
            return Outcome(opened.image, error=str(error))

    def _probability_file(self, opened: OpenedImage) -> AbstractContextManager[OnRows]:
        image, (width, height) = opened.image, opened.picture.shown.size
        inside = None if image.region is None else read_region(image.region, image.path, (width, height))
        return written_probabilities(
            self.outputs.probability_file(image),
            (height, width),
            self.predictor.label_space,
            self.outputs.probabilities.top,
            opened.probability_fingerprint,
            inside,
        )

    def _of_probabilities(self, fingerprint: str | None) -> str | None:
        return self.outputs.probabilities.fingerprint(fingerprint, self.predictor.temperatures)

    def write(self, opened: OpenedImage, prediction: Prediction) -> Outcome:
        """Writes the outputs of a prediction.

        Raises:
            OSError: an output cannot be written.
        """
        try:
            fingerprints = opened.fingerprint, opened.probability_fingerprint
            self.outputs.write(opened.image, prediction, opened.truth, *fingerprints)
        except ValueError as error:
            return Outcome(opened.image, error=str(error))
        return Outcome(opened.image)


def _read_with_mask(pair: Pair, kind: Kind, form: PictureForm) -> tuple[Picture, LabelMap]:
    """Image and mask; a mask of the other kind is named with what the option takes."""
    try:
        return read_pair(pair, kind, form)
    except ValueError:
        facts = None if pair.mask is None else read_mask_facts(pair.mask, kind)
        if facts is None or facts.error or facts.stores == kind:
            raise
        wanted, found = ("label ids", "colours") if kind == "ids" else ("colours", "label ids")
        raise ValueError(
            f"{pair.mask}: holds {found}; --mask-ignored takes a folder of masks such as this run was trained on, "
            f"of {wanted}, whose ignored pixels stay ignored: give those, or leave it out"
        ) from None
