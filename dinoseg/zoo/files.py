"""The files of a published head: found on this disk, else fetched from the Hub; read as data, never run."""

import os
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from dinoseg.backbone.catalogue import find_backbone
from dinoseg.system.messages import list_names, printable
from dinoseg.zoo.address import Address
from dinoseg.zoo.asking import HUB, UnreachedError, asking_hub, model_info

# What the file with the head's weights is called, the safer format first.
HEAD_FILES = ("model.safetensors", "pytorch_model.bin")
# What the backbone's may be called beside it, in a folder of one's own.
BACKBONE_FILES = ("backbone.safetensors", "backbone.pth")
_BACKBONE_FILE = "model.safetensors"


def head_file(address: Address) -> Path:
    """The file with the weights: a local one, one of the Hub's cache, else downloaded into it.

    Raises:
        ValueError: there is none, or it cannot be fetched; of the latter the message says what to put where.
    """
    if address.path is not None:
        return local_head_file(address, address.path)
    assert address.repository is not None
    for name in HEAD_FILES:
        cached = try_to_load_from_cache(address.repository, name, revision=address.revision)
        if isinstance(cached, str):
            return Path(cached)
    if constants.HF_HUB_OFFLINE:
        raise ValueError(_how_to_fetch(address, "HF_HUB_OFFLINE is set, and it is not in the Hub's cache"))
    return _download(address, address.repository)


def backbone_file(address: Address) -> Path | None:
    """The weights of the backbone where they lie beside those of a local head."""
    if address.path is None or not address.path.is_dir():
        return None
    return next((file for name in BACKBONE_FILES if (file := address.path / name).is_file()), None)


def local_head_file(address: Address, path: Path) -> Path:
    """The file itself, or that of a folder. Raises ValueError for a folder without one."""
    if not path.is_dir():
        return path
    found = next((file for name in HEAD_FILES if (file := path / name).is_file()), None)
    if found is None:
        names = list_names(sorted(printable(entry.name) for entry in path.iterdir())) or "nothing"
        raise ValueError(
            f"{address.text}: neither {' nor '.join(HEAD_FILES)} in this folder, but {names}; put the head's file "
            "there, or name it: hf:FOLDER/FILE; a pushed run has a config.json beside it"
        )
    return found


def _download(address: Address, repository: str) -> Path:
    page = f"{HUB}{repository}"
    try:
        with asking_hub(address):
            # Fails at once without network, where the download would go on trying.
            listed = [entry.rfilename for entry in model_info(address).siblings or []]
            name = next((name for name in HEAD_FILES if name in listed), None)
            if name is not None:
                return Path(hf_hub_download(repository, name, revision=address.revision))
    except UnreachedError as error:
        raise ValueError(_how_to_fetch(address, str(error))) from error
    raise ValueError(
        f"{address.text}: neither {' nor '.join(HEAD_FILES)} in {page}, but {list_names(listed) or 'nothing'}; give "
        "another repository, or download the head's file and name it: hf:FILE"
    )


def _how_to_fetch(address: Address, why: str) -> str:
    """The files that are needed, where they are to be had, and where they are looked for."""
    repository, revision = address.repository or "", address.revision or "main"
    name = HEAD_FILES[-1]
    folder = repository.partition("/")[2]
    wanted = [(f"{HUB}{repository}/resolve/{revision}/{name}", name)]
    if address.head is not None:
        origin = find_backbone(address.head.backbone).origin
        cached = try_to_load_from_cache(origin.removeprefix(HUB), _BACKBONE_FILE)
        if not isinstance(cached, str):
            wanted.append((f"{origin}/resolve/main/{_BACKBONE_FILE}", BACKBONE_FILES[0]))
    listed = "".join(f"\n  {url}\n    as {folder}/{file}" for url, file in wanted)
    return (
        f"{address.text}: cannot be fetched: {why}. Fetch elsewhere:{listed}\nand give that folder, hf:{folder}, in "
        f"its place; or copy the Hub's cache of a machine that has them to {os.fspath(constants.HF_HUB_CACHE)}"
    )
