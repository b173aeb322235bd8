"""Hashes of files."""

import hashlib
from pathlib import Path

_CHUNK = 1 << 22


def file_sha256(*paths: Path) -> str:
    """SHA-256 of the bytes of the files, one after the other, hexadecimal.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
