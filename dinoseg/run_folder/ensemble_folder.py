"""A folder that holds several runs to be predicted as one: the runs in subfolders, and ``ensemble.json``."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from dinoseg.run_folder.checkpoint_manifest import Sha256
from dinoseg.run_folder.folder import ENSEMBLE_FILE, RunFolder
from dinoseg.system.files import replace_text
from dinoseg.system.json_files import Record, read_json

_REMEDY = "copy the whole folder again, or export the runs anew"
# Of a member that is not there, or is another: only a file that can be read is written anew.
MEMBER_REMEDY = (
    f"{_REMEDY}; of folds, the command that trained all of them, given again, trains what is missing and makes them one"
)


def _refuse_other_places(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} found, the name of a folder beside this file expected")
    return name


class MemberRecord(Record):
    """One run: the subfolder that holds it, and the hash of its weights file."""

    folder: Annotated[str, AfterValidator(_refuse_other_places)]
    weights_sha256: Sha256


class EnsembleRecord(Record):
    """The whole file."""

    members: Annotated[list[MemberRecord], Field(min_length=2)]


@dataclass(frozen=True)
class EnsembleFolder:
    """Paths of an ensemble."""

    path: Path

    @property
    def file(self) -> Path:
        return self.path / ENSEMBLE_FILE

    def members(self) -> list[tuple[Path, str]]:
        """Run folder and hash of the weights of each member.

        Raises:
            ValueError: ``ensemble.json`` is damaged, or names a folder that is not there.
        """
        record = self._read()
        for index, member in enumerate(record.members):
            if not is_run(self.path / member.folder):
                raise ValueError(
                    f"{self.file}: members[{index}].folder: no run in {self.path / member.folder} (config.yaml and "
                    f"labels.json); {MEMBER_REMEDY}"
                )
        return [(self.path / member.folder, member.weights_sha256) for member in record.members]

    def names(self) -> list[str]:
        """The folders that are members, whether they are there or not. Raises ValueError for a damaged file."""
        return [member.folder for member in self._read().members]

    def _read(self) -> EnsembleRecord:
        return read_json(self.file, EnsembleRecord, _REMEDY)

    def write(self, members: Sequence[tuple[str, str]]) -> None:
        """Writes ``ensemble.json`` for subfolders and hashes that lie there already."""
        listed = [{"folder": folder, "weights_sha256": digest} for folder, digest in members]
        replace_text(self.file, json.dumps({"members": listed}, indent=2) + "\n")


def is_run(path: Path) -> bool:
    """Whether a folder is a run: it has config.yaml and labels.json."""
    folder = RunFolder(path)
    return _is_file(folder.config) and _is_file(folder.labels)


def is_rest_of_run(path: Path) -> bool:
    """Whether a folder was a run, and lacks config.yaml or labels.json: checkpoints lie beside one of them."""
    folder = RunFolder(path)
    return _is_file(folder.config) != _is_file(folder.labels) and os.path.isdir(folder.checkpoint("best").parent)


def is_ensemble(path: Path) -> bool:
    """Whether a folder holds several runs to be predicted as one, or something in the place of the file that says so.

    Whoever reads that file says what is wrong with it.
    """
    return os.path.lexists(EnsembleFolder(path).file)


def _is_file(path: Path) -> bool:
    # Not Path.is_file, which raises for what is too long to be a name.
    return os.path.isfile(path)
