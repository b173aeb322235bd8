"""May two evaluations be compared? Refuses what was not measured on the same pixels by the same rules."""

from typing import Any

import numpy as np

from dinoseg.evaluation.shards import flatten
from dinoseg.run_folder.recorded_evaluation import RecordedEvaluation
from dinoseg.system.messages import list_names

# Of the policy: what other checks cover, and what only says how an evaluation came about.
_COVERED = (
    *("absent_classes", "ignored_label_ids", "reduce_zero_label", "beta"),
    *("images", "regions", "tiles", "slices", "volumes"),
)
_OF_MEMBERS = ("resolution", "window", "temperature")
Names = tuple[str, str]


def check_comparable(first: RecordedEvaluation, second: RecordedEvaluation, names: Names) -> None:
    """Refuses two evaluations that differ in label space, absent-class policy, images or counted pixels.

    Args:
        names: what the two are called in the message.

    Raises:
        ValueError: what differs, with both values.
    """
    _same_classes(first, second, names)
    for key, noun in (
        ("ignored_label_ids", "the list of ignored label ids"),
        ("reduce_zero_label", "reduce_zero_label"),
        ("absent_classes", "the policy for absent classes"),
    ):
        _same(noun, first.policy.get(key), second.policy.get(key), names)
    _same_images(first, second, names)
    _same_truth(first, second, names)


def policy_differences(first: RecordedEvaluation, second: RecordedEvaluation) -> tuple[str, ...]:
    """What else of the two policies differs (window, resolution, augmentation), as ``key: first | second``."""
    keys = [key for key in {**first.policy, **second.policy} if key not in _COVERED]
    found: list[str] = []
    if "members" in keys:
        # Of several runs each has its own of these.
        keys = [key for key in keys if key not in ("members", *_OF_MEMBERS)]
        found += _member_differences(first, second)
    if "out_of_fold" in keys:
        keys.remove("out_of_fold")
        found += _fold_differences(first, second)
    for key in keys:
        values = first.policy.get(key), second.policy.get(key)
        # Key by key where both state something; otherwise each as a whole.
        parts = [flatten({key: value}) for value in values]
        if not all(isinstance(value, dict) for value in values):
            parts = [{key: value} for value in values]
        found += [
            f"{name}: {_show(parts[0].get(name))} | {_show(parts[1].get(name))}"
            for name in {**parts[0], **parts[1]}
            if parts[0].get(name) != parts[1].get(name)
        ]
    return tuple(found)


def _member_differences(first: RecordedEvaluation, second: RecordedEvaluation) -> list[str]:
    """One line for each run that stands on one side alone, or predicted otherwise there."""
    ours, theirs = first.policy.get("members"), second.policy.get("members")
    if ours is None or theirs is None:
        counts = [f"{len(listed)} runs as one" if listed else "one run" for listed in (ours, theirs)]
        return [f"members: {counts[0]} | {counts[1]}"]
    # By the weights: the same run may lie in another folder.
    by_weights = [{member["weights_sha256"]: member for member in listed} for listed in (ours, theirs)]
    lines = []
    for digest in {**by_weights[0], **by_weights[1]}:
        sides = [found.get(digest) for found in by_weights]
        if sides[0] is None or sides[1] is None:
            named = [side["run"] if side else "none" for side in sides]
            lines.append(f"member {digest[:12]}: {named[0]} | {named[1]}")
            continue
        told = [flatten({key: side.get(key) for key in _OF_MEMBERS}) for side in sides if side]
        lines += [
            f"{sides[0]['run']}, {name}: {_show(told[0].get(name))} | {_show(told[1].get(name))}"
            for name in {**told[0], **told[1]}
            if told[0].get(name) != told[1].get(name)
        ]
    return lines


def _fold_differences(first: RecordedEvaluation, second: RecordedEvaluation) -> list[str]:
    """How many folds each was scored out of, and what was learned before, where that differs; their runs always do."""
    told = [_folds_in_words(recorded.policy.get("out_of_fold") or []) for recorded in (first, second)]
    return [f"out_of_fold: {told[0]} | {told[1]}"] if told[0] != told[1] else []


def _folds_in_words(folds: list[Any]) -> str:
    if not folds:
        return "none, one run scored all"
    learned = sum(fold.get("learned_before", 0) for fold in folds)
    return f"{len(folds)} folds" + (f", images learned before: {learned}" if learned else "")


def _same_classes(first: RecordedEvaluation, second: RecordedEvaluation, names: Names) -> None:
    classes = [
        [f"{row['name']} (label id {row['label_id']})" for row in recorded.metrics["per_class"]]
        for recorded in (first, second)
    ]
    _same("the number of classes", len(classes[0]), len(classes[1]), names)
    for index, (one, other) in enumerate(zip(*classes, strict=True)):
        _same(f"the class of class index {index}", one, other, names)


def _same(noun: str, first: Any, second: Any, names: Names) -> None:
    if first != second:
        raise ValueError(
            f"{names[0]} and {names[1]} cannot be compared: {noun} differs, {first} and {second}; "
            "evaluate both with the same masks and settings"
        )


def _same_images(first: RecordedEvaluation, second: RecordedEvaluation, names: Names) -> None:
    for one, other, name in ((first, second, names[0]), (second, first, names[1])):
        alone = sorted(set(one.names) - set(other.names))
        if alone:
            raise ValueError(
                f"{names[0]} and {names[1]} cannot be compared: they count {len(first.names)} and {len(second.names)} "
                f"images, and only {name} has {list_names(alone)}; evaluate both on the same images (data set, "
                "split and eval.max_val_samples; --split says which evaluation of a run is read, val when left out)"
            )


def _same_truth(first: RecordedEvaluation, second: RecordedEvaluation, names: Names) -> None:
    position = {name: row for row, name in enumerate(second.names)}
    truth = first.counts[:, 2], second.counts[[position[name] for name in first.names], 2]
    rows = np.flatnonzero((truth[0] != truth[1]).any(axis=1))
    if not len(rows):
        return
    row = int(rows[0])
    totals = int(truth[0][row].sum()), int(truth[1][row].sum())
    if totals[0] != totals[1]:
        found = f"{totals[0]} and {totals[1]} pixels are not ignored in the mask of {first.names[row]}"
    else:
        index = int(np.flatnonzero(truth[0][row] != truth[1][row])[0])
        pixels = int(truth[0][row, index]), int(truth[1][row, index])
        found = (
            f"the mask of {first.names[row]} has {pixels[0]} and {pixels[1]} pixels of "
            f"{first.metrics['per_class'][index]['name']}"
        )
    raise ValueError(
        f"{names[0]} and {names[1]} cannot be compared: their masks differ in {len(rows)} of {len(first.names)} "
        f"images; {found}; evaluate both with the same masks, resized by neither"
    )


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, list):
        return f"[{', '.join(_show(part) for part in value)}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
