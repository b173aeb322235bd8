"""The files of a pushed run: found in a folder or in the Hub's cache, else fetched; nothing of them is run.

What an address of the Hub names is told by its ``config.json``. Without one of dinoseg's it is a published head, if
anything, which is left to ``zoo``.
"""

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, try_to_load_from_cache

from dinoseg.hub.layout import CONFIG_FILE, FORMAT, LARGEST_CONFIG, LOADED_FILES, NEEDED_FILES, PushedRecord, is_pushed
from dinoseg.run_folder.ensemble_folder import is_run
from dinoseg.system.files import file_sha256
from dinoseg.system.json_files import check_document, load_json
from dinoseg.system.messages import printable, shell_word
from dinoseg.zoo.address import Address
from dinoseg.zoo.asking import UnreachedError, asking_hub, model_info
from dinoseg.zoo.files import HEAD_FILES

_COMMIT = re.compile("[0-9a-f]{40}")
REMEDY = "fetch it again, or ask whoever pushed it to push it anew"


@dataclass(frozen=True)
class PushedFiles:
    """Those of one version of a pushed run, on this disk.

    Attributes:
        key: names the version: the commit, or a hash of where the folder is and what its config.json says.
        record: what config.json says.
        paths: by name; each as long as config.json says.
    """

    address: Address
    key: str
    record: PushedRecord
    paths: Mapping[str, Path]


def find_pushed_files(address: Address) -> PushedFiles | None:
    """The files that an address names; None where it names no pushed run, but a head, or nothing that is known here.

    A branch, or no revision, is the newest commit of it where the Hub answers, else the one in the Hub's cache, and a
    note says so.

    Raises:
        ValueError: it cannot be fetched (says what to do), or its files are not those that its config.json names.
    """
    if address.path is not None:
        return _of_folder(address, address.path)
    if address.head is not None:
        return None
    cached = _cached(address, CONFIG_FILE)
    if (cached is None and any(_cached(address, name) for name in HEAD_FILES)) or _is_of_others(cached):
        return None
    found = _of_cache(address, cached)
    if constants.HF_HUB_OFFLINE and found is None:
        raise ValueError(_how_to_fetch(address, "HF_HUB_OFFLINE is set, and it is not in the Hub's cache"))
    if found is not None and (constants.HF_HUB_OFFLINE or address.revision == found.key):
        return found
    try:
        return _of_hub(address)
    except UnreachedError as error:
        if found is None:
            raise ValueError(_how_to_fetch(address, str(error))) from error
        warnings.warn(
            f"{address.text}: {error}; what is in the Hub's cache is used, commit {found.key[:12]}", stacklevel=2
        )
        return found


def _of_folder(address: Address, folder: Path) -> PushedFiles | None:
    config = folder / CONFIG_FILE
    if not folder.is_dir() or not config.is_file():
        if folder.is_dir() and is_run(folder):
            raise ValueError(f"{address.text}: a run folder; give it without hf:, as {folder}")
        return None
    record = _read_record(config, address)
    if record is None:
        return None
    paths = {name: folder / name for name in record.files}
    key = hashlib.sha256(f"{folder.resolve()} {file_sha256(config)}".encode()).hexdigest()
    return PushedFiles(address, key[:40], record, _checked(address, record, paths))


def _is_of_others(config: Path | None) -> bool:
    """Whether a config.json of the cache is that of another library."""
    if config is None:
        return False
    try:
        return config.stat().st_size > LARGEST_CONFIG or not is_pushed(load_json(config, REMEDY))
    except ValueError:
        # Damaged: it may be better by now.
        return False


def _of_cache(address: Address, config: Path | None) -> PushedFiles | None:
    """None where a file is missing, since a fetch was broken off, or damaged and the Hub may have a better one.

    Raises:
        ValueError: it is damaged, and no other is to be had.
    """
    if config is None:
        return None
    try:
        record = _read_record(config, address)
        if record is None:
            return None
        paths = {name: path for name in record.files if (path := _cached(address, name)) is not None}
        if paths.keys() != record.files.keys():
            return None
        return PushedFiles(address, _commit(config, address), record, _checked(address, record, paths))
    except ValueError:
        if constants.HF_HUB_OFFLINE:
            raise
        return None


