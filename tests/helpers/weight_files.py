"""Weight files of every kind that is refused, and the words that say why."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

State = Mapping[str, Tensor]


class Trap:
    """Unpickled without care, it makes the file ``trapped`` in the working folder."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("open('trapped', 'w').close()",)


@dataclass(frozen=True)
class BadFile:
    """Writes a file into a folder, made from good tensors; ``reason`` must stand in the message."""

    name: str
    write: Callable[[Path, State], object]
    reason: str


def _saved(change: Callable[[State], Any]) -> Callable[[Path, State], object]:
    return lambda path, state: torch.save(change(state), path)


def _bytes(content: bytes) -> Callable[[Path, State], object]:
    return lambda path, state: path.write_bytes(content)


def _with_first(change: Callable[[Tensor], Tensor]) -> Callable[[Path, State], object]:
    """The good tensors, one of them changed."""

    def write(path: Path, state: State) -> None:
        name = next(name for name, tensor in state.items() if tensor.is_floating_point() and tensor.ndim > 1)
        torch.save({**state, name: change(state[name])}, path)

    return write


def _filled(value: float) -> Callable[[Tensor], Tensor]:
    def fill(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return fill


def _cut(suffix: str) -> Callable[[Path, State], object]:
    def write(path: Path, state: State) -> None:
        save_file(dict(state), path) if suffix == ".safetensors" else torch.save(dict(state), path)
        path.write_bytes(path.read_bytes()[:-100])

    return write


def _optimiser(state: State) -> dict[str, Any]:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    return {"optimizer": optimizer.state_dict(), "epoch": 3}


def _endless(state: State) -> dict[str, Any]:
    first: dict[str, Any] = {}
    first["model"] = {"state_dict": first}
    return first


def _pickled(content: bytes) -> Callable[[Path, State], object]:
    """An archive as torch writes it, with another pickle in it: no pickler of Python's nests as deep."""

    def write(path: Path, state: State) -> None:
        torch.save({}, path)
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, content if name.endswith("data.pkl") else part)

    return write


# 10,000 dictionaries, or lists, each in the one before.
_DEEP = b"\x80\x02" + b"}X\x05\x00\x00\x00model" * 10_000 + b"}" + b"s" * 10_000 + b"."
_DEEP_LIST = b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b"."
_UNREADABLE = "not a readable"

BAD_FILES = [
    BadFile("empty.pth", _bytes(b""), "it is empty"),
    BadFile("empty.safetensors", _bytes(b""), "it is empty"),
    BadFile("garbage.pth", _bytes(bytes(range(256)) * 9), "refused"),
    BadFile("garbage.safetensors", _bytes(bytes(range(256)) * 9), _UNREADABLE),
    BadFile(
        "text.pth", _bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "a text file, no weights"
    ),
    BadFile("text.safetensors", _bytes(b"version https://git-lfs.github.com/spec/v1\n"), _UNREADABLE),
    BadFile("cut.pth", _cut(".pth"), _UNREADABLE),
    BadFile("cut.safetensors", _cut(".safetensors"), _UNREADABLE),
    BadFile("header.safetensors", _bytes(struct.pack("<Q", 2**62) + b"{}"), _UNREADABLE),
    BadFile("header_all.safetensors", _bytes(b"\xff" * 8 + b"{}"), _UNREADABLE),
    BadFile("header_deep.safetensors", _bytes(struct.pack("<Q", 30_000) + b"[" * 30_000), _UNREADABLE),
    BadFile("code.pth", _saved(lambda state: {"model": dict(state), "hook": Trap()}), "code in it is not run"),
    BadFile("code.bin", lambda path, state: path.write_bytes(pickle.dumps(Trap())), "code in it is not run"),
    BadFile("deep.pth", _pickled(_DEEP), "holds no tensors of a model (its keys: none)"),
    BadFile("deep_list.pth", _pickled(_DEEP_LIST), "not named tensors"),
    BadFile("itself.pth", _saved(_endless), "holds no tensors of a model (its keys: "),
    BadFile("optimiser.pth", _saved(_optimiser), "holds no tensors of a model (its keys: optimizer, epoch)"),
    BadFile("integer_keys.pth", _saved(lambda s: dict(enumerate(s.values()))), "holds no tensors of a model (its keys"),
    BadFile("list.pth", _saved(lambda state: list(state.values())), "holds a list, not named tensors"),
    BadFile("sparse.pth", _with_first(lambda tensor: tensor.to_sparse()), "sparse_coo, where plain numbers"),
    BadFile("meta.pth", _with_first(lambda tensor: tensor.to("meta")), "has no values"),
    BadFile(
        "complex.pth",
        _with_first(lambda tensor: tensor.to(torch.complex64)),
        "is torch.complex64",
    ),
    BadFile("repeated.pth", _with_first(lambda tensor: tensor.new_ones(1).expand(1 << 20, 1 << 20)), "1 values only"),
    BadFile("nan.pth", _with_first(_filled(float("nan"))), "1 values that are NaN or infinite"),
    BadFile("infinite.pth", _with_first(_filled(float("-inf"))), "1 values that are NaN or infinite"),
    BadFile("half_infinite.pth", _with_first(lambda t: _filled(float("inf"))(t.half())), "NaN or infinite"),
    BadFile(
        "twice.pth",
        _saved(lambda state: {**state, **{f"module.{name}": tensor + 1 for name, tensor in state.items()}}),
        "two different tensors are called",
    ),
    BadFile("folder.pth", lambda path, state: path.mkdir(), ""),
    BadFile("fifo.pth", lambda path, state: os.mkfifo(path), "a FIFO (named pipe), which is not read"),
    BadFile("fifo.safetensors", lambda path, state: os.mkfifo(path), "a FIFO (named pipe), which is not read"),
    BadFile("device.pth", lambda path, state: path.symlink_to("/dev/zero"), "a device, which is not read"),
    BadFile("nothing.pth", lambda path, state: None, "no such file"),
    BadFile("dangling.pth", lambda path, state: path.symlink_to("nowhere"), "no such file"),
]


def write_index(folder: Path, index: Any) -> Path:
    """A folder with an index of shards, and one good shard beside it and one outside."""
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(index if isinstance(index, str) else json.dumps(index))
    for path in (folder / "a.safetensors", folder.parent / "outside.safetensors"):
        save_file({"weight": torch.zeros(2)}, path)
    return folder
