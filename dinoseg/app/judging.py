"""One picture through one run: its label map as ``dinoseg predict`` writes it, and what the page shows of it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dinoseg.app.memory import free_bytes, refuse_beyond_memory
from dinoseg.app.seen import ClassShare, Seen, View, class_shares
from dinoseg.app.shown_run import ShownRun
from dinoseg.data.found_files import is_volume
from dinoseg.data.label_maps import write_label_map
from dinoseg.data.masks import read_mask
from dinoseg.data.pictures import BrighterThanWhite
from dinoseg.drawing.overlay import is_filled, without_classes
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.files import InputImage
from dinoseg.inference.fingerprint import output_fingerprint, png_text
from dinoseg.inference.judged_rows import JudgedRows
from dinoseg.inference.maps import is_map
from dinoseg.inference.pixel_maps import as_bytes
from dinoseg.inference.prediction import Prediction
from dinoseg.system.messages import shell_word

# Told of the share of a picture that is done, 0..1, from top to bottom.
OnShare = Callable[[float], None]


@dataclass(frozen=True)
class JudgedPicture:
    """What one run says of one picture. The large parts lie in files.

    Attributes:
        run: that says it.
        source: the picture as it was dropped.
        labels: the label map, native size.
        seen: what is drawn, see ``Seen``.
        legend: by class index.
        confidence: the mean over pixels, 0..1.
        size: native width and height.
        notes: what a user should know of this picture.
    """

    run: ShownRun
    source: Path
    labels: Path
    seen: Path
    legend: tuple[ClassShare, ...]
    confidence: float
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    def draw(self, view: View) -> Image.Image:
        """At the size of a screen. Raises OSError where its files are gone."""
        return Seen.load(self.seen).draw(view, self.run.label_space)

    def given(self) -> Image.Image:
        """The picture itself, at the same size. Raises OSError where its files are gone."""
        return Image.fromarray(Seen.load(self.seen).picture)

    def overlay(self, view: View) -> Image.Image:
        """At native size with a legend; of all classes at half opacity, the one that ``dinoseg predict`` writes.

        Raises:
            ValueError: its files are gone.
        """
        space = self.run.label_space
        shown = Exposures.of(self.source, self.run.predictor.forms[:1]).shown
        class_map = space.encode(read_mask(self.labels, space.kind))
        drawn = Prediction(shown, class_map, space).overlay(view.opacity)
        return without_classes(drawn, shown, class_map, view.hidden)


def judge(run: ShownRun, source: Path, name: str, folder: Path, on_share: OnShare) -> JudgedPicture:
    """Predicts a picture, and writes ``labels/NAME.png`` and what the page shows into a folder.

    Args:
        source: the picture; large ones go through the run's windows, as everywhere.
        name: of the label map, without suffix.
        on_share: called after each stripe.

    Raises:
        ValueError: it cannot be read, is a volume, or takes more memory than there is.
        OSError: a file cannot be written.
    """
    if is_volume(source):
        raise ValueError(f"{source.name}: a volume; {_command(run, source)} predicts it slice by slice")
    predictor = run.predictor
    bands = max(form.channels for form in predictor.forms)
    refuse_beyond_memory(source, free_bytes(), bands, predictor.scores_at_once)
    exposures, notes = _opened(run, source)
    width, height = exposures.shown.size
    sureness = np.zeros((height, width), np.uint8)

    def keep(rows: JudgedRows) -> None:
        sureness[rows.first : rows.last] = as_bytes(rows.probabilities.amax(dim=0).cpu().numpy())
        on_share(rows.last / height)

    prediction = predictor.judge(exposures, keep)
    space, labels = run.label_space, folder / "labels" / f"{name}.png"
    labels.parent.mkdir(parents=True, exist_ok=True)
    fingerprint = None
    if predictor.fingerprint is not None:
        fingerprint = output_fingerprint(predictor.fingerprint, False, InputImage(source, name).sha256)
    write_label_map(labels, prediction.labels, space, pnginfo=png_text(fingerprint))
    Seen.of(prediction.image, prediction.class_map, sureness).save(folder / "seen.npz")
    filled = {index for index, entry in enumerate(space.classes) if is_filled(entry)}
    return JudgedPicture(
        run,
        source,
        labels,
        folder / "seen.npz",
        class_shares(prediction.class_map, space, filled),
        float(sureness.mean()) / 255,
        (width, height),
        notes,
    )


def _opened(run: ShownRun, source: Path) -> tuple[Exposures, tuple[str, ...]]:
    """The picture as the run reads it, and what a user should know of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BrighterThanWhite)
        exposures = Exposures.of(source, run.predictor.forms)
    of_values = [str(said.message) for said in caught if issubclass(said.category, BrighterThanWhite)]
    notes = [said.replace(f"{source.parent}/", "") for said in of_values]
    if is_map(source):
        notes.append(
            "A map with a georeference, shown as a picture: its label map here has none. "
            f"{_command(run, source)} keeps it."
        )
    return exposures, tuple(dict.fromkeys(notes))


def _command(run: ShownRun, source: Path) -> str:
    return f"dinoseg predict {shell_word(run.words)} {shell_word(source.name)}"
