"""Parts of one evaluation, counted by separate jobs.

Shard i of n counts every n-th image, from the i-th. Its counts lie in ``shards/i-of-n.npz``, what they are of in
``shards/i-of-n.json``: this is written last and holds the hash of the other, so that a pair is whole or refused.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.measures import Measures
from dinoseg.labels import LabelSpace
from dinoseg.system.files import file_sha256, replace_text, replaced_file
from dinoseg.system.messages import list_names
from dinoseg.system.processes import evaluation_shard

# Of what a shard states, what all must agree in, and its name in messages.
_SHARED = {
    "checkpoint_sha256": "checkpoint",
    "extra": "settings",
    "label_space": "label space",
    "policy": "policy",
    "measures": "measures",
}


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (from 1) of ``count``."""

    number: int
    count: int

    @staticmethod
    def parse(text: str) -> "Shard":
        """``2/8``: part 2 of 8.

        Raises:
            ValueError: anything else, or a number outside 1 .. count.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"--shard {text}: write i/n with i from 1 to n, for instance --shard 2/8")
        return Shard(int(match[1]), int(match[2]))

    @property
    def position(self) -> tuple[int, int]:
        """(number from 0, count), as ``evaluate`` takes it."""
        return self.number - 1, self.count

    def rows(self, images: int) -> list[int]:
        """The images that this shard counts."""
        return evaluation_shard(images, *self.position)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class RecordedShard:
    """One shard read back.

    Attributes:
        stated: what its counts are of: the contents of the JSON file.
        names: of the images of all shards.
        rows: the images that this one counted.
        counts: with rows of 0 for all others.
    """

    shard: Shard
    stated: dict[str, Any]
    names: tuple[str, ...]
    rows: tuple[int, ...]
    counts: Counts


def write_shard(
    evaluation: Evaluation, folder: Path, shard: Shard, checkpoint_sha256: str, extra: dict[str, Any]
) -> Path:
    """Writes the two files of a shard into ``folder/shards`` and returns the JSON file.

    Args:
        evaluation: of the shard's images; the rows of all others are 0.
        folder: of the evaluation, ``eval/<split>``.
        extra: what metrics.json says beside the figures; must be the same for all shards.
    """
    path = folder / "shards" / f"{shard.number}-of-{shard.count}.json"
    rows = shard.rows(len(evaluation.names))
    arrays: dict[str, Any] = {"names": np.array(evaluation.names), "rows": np.array(rows, dtype=np.int64)}
    arrays |= evaluation.counts.to_arrays()
    with replaced_file(path.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, **arrays)
        digest = file_sha256(temporary)
    stated = {
        "shard": shard.number,
        "shards": shard.count,
        "images": [evaluation.names[row] for row in rows],
        "counts_sha256": digest,
        "checkpoint_sha256": checkpoint_sha256,
        "extra": extra,
        "label_space": evaluation.label_space.to_dict(),
        "policy": evaluation.policy,
        "measures": asdict(evaluation.measures),
    }
    replace_text(path, json.dumps(stated, indent=2) + "\n")
    return path


def read_shard(path: Path) -> RecordedShard:
    """Reads a shard by its JSON file.

    Raises:
        ValueError: a file is missing, damaged, or of another writing than the other.
    """
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        arrays_path = path.with_suffix(".npz")
        if file_sha256(arrays_path) != stated["counts_sha256"]:
            raise ValueError(f"{arrays_path.name} is of another evaluation")
        with np.load(arrays_path, allow_pickle=False) as content:
            arrays = dict(content.items())
        return RecordedShard(
            Shard(stated["shard"], stated["shards"]),
            stated,
            tuple(str(name) for name in arrays.pop("names")),
            tuple(int(row) for row in arrays.pop("rows")),
            Counts.from_arrays(arrays),
        )
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError) as error:
        again = f"make it again with --shard {path.stem.replace('-of-', '/')}"
        raise ValueError(f"{path}: a damaged or interrupted shard ({error}); {again}") from None


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


def flatten(policy: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in policy.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
