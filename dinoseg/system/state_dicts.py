"""State dicts from files: read without running code, taken out of their wrappers, plain tensors or refused."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dinoseg.system.files import special_kind
from dinoseg.system.messages import list_names, printable

# Keys under which training codes put the model's state dict.
_WRAPPERS = ("teacher", "model", "state_dict", "model_state_dict")
# What wrappers of a model (compiled, distributed, checkpointed) put into the names of its tensors, in any order and at
# any depth: single blocks are wrapped, too.
_PREFIXES = re.compile(r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What torch says of the class that it would have to import; its advice around it is to run the code.
_FOREIGN_CLASS = re.compile(r"GLOBAL (\S+)")
_KEYS_SHOWN = 4
_GRAPHS = (".onnx", ".pt2")
_LONGEST_NAME = 300
_LINE_ENDS = str.maketrans("", "", "\n\r\t")


def read_state(file: Path, source: str, remedy: str) -> Mapping[Any, Any]:
    """What a ``.safetensors`` file or a pickle (``.pth``, ``.pt``, ``.bin``) holds, on the CPU.

    Args:
        source: names the file in messages, with the key it was given under, such as ``load_from=FILE``.
        remedy: what to do about it.

    Raises:
        ValueError: the file cannot be read, holds code or no mapping; names ``source`` and the reason.
    """
    if kind := special_kind(file):
        raise ValueError(f"{source}: {kind}; {remedy}")
    if file.suffix.lower() in _GRAPHS and file.exists():
        raise ValueError(f"{source}: a graph for other engines, no file of weights; {remedy}")
    try:
        if file.suffix.lower() == ".safetensors":
            return load_file(file)
        _refuse_inflated(file)
        with warnings.catch_warnings():
            # Of the classes of older versions of torch, which nobody here can change.
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{source}: no such file; {remedy}") from None
    except pickle.UnpicklingError as error:
        if _is_text(file):
            raise ValueError(f"{source}: a text file, no weights; {remedy}") from None
        raise ValueError(
            f"{source}: refused, it holds more than tensors (a pickle that runs code when loaded, or no checkpoint at "
            f"all), and code in it is not run{_foreign_class(error)}; {remedy}"
        ) from None
    except Exception as error:  # the libraries raise many types for a damaged file
        format_name = "safetensors file" if file.suffix.lower() == ".safetensors" else "checkpoint"
        why = f"perhaps cut short ({_reason(error)})"
        if "TorchScript" in str(error):
            why = "but a TorchScript program, which is not run"
        if not file.stat().st_size:
            why = "it is empty"
        raise ValueError(f"{source}: not a readable {format_name}, {why}; {remedy}") from None
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{source}: holds a {type(loaded).__name__}, not named tensors; {remedy}")
    return loaded


def named_tensors(state: Mapping[Any, Any], source: str, remedy: str) -> dict[str, Tensor]:
    """The tensors of a state dict, out of their wrappers (``teacher``, ``model``, ``state_dict``) and prefixes.

    What has no text for a name, or is no tensor, is passed over.

    Raises:
        ValueError: no tensor in it; one that is sparse, quantised or without values; two that have one name without
            their prefixes. Names it.
    """
    inner = _unwrap(state)
    tensors: dict[str, Tensor] = {}
    for full_name, value in inner.items():
        if isinstance(full_name, str) and isinstance(value, Tensor):
            name = _PREFIXES.sub("", full_name)
            if name in tensors and not _same(tensors[name], value):
                raise ValueError(
                    f"{source}: two different tensors are called {show_name(name)}, with and without prefixes such as "
                    f"module.; {remedy}"
                )
            _refuse_without_values(name, value, source, remedy)
            tensors[name] = value
    if not tensors:
        keys = list_names((show_name(key) for key in inner), _KEYS_SHOWN) or "none"
        raise ValueError(f"{source}: holds no tensors of a model (its keys: {keys}); {remedy}")
    return tensors


def refuse_not_finite(tensors: Mapping[str, Tensor], source: str, remedy: str) -> None:
    """Raises ValueError when a tensor holds NaN or infinity; names the first of them."""
    for name, tensor in tensors.items():
        # A sum is not finite where a value is not, and needs no room; it may overflow, hence the second look.
        if tensor.is_floating_point() and not bool(tensor.float().sum().isfinite()):
            count = int((~tensor.float().isfinite()).sum())
            if count:
                raise ValueError(
                    f"{source}: {show_name(name)} holds {count} values that are NaN or infinite (of a training that "
                    f"diverged, or of a damaged file); {remedy}"
                )


def refuse_without_values(tensors: Mapping[str, Tensor], source: str, remedy: str) -> None:
    """Raises ValueError when a tensor is sparse, quantised, complex or has fewer values than its shape; names it."""
    for name, tensor in tensors.items():
        _refuse_without_values(name, tensor, source, remedy)


def tensors_within(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested mappings and lists, with its keys; each container is visited once."""
    pending: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while pending:
        name, value = pending.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            entries = value.items() if isinstance(value, Mapping) else enumerate(value)
            # The end of a name tells which: all of one that is nested thousands deep would be too much.
            pending += [(f"{name}.{key}".lstrip(".")[-_LONGEST_NAME:], entry) for key, entry in entries]


def show_name(key: object) -> str:
    """A key of a state dict on one line, cut where it is long."""
    text = printable(key if isinstance(key, str | int | float) else type(key).__name__)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _refuse_without_values(name: str, tensor: Tensor, source: str, remedy: str) -> None:
    plain = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())
    if not plain:
        found = "has no values" if tensor.is_meta else f"is {tensor.dtype}, {tensor.layout}"
        raise ValueError(f"{source}: tensor {show_name(name)} {found}, where plain numbers are expected; {remedy}")
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > held:
        # A view that repeats its values; it could have any size.
        raise ValueError(
            f"{source}: tensor {show_name(name)} of shape {tuple(tensor.shape)} holds {held} values only; {remedy}"
        )


def _refuse_inflated(file: Path) -> None:
    """torch stores without compressing: an archive that claims more than the file holds would grow when it is read."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > file.stat().st_size:
            raise ValueError(f"its parts claim {claimed} bytes, the file has {file.stat().st_size}")


def _unwrap(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    seen: set[int] = set()
    while id(state) not in seen:
        seen.add(id(state))
        state = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping)), state)
    return state


def _same(first: Tensor, second: Tensor) -> bool:
    return first is second or (first.shape == second.shape and first.dtype == second.dtype and first.equal(second))


def _foreign_class(error: BaseException) -> str:
    found = _FOREIGN_CLASS.search(str(error))
    return f" (it asks for {show_name(found[1])})" if found else ""


def _reason(error: BaseException) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0])


def _is_text(file: Path) -> bool:
    """Whether a file begins as text does."""
    with file.open("rb") as opened:
        start = opened.read(512)
    try:
        return bool(start) and start.decode("utf-8").translate(_LINE_ENDS).isprintable()
    except UnicodeDecodeError:
        return False
