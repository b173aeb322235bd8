"""Images that runs learned from, as where the runs are folds of one data set; figures on them flatter."""

import warnings
from collections.abc import Iterable, Sequence

from dinoseg.data.folders import find_pairs
from dinoseg.data.pairs import Pair
from dinoseg.inference.opening import OpenedRun
from dinoseg.system.messages import list_names


def warn_of_learned_images(members: Iterable[OpenedRun], pairs: Sequence[Pair], split: str) -> None:
    """Warns of runs whose training split holds some of these images.

    A run whose data lies there no more says nothing.
    """
    images = {pair.image.resolve() for pair in pairs}
    found = []
    for member in members:
        try:
            learned = {pair.image.resolve() for pair in find_pairs(member.config.datasets, "train").pairs}
        except (ValueError, OSError):
            continue
        if images & learned:
            found.append(f"{member.source.words} from {len(images & learned)}")
    if found and split != "train":
        warnings.warn(
            f"of the {len(images)} images of --split {split}, runs learned from some: {list_names(found)}; these "
            "figures flatter, and a split that none of them has seen does not",
            stacklevel=2,
        )
