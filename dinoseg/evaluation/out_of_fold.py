"""Evaluations of folds as one: each image counted once, by the run that has not learned from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.inference.ensemble import Origin

# Of a policy, what is of the images of a fold, and adds up.
_COUNTED = ("images", "images_available", "regions", "tiles", "slices", "volumes")


@dataclass(frozen=True)
class HeldOut:
    """What a run scored on the fold that it held out.

    Attributes:
        learned: images of it that the runs that this one began with (``load_from``) were trained on.
    """

    origin: Origin
    evaluation: Evaluation
    learned: int = 0


def join_folds(folds: Sequence[HeldOut]) -> Evaluation:
    """One evaluation of all images, in the order of their names; its policy names the runs and their figures.

    Args:
        folds: one at least, of images of different names, in the same label space.

    Raises:
        ValueError: the runs predict in different ways.
    """
    first = folds[0].evaluation
    for fold in folds[1:]:
        _refuse_other_policy(folds[0], fold)
    names = [name for fold in folds for name in fold.evaluation.names]
    volumes = [name for fold in folds for name in fold.evaluation.volumes or [""] * len(fold.evaluation.names)]
    order = sorted(range(len(names)), key=lambda row: names[row])
    counts = Counts.joined([fold.evaluation.counts for fold in folds], order)
    return Evaluation(
        counts,
        tuple(names[row] for row in order),
        _policy(folds),
        first.label_space,
        first.measures,
        tuple(volumes[row] for row in order) if any(volumes) else (),
    )


def _policy(folds: Sequence[HeldOut]) -> dict[str, Any]:
    """That of the first, with the images of all added up, and where each image was scored."""
    policy = dict(folds[0].evaluation.policy)
    for key in _COUNTED:
        found = [fold.evaluation.policy[key] for fold in folds if key in fold.evaluation.policy]
        policy |= {key: sum(found)} if found else {}
    return policy | {"out_of_fold": [_described(fold) for fold in folds]}


def _described(fold: HeldOut) -> dict[str, Any]:
    """Of metrics.json: the run, how many images it held out, and its mIoU on them."""
    evaluation = fold.evaluation
    figures = {"images": len(evaluation.names), "mIoU": evaluation.metrics.means["mIoU"]}
    return vars(fold.origin) | figures | {"learned_before": fold.learned}


def _refuse_other_policy(first: HeldOut, other: HeldOut) -> None:
    one, two = (
        {key: value for key, value in fold.evaluation.policy.items() if key not in _COUNTED} for fold in (first, other)
    )
    differing = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    if differing:
        key = differing[0]
        raise ValueError(
            f"{first.origin.run} and {other.origin.run} do not predict alike: {key} is {one.get(key)} and "
            f"{two.get(key)}; train the folds with one config"
        )
