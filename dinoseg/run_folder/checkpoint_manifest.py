"""``checkpoint.json``: what a checkpoint holds, by size and hash, and where the training stood."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dinoseg.system.files import file_sha256

CONTENTS_FILE = "checkpoint.json"

REMEDY = "use another one: `--resume previous` or `--resume best` to go on training, `--checkpoint` elsewhere"


def write_contents(folder: Path, files: Iterable[str], progress: dict[str, Any]) -> Path:
    """Writes the file for a folder whose other files are complete; ``progress`` holds plain values."""
    contents = {"progress": progress, "files": {name: _describe(folder / name) for name in files}}
    path = folder / CONTENTS_FILE
    path.write_text(json.dumps(contents | {"sha256": _hash(contents)}, indent=2) + "\n", encoding="utf-8")
    return path


def read_progress(folder: Path) -> dict[str, Any]:
    """Step, best metric and so on, as they were given to ``write_contents``.

    Raises:
        ValueError: ``checkpoint.json`` is missing or damaged.
    """
    progress: dict[str, Any] = _read_contents(folder)["progress"]
    return progress


def verify(file: Path) -> None:
    """Compares a file of a checkpoint with the size and hash it was written with.

    Files of a checkpoint without ``checkpoint.json`` pass: a model that was put together by hand can be evaluated.

    Raises:
        ValueError: the file is damaged; says what was found and what was expected.
    """
    if not (file.parent / CONTENTS_FILE).exists():
        return
    expected = _read_contents(file.parent)["files"].get(file.name)
    if expected is None:
        raise ValueError(
            f"{file}: not part of this checkpoint, which was exported to predict with and cannot be resumed; "
            "start another run with load_from=RUN"
        )
    try:
        found = _describe(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); {REMEDY}") from None
    if found["bytes"] != expected["bytes"]:
        raise ValueError(f"{file}: damaged: {found['bytes']} bytes found, {expected['bytes']} expected; {REMEDY}")
    _compare_hashes(file, found["sha256"], expected["sha256"])


def _read_contents(folder: Path) -> dict[str, Any]:
    file = folder / CONTENTS_FILE
    try:
        contents: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        expected = contents.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{file}: damaged or missing ({error}); {REMEDY}") from None
    _compare_hashes(file, _hash(contents), expected)
    return contents


def _compare_hashes(file: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(f"{file}: damaged: SHA-256 {found[:12]}... found, {expected[:12]}... expected; {REMEDY}")


def _describe(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": file_sha256(file)}


def _hash(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
