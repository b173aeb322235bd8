"""One evaluation from the shards of a job array: proved complete and of one origin, without a model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinoseg.evaluation.comparable import flatten
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.shards import RecordedShard, Shard, read_shard
from dinoseg.labels import LabelSpace
from dinoseg.listing import list_names

# Of what a shard states, what all must agree in, and its name in messages.
_SHARED = {
    "checkpoint_sha256": "checkpoint",
    "extra": "settings",
    "label_space": "label space",
    "policy": "policy",
    "measures": "measures",
}


@dataclass(frozen=True)
class Merged:
    """What all shards give together.

    Attributes:
        evaluation: as if no shards had been made.
        checkpoint_sha256: of the weights that all shards used.
        extra: what metrics.json says beside the figures.
    """

    evaluation: Evaluation
    checkpoint_sha256: str
    extra: dict[str, Any]


def merge_shards(folder: Path, command: str) -> Merged:
    """Adds up the shards of ``folder/shards``.

    Args:
        command: writes a shard, for messages; ``--shard i/n`` is put behind it.

    Raises:
        ValueError: there is no shard, one is missing or damaged, two differ in what they were made of, or an image is
            counted twice or not at all; names them.
    """
    shards = _read_all(folder / "shards", command)
    first = shards[0]
    for other in shards[1:]:
        _check_alike(first, other, command)
    _check_rows(shards)
    counts = first.counts
    for other in shards[1:]:
        counts = counts + other.counts
    stated = first.stated
    try:
        measures = Measures(**stated["measures"] | {"thin_classes": tuple(stated["measures"]["thin_classes"])})
        evaluation = Evaluation(
            counts, first.names, stated["policy"], LabelSpace.from_dict(stated["label_space"]), measures
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'shards'}: shards of another version ({error}); make them again") from None
    return Merged(evaluation, stated["checkpoint_sha256"], stated["extra"])


def _read_all(folder: Path, command: str) -> list[RecordedShard]:
    """Every shard, by number; none is missing."""
    shards = [read_shard(path) for path in sorted(folder.glob("*-of-*.json"))]
    if not shards:
        raise ValueError(f"{folder}: no shard there; make them with {command} --shard i/n, for i from 1 to n")
    numbers = sorted({entry.shard.count for entry in shards})
    if len(numbers) > 1:
        raise ValueError(
            f"{folder}: holds shards of {' and of '.join(map(str, numbers))}; remove those that do not belong"
        )
    by_number = {entry.shard.number: entry for entry in shards}
    every = [Shard(number, numbers[0]) for number in range(1, numbers[0] + 1)]
    missing = [str(shard) for shard in every if shard.number not in by_number]
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} of {numbers[0]} shards are missing: {list_names(missing, 12)}; "
            f"make them, for instance with {command} --shard {missing[0]}"
        )
    return [by_number[shard.number] for shard in every]


def _check_alike(first: RecordedShard, other: RecordedShard, command: str) -> None:
    for key, noun in _SHARED.items():
        one, two = (flatten({key: entry.stated[key]}) for entry in (first, other))
        differing = [name for name in {**one, **two} if one.get(name) != two.get(name)]
        if differing:
            name = differing[0]
            raise ValueError(
                f"shards {first.shard} and {other.shard} differ in their {noun}: "
                f"{name.removeprefix('extra.')} is {one.get(name)} and {two.get(name)}; "
                f"make them again alike, with {command} --shard {other.shard}"
            )
    if first.names != other.names:
        alone = sorted(set(first.names) ^ set(other.names)) or ["the order"]
        raise ValueError(
            f"shards {first.shard} and {other.shard} are of different images ({len(first.names)} and "
            f"{len(other.names)}): {list_names(alone)}; make them again on the same data"
        )


def _check_rows(shards: Sequence[RecordedShard]) -> None:
    """Each image is counted by exactly one shard."""
    names = shards[0].names
    counted = Counter(row for entry in shards for row in entry.rows)
    twice = [names[row] for row, times in counted.items() if times > 1]
    never = [name for row, name in enumerate(names) if row not in counted]
    if twice or never:
        problems = [f"{list_names(twice)} more than once"] if twice else []
        problems += [f"{list_names(never)} not at all"] if never else []
        raise ValueError(f"the {len(shards)} shards count {' and '.join(problems)}; make them again")
