"""Figures of volumes, whose slices are the images that were counted.

A volume's counts are the sums over its slices, so that its Dice is that of its voxels. The mean of a class is over the
volumes in which the class has a figure. Slices of one volume are alike: intervals resample volumes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dinoseg.data.pairs import Pair
from dinoseg.data.slices import Slice
from dinoseg.evaluation.metrics import AbsentPolicy, apply_policy, iou, ratio
from dinoseg.labels import LabelSpace

ImageCounts = Int[np.ndarray, "images 3 classes"]


def volume_names(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The volume of each image, empty for one that is no slice; nothing where none is."""
    names = tuple(pair.volume if isinstance(pair, Slice) else "" for pair in pairs)
    return names if any(names) else ()


def counts_by_volume(
    counts: ImageCounts, names: Sequence[str], volumes: Sequence[str]
) -> tuple[tuple[str, ...], Int[np.ndarray, "units 3 classes"]]:
    """Names and counts of what is independent: volumes, and images that are of none; in the order of the first of each.

    Args:
        counts: pixels in intersection, prediction and truth, by image and class.
        names: of the images.
        volumes: of each image, as ``volume_names`` gives them; empty where there are none.
    """
    if not volumes:
        return tuple(names), counts
    # A volume and a picture may share a name.
    keys = [(volume, "") if volume else ("", name) for name, volume in zip(names, volumes, strict=True)]
    row_of = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    summed = np.zeros((len(row_of), *counts.shape[1:]), dtype=counts.dtype)
    np.add.at(summed, [row_of[key] for key in keys], counts)
    return tuple(volume or name for volume, name in row_of), summed


def volume_figures(
    counts: ImageCounts, volumes: Sequence[str], label_space: LabelSpace, policy: AbsentPolicy
) -> dict[str, Any]:
    """IoU and Dice by volume, in percent, their means over volumes by class, and the means of those over classes.

    Args:
        volumes: the volume of each image; images that are of none are left out.
        policy: which classes have a figure in a volume, see ``Metrics``.
    """
    of_volume = np.array([bool(volume) for volume in volumes])
    chosen = [volume for volume in volumes if volume]
    names, summed = counts_by_volume(counts[of_volume], chosen, chosen)
    intersection, prediction, truth = np.moveaxis(summed, 1, 0)
    dice = apply_policy(ratio(2 * intersection, prediction + truth), summed, policy)
    values = {"IoU": apply_policy(iou(summed), summed, policy), "Dice": dice}
    means = {key: _means(by_volume, 0) for key, by_volume in values.items()}
    own = {key: _means(by_volume, 1) for key, by_volume in values.items()}
    return {
        "volumes": len(names),
        **{f"m{key}": _percent(_means(mean, 0)) for key, mean in means.items()},
        "per_class": [
            {
                "name": name,
                **{key: _percent(mean[index]) for key, mean in means.items()},
                "volumes": int((~np.isnan(dice[:, index])).sum()),
            }
            for index, name in enumerate(label_space.class_names)
        ],
        "figures": [
            {
                "name": name,
                "slices": chosen.count(name),
                **{f"m{key}": _percent(mean[row]) for key, mean in own.items()},
                **{key: [_percent(value) for value in by_volume[row]] for key, by_volume in values.items()},
            }
            for row, name in enumerate(names)
        ],
    }


def _means(values: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    """Means of what is defined; NaN without any."""
    defined = (~np.isnan(values)).sum(axis=axis)
    total = np.nansum(values, axis=axis)
    return np.divide(total, defined, out=np.full(np.shape(total), np.nan), where=defined > 0)


def _percent(value: Any) -> float | None:
    return None if np.isnan(value) else 100 * float(value)
