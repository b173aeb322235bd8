"""The files of a published head: found on this disk, else fetched from the Hub; read as data, never run."""

import os
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from dinoseg.backbone.catalogue import find_backbone
from dinoseg.system.messages import list_names, printable
from dinoseg.zoo.address import Address
from dinoseg.zoo.catalogue import nearest_head

# What the file with the head's weights is called, the safer format first.
HEAD_FILES = ("model.safetensors", "pytorch_model.bin")
# What the backbone's may be called beside it, in a folder of one's own.
BACKBONE_FILES = ("backbone.safetensors", "backbone.pth")
_BACKBONE_FILE = "model.safetensors"
_HUB = "https://huggingface.co/"
_TIMEOUT_SECONDS = 10.0


def head_file(address: Address) -> Path:
    """The file with the weights: a local one, one of the Hub's cache, else downloaded into it.

    Raises:
        ValueError: there is none, or it cannot be fetched; of the latter the message says what to put where.
    """
    if address.path is not None:
        return _local_file(address, address.path)
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


def _local_file(address: Address, path: Path) -> Path:
    if not path.is_dir():
        return path
    found = next((file for name in HEAD_FILES if (file := path / name).is_file()), None)
    if found is None:
        names = list_names(sorted(printable(entry.name) for entry in path.iterdir())) or "nothing"
        raise ValueError(
            f"{address.text}: neither {' nor '.join(HEAD_FILES)} in this folder, but {names}; put the head's file "
            "there, or name it: hf:FOLDER/FILE"
        )
    return found


def _download(address: Address, repository: str) -> Path:
    page = f"{_HUB}{repository}"
    try:
        # Fails at once without network, where the download would go on trying.
        info = HfApi().model_info(repository, revision=address.revision, timeout=_TIMEOUT_SECONDS)
        listed = [entry.rfilename for entry in info.siblings or []]
        name = next((name for name in HEAD_FILES if name in listed), None)
        if name is not None:
            return Path(hf_hub_download(repository, name, revision=address.revision))
    except GatedRepoError:
        raise ValueError(
            f"{address.text}: the Hub gives this to those whom its owner let in; ask on {page}, then log in with "
            "`hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"{address.text}: the Hub has no such repository, or a private one; {nearest_head(repository)}"
            "`dinoseg zoo` lists the heads that are known; to a private one, log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ValueError(
            f"{address.text}: {repository} has no revision {address.revision!r}; give a branch, a tag or a commit of "
            f"{page}/commits/main, or leave @{address.revision} out for the newest"
        ) from None
    # Whatever a download can raise (each of several HTTP libraries has its own classes) has the same remedy.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(_how_to_fetch(address, f"the Hub was not reached ({reason})")) from error
    raise ValueError(
        f"{address.text}: neither {' nor '.join(HEAD_FILES)} in {page}, but {list_names(listed) or 'nothing'}; give "
        "another repository, or download the head's file and name it: hf:FILE"
    )


def _how_to_fetch(address: Address, why: str) -> str:
    """The files that are needed, where they are to be had, and where they are looked for."""
    repository, revision = address.repository or "", address.revision or "main"
    name = HEAD_FILES[-1]
    folder = repository.partition("/")[2]
    wanted = [(f"{_HUB}{repository}/resolve/{revision}/{name}", name)]
    if address.head is not None:
        origin = find_backbone(address.head.backbone).origin
        cached = try_to_load_from_cache(origin.removeprefix(_HUB), _BACKBONE_FILE)
        if not isinstance(cached, str):
            wanted.append((f"{origin}/resolve/main/{_BACKBONE_FILE}", BACKBONE_FILES[0]))
    listed = "".join(f"\n  {url}\n    as {folder}/{file}" for url, file in wanted)
    return (
        f"{address.text}: cannot be fetched: {why}. Fetch elsewhere:{listed}\nand give that folder, hf:{folder}, in "
        f"its place; or copy the Hub's cache of a machine that has them to {os.fspath(constants.HF_HUB_CACHE)}"
    )
