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
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.reliability import BINS
from dinoseg.labels import LabelSpace
from dinoseg.labels.labels_json import LabelSpaceRecord
from dinoseg.run_folder.checkpoint_manifest import Sha256
from dinoseg.run_folder.metrics_schema import ShardPolicy
from dinoseg.system.array_files import ArrayForm, read_arrays
from dinoseg.system.files import file_sha256, replace_text, replaced_file
from dinoseg.system.json_files import Record, check_document, load_json
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


class Extra(Record):
    """What metrics.json says beside the figures."""

    checkpoint: Annotated[str, Field(min_length=1)]


class ShardRecord(Record):
    """The JSON file of a shard: what its counts are of."""

    shard: Annotated[int, Field(ge=1)]
    shards: Annotated[int, Field(ge=1)]
    images: list[str]
    counts_sha256: Sha256
    checkpoint_sha256: Sha256
    extra: Extra
    label_space: LabelSpaceRecord
    policy: ShardPolicy
    measures: dict[str, Any]


@dataclass(frozen=True)
class RecordedShard:
    """One shard read back.

    Attributes:
        record: what its counts are of.
        measures: which counts there are.
        stated: the same, as it stands in the JSON file.
        names: of the images of all shards; ``volumes`` the volume of each, nothing where there are none.
        rows: the images that this one counted.
        counts: with rows of 0 for all others.
    """

    record: ShardRecord
    measures: Measures
    stated: dict[str, Any]
    names: tuple[str, ...]
    volumes: tuple[str, ...]
    rows: tuple[int, ...]
    counts: Counts

    @property
    def shard(self) -> Shard:
        return Shard(self.record.shard, self.record.shards)


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
    arrays: dict[str, Any] = evaluation.images.to_arrays() | {"rows": np.array(rows, dtype=np.int64)}
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
        ValueError: a file is missing, damaged, or of another writing than the other; names file and key.
    """
    remedy = f"a damaged or interrupted shard: make it again with --shard {path.stem.replace('-of-', '/')}"
    stated = load_json(path, remedy)
    record = check_document(stated, ShardRecord, str(path), remedy)
    measures = check_document(record.measures, Measures, str(path), remedy, within="measures")
    if path.stem != f"{record.shard}-of-{record.shards}" or record.shard > record.shards:
        raise ValueError(f"{path}: shard: {record.shard} of {record.shards} found, {path.stem} expected; {remedy}")
    counted = len(range(record.shard - 1, record.policy.images, record.shards))
    if len(record.images) != counted:
        raise ValueError(
            f"{path}: images: a list of {len(record.images)} found, {counted} entries expected of a shard of "
            f"{record.policy.images} images; {remedy}"
        )
    arrays_path = path.with_suffix(".npz")
    try:
        digest = file_sha256(arrays_path)
    except OSError as error:
        raise ValueError(f"{arrays_path}: cannot be read ({error.strerror}); {remedy}") from None
    if digest != record.counts_sha256:
        raise ValueError(f"{path}: counts_sha256: {arrays_path.name} is of another evaluation; {remedy}")
    arrays = read_arrays(arrays_path, _array_forms(record, measures), remedy)
    rows = tuple(arrays.pop("rows").tolist())
    if rows and max(rows) >= record.policy.images:
        raise ValueError(f"{arrays_path}: rows: {max(rows)} found, below {record.policy.images} expected; {remedy}")
    names, volumes = (tuple(arrays[key].tolist()) if key in arrays else () for key in ("names", "volumes"))
    return RecordedShard(record, measures, stated, names, volumes, rows, Counts.from_arrays(arrays))


def _array_forms(record: ShardRecord, measures: Measures) -> dict[str, ArrayForm]:
    images, classes = record.policy.images, record.label_space.num_classes
    shapes = {"matrix": (classes, classes), "image_counts": (images, 3, classes)}
    if measures.boundary_width is not None:
        shapes["boundary"] = (images, 2, classes)
    if measures.thin_classes:
        shapes["skeleton"] = (images, 4, classes)
    if measures.reliability:
        shapes["reliability"] = (2, BINS, 4)
    forms = {name: ArrayForm("whole numbers", shape) for name, shape in shapes.items()}
    rows = ArrayForm("whole numbers", (len(record.images),))
    texts = ["names", "volumes"] if record.policy.volumes else ["names"]
    return forms | {name: ArrayForm("texts", (images,)) for name in texts} | {"rows": rows}


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
    record, stated = first.record, first.stated
    label_space = LabelSpace.from_record(record.label_space)
    evaluation = Evaluation(counts, first.names, stated["policy"], label_space, first.measures, first.volumes)
    return Merged(evaluation, record.checkpoint_sha256, stated["extra"])


def _read_all(folder: Path, command: str) -> list[RecordedShard]:
    """Every shard, by number; none is missing."""
    shards = [read_shard(path) for path in sorted(folder.glob("*-of-*.json"))]
    if not shards:
        raise ValueError(f"{folder}: no shard there; make them with {_with(command, '--shard i/n')}, for i from 1 to n")
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
            f"{folder}: missing {list_names(missing, 12)} of {numbers[0]} shards; "
            f"make {'it' if len(missing) == 1 else 'them, for instance'} with {_with(command, f'--shard {missing[0]}')}"
        )
    return [by_number[shard.number] for shard in every]


def _with(command: str, option: str) -> str:
    """A command in backticks with one option more."""
    return f"{command.rstrip('`')} {option}`"


def _check_alike(first: RecordedShard, other: RecordedShard, command: str) -> None:
    for key, noun in _SHARED.items():
        one, two = (flatten({key: entry.stated[key]}) for entry in (first, other))
        differing = [name for name in {**one, **two} if one.get(name) != two.get(name)]
        if differing:
            name = differing[0]
            raise ValueError(
                f"shards {first.shard} and {other.shard} differ in their {noun}: "
                f"{name.removeprefix('extra.')} is {one.get(name)} and {two.get(name)}; "
                f"make them again alike, with {_with(command, f'--shard {other.shard}')}"
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
