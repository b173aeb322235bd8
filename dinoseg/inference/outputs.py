"""What ``dinoseg predict`` writes: label maps and overlays, each with the fingerprint that spares making it twice."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from dinoseg.data.label_maps import write_label_map
from dinoseg.data.regions import read_region
from dinoseg.inference.decision import Decision
from dinoseg.inference.ensemble import Origin
from dinoseg.inference.files import InputImage
from dinoseg.inference.fingerprint import bears_fingerprint, is_foreign, png_text
from dinoseg.inference.maps import MapOutput, is_foreign_map, map_holds
from dinoseg.inference.outcomes import PredictionSummary
from dinoseg.inference.outdated_files import remove_outdated
from dinoseg.inference.prediction import Prediction
from dinoseg.inference.probability_files import holds_probabilities, is_foreign_probabilities, write_confidence
from dinoseg.inference.probability_options import CONFIDENCE, NO_PROBABILITIES, PROBABILITIES, ProbabilityOptions
from dinoseg.inference.recorded_predictions import PREDICTIONS_FILE
from dinoseg.inference.vector_files import is_foreign_vector
from dinoseg.inference.volumes import VOLUME_OUTPUT_SUFFIX, VolumeOutput, is_foreign_volume, volume_holds
from dinoseg.labels import LabelSpace
from dinoseg.system.files import replace_text, replaced_file


@dataclass(frozen=True)
class OutputFolder:
    """Where predictions go, and how they look.

    Attributes:
        path: ``labels/``, ``overlays/`` and ``predictions.json`` are written here.
        mask_ignored: folder of true masks; their ignored pixels keep their label id and are hatched in the overlay.
        regions: folder of masks, not zero where a prediction is wanted; elsewhere the ignored label is written.
        palette: write label maps with colours (PNG mode P) in place of plain grey values.
        overwrite: predict an image even when both its outputs carry the right fingerprint.
        overviews: label maps of maps get overviews.
        vector: ``gpkg`` or ``geojson``: polygons of maps are written to ``vectors/``, too.
        style: layer styles of QGIS are written beside the label maps and polygons of maps.
        probabilities: which probabilities are written to ``probabilities/`` and ``confidence/``.
    """

    path: Path
    mask_ignored: Path | None = None
    regions: Path | None = None
    palette: bool = False
    overwrite: bool = False
    overviews: bool = False
    vector: str | None = None
    style: bool = False
    probabilities: ProbabilityOptions = NO_PROBABILITIES

    @property
    def folders(self) -> list[Path]:
        """All that is written to."""
        vectors = [] if self.vector is None else [self.path / "vectors"]
        more = [self.path / name for name in self.probabilities.folders]
        return [self.path, self.path / "labels", self.path / "overlays", *vectors, *more]

    def mask_of(self, image: InputImage) -> Path | None:
        """The true mask whose ignored pixels are to be kept; None unless they are. Raises ValueError without a mask."""
        if self.mask_ignored is not None and image.mask is None:
            raise ValueError(
                f"{image.path}: no mask of this name in {self.mask_ignored}; leave --mask-ignored out or add the mask"
            )
        return image.mask

    def of_map(self, image: InputImage, fingerprint: str | None, beside: str | None = None) -> MapOutput:
        """Where the prediction of a map goes.

        Args:
            beside: the fingerprint of its probabilities.

        Raises:
            ValueError: probabilities are asked for in a way that no map has.
        """
        probabilities = self.probabilities.of_map(image.path, self.path, image.name, beside)
        polygons = None if self.vector is None else self.path / "vectors" / f"{image.name}.{self.vector}"
        labels = self.path / "labels" / f"{image.name}.tif"
        return MapOutput(labels, self._overlay(image), fingerprint, self.overviews, polygons, probabilities)

    @property
    def of_pictures(self) -> bool:
        """Whether an option says something of each picture that nothing says of a map."""
        return self.mask_ignored is not None or self.regions is not None

    @property
    def of_maps(self) -> str:
        """The options that say something of maps alone, as they were given; empty without any."""
        given = [f"--vector {self.vector}"] if self.vector is not None else []
        given += ["--overviews"] if self.overviews else []
        return " ".join([*given, "--style"] if self.style else given)

    def of_volume(self, image: InputImage, fingerprint: str | None) -> VolumeOutput:
        """Where the prediction of a volume goes."""
        labels = self.path / "labels" / f"{image.name}{VOLUME_OUTPUT_SUFFIX}"
        return VolumeOutput(labels, self._overlay(image), fingerprint)

    def refuse_volume(self, image: InputImage) -> None:
        """Raises ValueError where options are of pictures or of maps, or ask for probabilities."""
        if given := self.probabilities.words:
            raise ValueError(f"{image.path}: a volume, of which no probabilities are written; leave out {given}")
        if self.of_pictures or self.of_maps:
            given = self.of_maps or "--regions and --mask-ignored"
            raise ValueError(f"{image.path}: a volume, and {given} are of others; leave them out")

    def refuse_foreign_of_volume(self, image: InputImage, output: VolumeOutput) -> None:
        """Raises ValueError where an output would take the place of an input, or of a file that is no prediction."""
        self._refuse_others(image, [(output.labels, is_foreign_volume), (output.overlay, is_foreign)])

    def holds_volume(self, output: VolumeOutput) -> bool:
        """Whether label volume and overlay are there, and carry its fingerprint."""
        fingerprint = output.fingerprint
        if fingerprint is None:
            return False
        return volume_holds(output.labels, fingerprint) and bears_fingerprint(output.overlay, fingerprint)

    def refuse_picture(self, image: InputImage) -> None:
        """Raises ValueError where options are of maps, and the image is predicted as a picture."""
        if self.of_maps:
            raise ValueError(
                f"{image.path}: {self.of_maps} is of maps, and this is predicted as a picture: it has no georeference, "
                "or --regions, --mask-ignored, transforms.eval.img_size or labels that are colours are of whole "
                "pictures; leave one out"
            )

    def refuse_foreign_of_map(self, image: InputImage, output: MapOutput) -> None:
        """Raises ValueError where an output would take the place of the map, or of a file that is no prediction."""
        found = [(output.labels, is_foreign_map), (output.overlay, is_foreign)]
        found += [] if output.polygons is None else [(output.polygons, is_foreign_vector)]
        found += [] if output.probabilities is None else [(path, is_foreign_map) for path in output.probabilities.paths]
        self._refuse_others(image, found)

    def _refuse_others(self, image: InputImage, found: Sequence[tuple[Path, Callable[[Path], bool]]]) -> None:
        for path, foreign in found:
            own = path.resolve() == image.path.resolve()
            if own or (not self.overwrite and foreign(path)):
                raise ValueError(_in_the_way(image.path, path, own))

    def prepare_map(self, image: InputImage, output: MapOutput) -> None:
        """Where another label map of it is there, removes what lies beside that and is not written anew.

        Raises:
            OSError: a file cannot be removed.
        """
        if not map_holds(output.labels, output.fingerprint or ""):
            written = [] if output.probabilities is None else output.probabilities.paths
            written += [] if output.polygons is None else [output.polygons]
            remove_outdated(self.path, image.name, written)

    def holds_map(self, output: MapOutput) -> bool:
        """Whether label map and overlay of a map are there, and carry its fingerprint."""
        fingerprint = output.fingerprint
        if fingerprint is None:
            return False
        more = output.probabilities
        if more is not None and not all(map_holds(path, more.fingerprint or "") for path in more.paths):
            return False
        return map_holds(output.labels, fingerprint) and bears_fingerprint(output.overlay, fingerprint)

    def holds(self, image: InputImage, fingerprint: str, beside: str | None = None) -> bool:
        """Whether all outputs are there, whole, and carry this fingerprint; those of probabilities ``beside``."""
        if self.probabilities.every and not holds_probabilities(self.probability_file(image), beside):
            return False
        if self.probabilities.confidence and not bears_fingerprint(self._confidence(image), beside or ""):
            return False
        return all(bears_fingerprint(path, fingerprint) for path in (self._label_map(image), self._overlay(image)))

    def refuse_foreign(self, image: InputImage) -> None:
        """Raises ValueError where an output would take the place of the input, or of a file that is no prediction."""
        found = [(self._label_map(image), is_foreign), (self._overlay(image), is_foreign)]
        found += [(self.probability_file(image), is_foreign_probabilities)] if self.probabilities.every else []
        found += [(self._confidence(image), is_foreign)] if self.probabilities.confidence else []
        for path, foreign in found:
            own = any(given and given.resolve() == path.resolve() for given in (image.path, image.mask, image.region))
            if own or (not self.overwrite and foreign(path)):
                raise ValueError(_in_the_way(image.path, path, own))

    def write(
        self,
        image: InputImage,
        prediction: Prediction,
        truth: Integer[np.ndarray, "height width"] | None = None,
        fingerprint: str | None = None,
        beside: str | None = None,
    ) -> None:
        """Writes the label map and the overlay of a prediction, and its confidence where that is wanted.

        Where another label map was there, what lies beside it and is not written anew goes.

        Args:
            truth: label ids of the true mask, whose ignored pixels are kept.
            fingerprint: is written into the first two files.
            beside: the fingerprint of probabilities, into the third.

        Raises:
            ValueError: the label ids do not fit the file format.
            OSError: an output cannot be written.
        """
        if not bears_fingerprint(self._label_map(image), fingerprint or ""):
            remove_outdated(self.path, image.name, self._of_probabilities(image))
        text, labels = png_text(fingerprint), prediction.labels
        if image.region is not None:
            prediction = prediction.cut_to(read_region(image.region, image.path, prediction.image.size))
            labels = prediction.labels
        if self.probabilities.confidence:
            write_confidence(self._confidence(image), prediction, png_text(beside))
        if truth is not None:
            labels = prediction.label_space.mask_ignored(labels, truth)
            prediction = prediction.hide_ignored(truth)
        write_label_map(self._label_map(image), labels, prediction.label_space, palette=self.palette, pnginfo=text)
        with replaced_file(self._overlay(image)) as path:
            prediction.overlay(fading=self.probabilities.in_overlay).save(path, pnginfo=text)

    def begin(self) -> None:
        """Removes the ``predictions.json`` of an earlier call: it is not of the label maps written from now on.

        A call that is stopped leaves none, and what it wrote beside the files of another run is not taken for whole.

        Raises:
            OSError: it cannot be removed.
        """
        self._record.unlink(missing_ok=True)

    def record(
        self,
        summary: PredictionSummary,
        label_space: LabelSpace,
        origins: Sequence[Origin] = (),
        decisions: Sequence[Decision] = (),
    ) -> None:
        """Writes ``predictions.json``; the same file whether outputs were made now or kept.

        Args:
            origins: the runs of an ensemble, which are named where there are several.
            decisions: what each run decided by beside its scores.
        """
        classes = [
            {"name": c.name, "label_ids": list(c.label_ids), "colour": list(c.colour)} for c in label_space.classes
        ]
        contents: dict[str, Any] = {
            "kind": label_space.kind,
            "classes": classes,
            "labels": summary.written,
            "failed": summary.failed,
        }
        temperatures = [decision.temperature for decision in decisions]
        if len(origins) > 1:
            said = zip(origins, temperatures, strict=True)
            contents["members"] = [asdict(origin) | {"temperature": temperature} for origin, temperature in said]
        if len(decisions) == 1:
            contents |= {key: value for key, value in decisions[0].describe().items() if key != "temperature"}
        contents |= self.probabilities.describe(summary.written, temperatures)
        if self.vector is not None:
            # labels/NAME.tif and vectors/NAME.gpkg
            names = {path: labels.removeprefix("labels/") for path, labels in summary.written.items()}
            contents["vectors"] = {
                path: f"vectors/{Path(name).with_suffix('.' + self.vector).as_posix()}" for path, name in names.items()
            }
        replace_text(self._record, json.dumps(contents, indent=2) + "\n")

    def probability_file(self, image: InputImage) -> Path:
        """Where those of every class of a picture go."""
        return self.path / PROBABILITIES / f"{image.name}.npz"

    @property
    def _record(self) -> Path:
        return self.path / PREDICTIONS_FILE

    def _of_probabilities(self, image: InputImage) -> list[Path]:
        """Files of probabilities of a picture that are written."""
        every = [self.probability_file(image)] if self.probabilities.every else []
        return every + ([self._confidence(image)] if self.probabilities.confidence else [])

    def _confidence(self, image: InputImage) -> Path:
        return self.path / CONFIDENCE / f"{image.name}.png"

    def _label_map(self, image: InputImage) -> Path:
        return self.path / "labels" / f"{image.name}.png"

    def _overlay(self, image: InputImage) -> Path:
        return self.path / "overlays" / f"{image.name}.png"


def _in_the_way(image: Path, path: Path, own: bool) -> str:
    what = "is an input" if own else "is there and is no prediction of dinoseg's"
    return f"{image}: {path} {what}, and would be overwritten; give another --out folder"