def _of_hub(address: Address) -> PushedFiles | None:
    commit, sizes = _listed(address)
    if CONFIG_FILE not in sizes:
        return None
    if (sizes[CONFIG_FILE] or 0) > LARGEST_CONFIG:
        # Whatever that is; a head with such a file beside it is one.
        return None
    config = _fetched(address, CONFIG_FILE)
    record = _read_record(config, address)
    if record is None:
        return None
    # All files are of one commit, whatever is pushed meanwhile. Of the branch config.json is fetched alone: by that the
    # cache knows which commit it is.
    key = _commit(config, address)
    version = replace(address, revision=key)
    if key != commit:
        _, sizes = _listed(version)
    for name, part in record.files.items():
        if name not in sizes:
            raise ValueError(
                f"{address.text}: {name} is missing in the repository, and {CONFIG_FILE} names it; {REMEDY}"
            )
        _refuse_other_size(address, name, sizes[name], part.bytes)
    paths = {name: _fetched(version, name) for name in record.files}
    return PushedFiles(address, key, record, _checked(address, record, paths))


def _listed(address: Address) -> tuple[str | None, dict[str, int | None]]:
    """The commit that the Hub has there now, and the files in it with their bytes."""
    with asking_hub(address):
        info = model_info(address)
    return info.sha, {entry.rfilename: entry.size for entry in info.siblings or []}


def _fetched(address: Address, name: str) -> Path:
    assert address.repository is not None
    with asking_hub(address):
        return Path(HfApi().hf_hub_download(address.repository, name, revision=address.revision))


def _cached(address: Address, name: str) -> Path | None:
    assert address.repository is not None
    found = try_to_load_from_cache(address.repository, name, revision=address.revision)
    return Path(found) if isinstance(found, str) else None


def _commit(config: Path, address: Address) -> str:
    """The Hub's cache has a version's files in a folder of its commit's name."""
    name = config.parent.name
    if not _COMMIT.fullmatch(name):
        raise ValueError(f"{address.text}: the Hub names no commit ({printable(name)[:40]!r} found); {REMEDY}")
    return name


def _read_record(config: Path, address: Address) -> PushedRecord | None:
    """What config.json says; None where it is not dinoseg's."""
    source = f"{address.text}: {CONFIG_FILE}"
    size = config.stat().st_size
    if size > LARGEST_CONFIG:
        return None
    try:
        document: Any = load_json(config, REMEDY)
    except ValueError as error:
        raise ValueError(str(error).replace(str(config), source, 1)) from None
    if not is_pushed(document):
        return None
    form, version = document.get("format"), document.get("version")
    if isinstance(form, int) and form > FORMAT:
        raise ValueError(
            f"{source}: format {form} of dinoseg {printable(version)[:40]}, which is newer; update dinoseg"
        )
    record = check_document(document, PushedRecord, source, REMEDY)
    for name in record.files:
        if name not in LOADED_FILES:
            raise ValueError(f"{source}: files: {printable(name)[:80]!r} is no file of a pushed run; {REMEDY}")
    for name in NEEDED_FILES:
        if name not in record.files:
            raise ValueError(f"{source}: files: {name} is missing; {REMEDY}")
    return record


def _checked(address: Address, record: PushedRecord, paths: Mapping[str, Path]) -> Mapping[str, Path]:
    """The same paths. Raises ValueError where a file is missing, of another size or too large."""
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(f"{address.text}: {name} is missing, and {CONFIG_FILE} names it; {REMEDY}")
        size, most = path.stat().st_size, LOADED_FILES[name]
        _refuse_other_size(address, name, size, record.files[name].bytes)
        if most is not None and size > most:
            raise ValueError(f"{address.text}: {name} has {size} bytes, at most {most} are read; {REMEDY}")
    return paths


def _refuse_other_size(address: Address, name: str, found: int | None, expected: int) -> None:
    if found is not None and found != expected:
        raise ValueError(f"{address.text}: {name} damaged: {found} bytes found, {expected} expected; {REMEDY}")


def _how_to_fetch(address: Address, why: str) -> str:
    assert address.repository is not None
    folder = address.repository.partition("/")[2]
    pinned = f" --revision {shell_word(address.revision)}" if address.revision else ""
    return (
        f"{address.text}: cannot be fetched: {why}. With network, `hf download {address.repository}{pinned} "
        f"--local-dir {folder}` fetches it: give that folder, hf:{folder}, in its place; or copy the Hub's cache of a "
        f"machine that has it to {constants.HF_HUB_CACHE}"
    )
