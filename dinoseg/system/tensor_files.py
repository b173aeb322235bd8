"""Tensors as a ``.safetensors`` file whose bytes depend on what it holds alone."""

import json
import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Writes the file; the same tensors and metadata give the same bytes. Who may read it is as for any new file.

    Raises:
        OSError: the system refused: the disk is full, say.
        SafetensorError: it cannot be written for another reason.
    """
    # The library's own file is its owner's alone, in a folder that others share.
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        # The library has the system's number in its text alone.
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error
    if path.stat().st_mode != mode:
        path.chmod(mode)
    # The library writes the metadata in an order that is another each time.
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.seek(8)
        stream.write(ordered.ljust(length))
