"""State dicts from files: read without running code, taken out of their wrappers, plain tensors or refused."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

# Keys under which training codes put the model's state dict.
_WRAPPERS = ("teacher", "model", "state_dict")
# What wrappers of a model (compiled, distributed) put before the names of its tensors.
_PREFIXES = ("module.", "_orig_mod.")


def read_state(file: Path, source: str, remedy: str) -> Mapping[Any, Any]:
    """What a ``.safetensors`` file or a pickle (``.pth``, ``.pt``, ``.bin``) holds, on the CPU.

    Args:
        source: names the file in messages, with the key it was given under, such as ``load_from=FILE``.
        remedy: what to do about it.

    Raises:
        ValueError: the file cannot be read, holds code or no mapping; names ``source`` and the reason.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{source}: no such file; {remedy}") from None
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{source}: refused, it holds more than tensors (a pickle that runs code when loaded, or no checkpoint at "
            f"all), and code in it is not run ({_reason(error)}); {remedy}"
        ) from None
    except Exception as error:  # the libraries raise many types for a damaged file
        kind = "safetensors file" if file.suffix == ".safetensors" else "checkpoint"
        raise ValueError(f"{source}: not a readable {kind}, perhaps cut short ({_reason(error)}); {remedy}") from None
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{source}: holds a {type(loaded).__name__}, not named tensors; {remedy}")
    return loaded


def named_tensors(state: Mapping[Any, Any], source: str, remedy: str) -> dict[str, Tensor]:
    """The tensors of a state dict, out of their wrappers (``teacher``, ``model``, ``state_dict``) and prefixes.

    What has no text for a name, or is no tensor, is passed over.

    Raises:
        ValueError: no tensor in it, or one that is sparse, quantised or without values; names it.
    """
    tensors = {name: value for name, value in _unwrap(state).items() if isinstance(name, str)}
    tensors = {_without_prefixes(name): value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{source}: holds no tensors; {remedy}")
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            found = "has no values" if tensor.is_meta else f"is {tensor.dtype}, {tensor.layout}"
            raise ValueError(f"{source}: tensor {name} {found}, where plain numbers are expected; {remedy}")
    return tensors


def _unwrap(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    seen: set[int] = set()
    while id(state) not in seen:
        seen.add(id(state))
        state = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping)), state)
    return state


def _without_prefixes(name: str) -> str:
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
