"""Tensors as a ``.safetensors`` file whose bytes depend on what it holds alone."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Writes the file; the same tensors and metadata give the same bytes.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    save_file(tensors, path, metadata=metadata)
    # The library writes the metadata in an order that is another each time.
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.seek(8)
        stream.write(ordered.ljust(length))
