"""Facts of files, remembered by path, size and modification time in the user's cache folder."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from dinoseg.system.files import replaced_file, user_cache_folder
from dinoseg.system.json_files import check_document, load_json

Facts = TypeVar("Facts")

# Raised whenever the facts or their meaning change, so that older files are passed over.
VERSION = 8


def default_cache_path(root: str) -> Path:
    """The cache file of a data set, named by a hash of root."""
    name = hashlib.sha256(str(Path(root).expanduser().absolute()).encode()).hexdigest()[:16]
    return user_cache_folder() / f"scan-{name}.json"


class ScanCache:
    """A JSON file of facts. A damaged one counts as empty; one that cannot be written costs time, not the scan."""

    def __init__(self, path: Path | None) -> None:
        """``path`` None keeps nothing."""
        self.path = path
        self._known = _load(path) if path is not None else {}
        self._fresh: dict[str, Any] = {}
        self.hits = 0

    def get(
        self, facts: type[Facts], role: str, path: Path, read: Callable[[Path], Facts], beside: Sequence[Path] = ()
    ) -> Facts:
        """The facts of a file as remembered, or by ``read``.

        An ``error`` is not remembered: rights and installed packages change it, and the file's size and time do not.

        Args:
            role: tells different questions to one file apart.
            beside: other files that the facts depend on.
        """
        try:
            statuses = [file.stat() for file in (path, *beside)]
        except OSError:
            return read(path)
        key = f"{role}:{path.absolute()}"
        stamp = [
            *(part for status in statuses for part in (status.st_size, status.st_mtime_ns)),
            *(str(file.absolute()) for file in beside),
        ]
        entry = self._known.get(key)
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            # Whatever does not fit is read anew.
            with suppress(ValueError):
                found = _restored(facts, entry.get("facts"))
                self.hits += 1
                return found
        read_now = read(path)
        stored = asdict(cast(Any, read_now))
        if not stored.get("error"):
            self._fresh[key] = {"stamp": stamp, "facts": stored}
        return read_now

    def save(self) -> None:
        """Writes what is new, and drops files that exist no more; the file appears whole or not at all."""
        if self.path is None or not self._fresh:
            return
        kept = {key: entry for key, entry in self._known.items() if os.path.exists(key.partition(":")[2])}
        self._known = kept | self._fresh
        self._fresh = {}
        # A cache that cannot be written costs the next scan its time and nothing else.
        with suppress(OSError), replaced_file(self.path, shared=True) as temporary:
            temporary.write_text(json.dumps({"version": VERSION, "files": self._known}), encoding="utf-8")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = load_json(path, "it is made anew")
    except ValueError:
        return {}
    files = content.get("files") if isinstance(content, dict) and content.get("version") == VERSION else None
    return files if isinstance(files, dict) else {}


def _restored(facts: type[Facts], stored: Any) -> Facts:
    """Raises ValueError for anything but all fields of the facts, each of its type."""
    if not isinstance(stored, dict) or stored.keys() != {entry.name for entry in fields(cast(Any, facts))}:
        raise ValueError("not the fields of these facts")
    return check_document(stored, facts, "facts", "they are read anew")
