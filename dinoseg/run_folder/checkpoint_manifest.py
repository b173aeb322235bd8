"""``checkpoint.json``: what a checkpoint holds, by size and hash, and where the training stood."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dinoseg.system.files import file_sha256, special_kind
from dinoseg.system.json_files import Record, check_document, load_json

CONTENTS_FILE = "checkpoint.json"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

REMEDY = "use another one: `--resume previous` or `--resume best` to go on training, `--checkpoint` elsewhere"


def write_contents(folder: Path, files: Iterable[str], progress: dict[str, Any]) -> Path:
    """Writes the file for a folder whose other files are complete; ``progress`` holds plain values."""
    contents = {"progress": progress, "files": {name: _describe(folder / name) for name in files}}
    path = folder / CONTENTS_FILE
    path.write_text(json.dumps(contents | {"sha256": _hash(contents)}, indent=2) + "\n", encoding="utf-8")
    return path


class PartRecord(Record):
    """Size and hash that a file of the checkpoint was written with."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Manifest(Record):
    """The whole file. ``progress`` is what it was written with: who wrote it knows its keys."""

    progress: dict[str, Any]
    files: dict[str, PartRecord]
    sha256: Sha256


def read_manifest(folder: Path) -> Manifest:
    """Reads ``checkpoint.json``.

    Raises:
        ValueError: missing or damaged; names the file, and the key or the hashes.
    """
    file = folder / CONTENTS_FILE
    contents = load_json(file, REMEDY)
    manifest = check_document(contents, Manifest, str(file), REMEDY)
    _compare_hashes(file, _hash({key: value for key, value in contents.items() if key != "sha256"}), manifest.sha256)
    return manifest


def verify_part(file: Path, manifest: Manifest) -> str:
    """Compares a file of a checkpoint with the size and hash it was written with; returns its SHA-256.

    Raises:
        ValueError: the file is damaged or no part of the checkpoint; says what was found and what was expected.
    """
    expected = manifest.files.get(file.name)
    if expected is None:
        raise ValueError(
            f"{file}: not part of this checkpoint, which was exported to predict with and cannot be resumed; "
            "start another run with load_from=RUN"
        )
    if kind := special_kind(file):
        raise ValueError(f"{file}: {kind}; {REMEDY}")
    try:
        size = file.stat().st_size
        if size != expected.bytes:
            raise ValueError(f"{file}: damaged: {size} bytes found, {expected.bytes} expected; {REMEDY}")
        found = file_sha256(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); {REMEDY}") from None
    _compare_hashes(file, found, expected.sha256)
    return expected.sha256


def _compare_hashes(file: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(f"{file}: damaged: SHA-256 {found[:12]}... found, {expected[:12]}... expected; {REMEDY}")


def _describe(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": file_sha256(file)}


def _hash(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
