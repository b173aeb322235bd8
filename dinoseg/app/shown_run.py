"""A run that the page shows: opened once, with what a user should know before dropping pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinoseg.inference.chosen_runs import Chosen, ChosenEnsemble
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace
from dinoseg.system.messages import shell_word
from dinoseg.zoo.address import is_address


@dataclass(frozen=True)
class ShownRun:
    """One run (or several as one) with its models loaded.

    Attributes:
        words: what a command names it by.
        title: what its column is called.
        notes: what its pictures must be, in sentences; empty where any picture will do.
    """

    words: str
    title: str
    predictor: Predictor
    notes: tuple[str, ...] = ()

    @property
    def label_space(self) -> LabelSpace:
        return self.predictor.label_space


def open_runs(runs: Sequence[Chosen]) -> tuple[ShownRun, ...]:
    """Opens each run on its own: they are shown beside each other, not averaged.

    Raises:
        ValueError: not a run, one that is given twice, or weights that are not to be had.
    """
    words = [run.words for run in runs]
    _refuse_twice(words)
    titles = _titles(words)
    opened = []
    for run, title in zip(runs, titles, strict=True):
        predictor = Predictor.load(run.open())
        opened.append(ShownRun(run.words, title, predictor, (*_form_notes(predictor), *_volume_notes(run))))
    return tuple(opened)


def _refuse_twice(words: Sequence[str]) -> None:
    owners: dict[Path | str, str] = {}
    for name in words:
        place = name if is_address(name) else Path(name).resolve()
        if place in owners:
            twice = f"{name} is given twice" if owners[place] == name else f"{owners[place]} and {name} are one folder"
            raise ValueError(f"{twice}; each run has one column: leave one out")
        owners[place] = name


def _titles(words: Sequence[str]) -> list[str]:
    """The end of each name, as long as it takes to tell it from the others."""
    parts = [name.rstrip("/").split("/") for name in words]

    def title(own: list[str]) -> str:
        tails = (own[-length:] for length in range(1, len(own)))
        alone = (tail for tail in tails if sum(other[-len(tail) :] == tail for other in parts) == 1)
        return "/".join(next(alone, own))

    return [title(own) for own in parts]


def _form_notes(predictor: Predictor) -> list[str]:
    form = predictor.forms[0]
    if form.bands is not None:
        bands = ", ".join(map(str, form.bands))
        return [
            f"It reads bands {bands} of a file (datasets.bands): drop TIFF or .npy files that hold them. The first "
            "three are shown as red, green and blue."
        ]
    if form.ranges is not None:
        ranges = ", ".join(f"{low:g} to {high:g}" for low, high in form.ranges)
        return [
            f"It reads values of {ranges} (datasets.range): drop TIFF or .npy files that hold such, no screenshots."
        ]
    return []


def _volume_notes(run: Chosen) -> list[str]:
    """Of a run whose own figures are of volumes."""
    members = run.runs if isinstance(run, ChosenEnsemble) else (run,)
    folders = [member.evaluation("val") for member in members if isinstance(member, ChosenRun)]
    if not any(_counted_volumes(folder / "metrics.json") for folder in folders):
        return []
    return [
        "It learned from slices of volumes, and the page does not take volumes: drop slices as .npy or TIFF; "
        f"dinoseg predict {shell_word(run.words)} VOLUME.nii.gz predicts whole ones."
    ]


def _counted_volumes(metrics: Path) -> bool:
    try:
        return bool(json.loads(metrics.read_text(encoding="utf-8"))["policy"].get("volumes"))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
