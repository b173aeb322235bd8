"""Parts of one evaluation, counted by separate jobs.

Shard i of n counts every n-th image, from the i-th. Its counts lie in ``shards/i-of-n.npz``, what they are of in
``shards/i-of-n.json``: this is written last and holds the hash of the other, so that a pair is whole or refused.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from dinoseg.atomic_file import replace_text, replaced_file
from dinoseg.data.sampler import evaluation_shard
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.file_hash import file_sha256


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
