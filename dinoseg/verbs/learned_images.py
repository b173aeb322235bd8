"""Images that runs learned from, as where the runs are folds of one data set; figures on them flatter."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from dinoseg.config import Config
from dinoseg.data.folders import find_pairs
from dinoseg.data.pairs import Pair
from dinoseg.inference.opening import OpenedRun
from dinoseg.run_folder.folder import RunFolder
from dinoseg.system.messages import list_names


def warn_of_learned_images(members: Iterable[OpenedRun], pairs: Sequence[Pair], split: str) -> None:
    """Warns of runs whose training split, or that of a run that they began with, holds some of these images.

    A run whose data lies there no more says nothing.
    """
    images = {pair.image.resolve() for pair in pairs}
    found = []
    for member in members:
        learned = images & (_training_images(member.config) | _images_before(member.config))
        if learned:
            found.append(f"{member.source.words} from {len(learned)}")
    if found and split != "train":
        warnings.warn(
            f"of the {len(images)} images of --split {split}, runs learned from some: {list_names(found)}; these "
            "figures flatter, and a split that none of them has seen does not",
            stacklevel=2,
        )


def learned_before(config: Config, pairs: Sequence[Pair]) -> int:
    """How many of these images are training images of the run that a training begins with (``load_from``), or of
    those that this one began with; as far as is known."""
    learned = _images_before(config)
    return sum(pair.image.resolve() in learned for pair in pairs)


def learned_in_words(source: str, learned: int, images: int) -> str:
    """What a training says of validation images that were learned from before; empty where there are none."""
    if not learned:
        return ""
    return (
        f"warning: load_from={source} learned from {learned} of the {images} validation images: figures on them "
        "flatter; give a run that has not seen them, or leave load_from out"
    )


def _images_before(config: Config) -> set[Path]:
    found, seen = set[Path](), set[str]()
    while config.load_from and config.load_from not in seen:
        seen.add(config.load_from)
        run = RunFolder(Path(config.load_from))
        try:
            config = run.with_recorded_splits(run.read_config())
        except ValueError:
            # No run, or one that is here no more.
            break
        found |= _training_images(config)
    return found


def _training_images(config: Config) -> set[Path]:
    try:
        return {pair.image.resolve() for pair in find_pairs(config.datasets, "train").pairs}
    except (ValueError, OSError):
        return set()
