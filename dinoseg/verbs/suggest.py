"""``dinoseg suggest``: which unlabelled images to label next, as a list and a contact sheet."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from rich.console import Console

from dinoseg.config.loading import is_setting
from dinoseg.config.unused_keys import note_unused_keys
from dinoseg.data.folders import find_pairs
from dinoseg.data.items import SelfReading
from dinoseg.data.pairs import Pair
from dinoseg.data.parquet import TableRow
from dinoseg.data.sampler import spread_subset
from dinoseg.drawing.overlay import side_by_side, stack_below
from dinoseg.inference.chosen_runs import Opened, choose_runs, describing_keys
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.files import InputImage, list_inputs
from dinoseg.inference.next_labels import choose_next, image_vector
from dinoseg.inference.predictor import Predictor
from dinoseg.system.bars import image_progress
from dinoseg.system.files import refuse_unwritable, replace_text, replaced_file
from dinoseg.system.messages import list_names, printable, spreadsheet_text, system_error
from dinoseg.verbs.predict import runs_and_images

LIST, SHEET = "suggestions.csv", "contact_sheet.png"
_HEADER = "rank,image,uncertainty,distance"
# Of the images with labels, so many say what is known already.
_MOST_KNOWN = 200
# Of a picture on the contact sheet, in pixels, and how many stand in a row.
_PICTURE, _IN_A_ROW = 360, 4


@dataclass(frozen=True)
class Suggestion:
    """An image to label.

    Attributes:
        uncertainty: mean entropy of its pixels, as a share of the largest there is: 0 sure, 1 all classes alike.
        distance: cosine distance to the nearest image that has labels or is suggested before it, 0..2.
    """

    image: InputImage
    uncertainty: float
    distance: float


@dataclass(frozen=True)
class _Judged:
    image: InputImage
    uncertainty: float
    vector: Float[np.ndarray, " channels"]
    is_blank: bool


def suggest(
    arguments: Sequence[str], number: int, out: Path, checkpoint: str, device: str, console: Console
) -> list[str]:
    """Ranks images, writes the list and the contact sheet, and says what it found.

    Images of the run's own splits have labels and are left out.

    Args:
        arguments: run folders, images (files, folders, globs) and ``key=value`` changes, in any order.
        number: of suggestions.
        out: folder for ``suggestions.csv`` and ``contact_sheet.png``.

    Returns:
        Messages of the images that could not be read.

    Raises:
        ValueError: no run or no images, none that can be read, none without labels, or a number below 1.
    """
    if number < 1:
        raise ValueError(f"--n {number}: give 1 or more")
    refuse_unwritable(out, "--out")
    _refuse_foreign(out)
    runs, rest = runs_and_images(arguments)
    settings = [entry for entry in rest if is_setting(entry)]
    chosen = choose_runs(runs, checkpoint, device, settings)
    opened = chosen.open()
    labelled, unread = _labelled_images(opened)
    given = [entry for entry in rest if entry not in settings]
    if not given:
        raise ValueError("no image is named; give files, folders or globs of images without labels")
    inputs = [image for image in list_inputs(given, out) if not _is_contact_sheet(image.path)]
    with_labels = {_place_of(pair) for pair in labelled}
    images = [image for image in inputs if _place_of(image) not in with_labels]
    if not images:
        raise ValueError(f"all {len(inputs)} images have labels: they are in the run's own splits; give others")
    predictor = Predictor.load(opened)
    known, damaged = _vectors_of(predictor, labelled)
    judged, failed = _judge(predictor, images, console)
    if not judged:
        raise ValueError(f"none of {len(images)} images can be read; the first: {failed[0]}")
    found = choose_next(
        np.array([entry.uncertainty for entry in judged]),
        np.stack([entry.vector for entry in judged]),
        number,
        np.stack(known) if known else None,
    )
    suggestions = [Suggestion(judged[index].image, judged[index].uncertainty, distance) for index, distance in found]
    replace_text(out / LIST, _as_csv(suggestions))
    with replaced_file(out / SHEET) as temporary:
        _contact_sheet(predictor, suggestions).save(temporary)
    _tell_of_unknown(unread, damaged, len(known), console)
    _tell_of_blanks(judged, console)
    # Those of the data say which images have labels.
    used = [entry.partition("=")[0] for entry in settings if entry.startswith("datasets.")]
    note_unused_keys(settings, "suggest", (*describing_keys(chosen), *used))
    _report(suggestions, len(judged), len(inputs) - len(images), len(known), out, console)
    return failed


def _tell_of_unknown(unread: Sequence[str], damaged: Sequence[str], known: int, console: Console) -> None:
    """Notes on images with labels that the others are not compared with."""
    for reason in unread:
        console.print(f"note: images with labels are not known, and may be suggested: {reason}", markup=False)
    if damaged:
        said = f"note: {len(damaged)} of {len(damaged) + known} images with labels cannot be read; the first: "
        console.print(f"{said}{damaged[0]}", soft_wrap=True, markup=False, highlight=False)


def _refuse_foreign(out: Path) -> None:
    """Raises ValueError where a file would be overwritten that is no suggestion of an earlier call."""
    table, sheet = out / LIST, out / SHEET
    ours = table.is_file() and table.read_text(encoding="utf-8", errors="replace").startswith(_HEADER)
    for path in (table, sheet):
        if os.path.lexists(path) and (not ours or path.is_dir()):
            raise ValueError(f"{path}: is there and of something else; give another --out folder")


def _is_contact_sheet(path: Path) -> bool:
    return path.name == SHEET and (path.parent / LIST).is_file()


def _place_of(image: Pair | InputImage) -> tuple[Path, int | None]:
    """Its file and, of a table, the row: by these it is known, however it is called."""
    row = image.row if isinstance(image, InputImage) else image
    if isinstance(row, TableRow):
        return row.table.path.resolve(), row.row
    return (image.path if isinstance(image, InputImage) else image.image).resolve(), None


def _labelled_images(opened: Opened) -> tuple[list[Pair], list[str]]:
    """Images of the runs' own splits, or their parts, each once and in their order; and why those of a run are not
    known: its data lies there no more."""
    found: dict[tuple[Path, str], Pair] = {}
    unread = []
    for member in opened.members:
        for split in ("train", "val", "test"):
            try:
                pairs = find_pairs(member.config.datasets, split).pairs
            except (ValueError, OSError) as error:
                # A set need not have a test split.
                unread += [str(error).splitlines()[0]] if split == "train" else []
                continue
            for pair in pairs:
                place = pair.place if isinstance(pair, SelfReading) else ""
                found[pair.image.resolve(), place] = pair
    return list(found.values()), unread


def _vectors_of(
    predictor: Predictor, labelled: Sequence[Pair]
) -> tuple[list[Float[np.ndarray, " channels"]], list[str]]:
    """What some of the images with labels show; and why others cannot be read."""
    vectors, damaged = [], []
    for index in spread_subset(len(labelled), _MOST_KNOWN):
        pair = labelled[index]
        try:
            if isinstance(pair, SelfReading):
                exposures = Exposures({form: pair.picture(form) for form in predictor.forms})
            else:
                exposures = Exposures.of(pair.image, predictor.forms)
            vectors.append(image_vector(predictor, exposures))
        except ValueError as error:
            damaged.append(str(error))
        except OSError as error:
            damaged.append(system_error(error))
    return vectors, damaged


def _judge(predictor: Predictor, images: Sequence[InputImage], console: Console) -> tuple[list[_Judged], list[str]]:
    judged, failed = [], []
    with image_progress(console, len(images), "judging") as advance:
        for image in images:
            try:
                exposures = image.exposures(predictor.forms)
                uncertainty = predictor.predict(exposures, confidence=True).uncertainty
                assert uncertainty is not None
                vector = image_vector(predictor, exposures)
                judged.append(_Judged(image, float(uncertainty.mean()), vector, exposures.is_blank))
            except ValueError as error:
                failed.append(str(error))
            except OSError as error:
                failed.append(system_error(error))
            advance()
    return judged, failed


def _tell_of_blanks(judged: Sequence[_Judged], console: Console) -> None:
    blank = [printable(entry.image.path.name) for entry in judged if entry.is_blank]
    if blank:
        console.print(
            f"note: {len(blank)} of {len(judged)} images are blank (one colour all over), with nothing to label: "
            f"{list_names(blank)}; leave them out",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )


def _as_csv(suggestions: Sequence[Suggestion]) -> str:
    written = StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(_HEADER.split(","))
    for rank, found in enumerate(suggestions, start=1):
        path = spreadsheet_text(os.fspath(found.image.path))
        rows.writerow([rank, path, f"{found.uncertainty:.4f}", f"{found.distance:.4f}"])
    return written.getvalue()


def _contact_sheet(predictor: Predictor, suggestions: Sequence[Suggestion]) -> Image.Image:
    """The images with what the run says of them, each under its rank, name and uncertainty."""
    pictures = []
    for rank, found in enumerate(suggestions, start=1):
        prediction = predictor.predict(found.image.exposures(predictor.forms))
        picture = prediction.overlay(legend=False)
        picture.thumbnail((_PICTURE, _PICTURE))
        name = printable(found.image.path.name)
        short = name if len(name) <= 30 else f"{name[:14]}...{name[-13:]}"
        pictures.append((f"{rank}  {short}  {found.uncertainty:.2f}", picture))
    rows = [side_by_side(pictures[start : start + _IN_A_ROW]) for start in range(0, len(pictures), _IN_A_ROW)]
    sheet = rows[0]
    for row in rows[1:]:
        sheet = stack_below(sheet, row)
    return sheet


def _report(
    suggestions: Sequence[Suggestion], judged: int, labelled: int, known: int, out: Path, console: Console
) -> None:
    console.print("rank  uncertainty  distance  image", markup=False, highlight=False)
    for rank, found in enumerate(suggestions, start=1):
        line = f"{rank:4d}  {found.uncertainty:11.3f}  {found.distance:8.3f}  {printable(found.image.path)}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    left_out = f" ({labelled} have labels and are left out)" if labelled else ""
    beside = f"; unlike each other, and unlike {known} with labels" if known else "; unlike each other"
    console.print(
        f"{len(suggestions)} of {judged} images{left_out}{beside}; see {out / LIST} and {out / SHEET}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
