"""An ONNX file as bytes: its metadata, and the hash of all else. Nothing that knows graphs is needed.

The file is one message of protobuf: fields one after the other, each a number, a kind, and a value.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path

# Of the message, and within an entry of it.
_METADATA = 14
_KEY, _VALUE = 1, 2
# Kinds of values: a number of any length, bytes of a stated length, and bytes of a fixed one.
_NUMBER, _STATED, _FIXED = 0, 2, {1: 8, 5: 4}
_LONGEST_NUMBER = 10
_CHUNK = 1 << 22


@dataclass(frozen=True)
class ModelFile:
    """What is known of a file before its graph is.

    Attributes:
        metadata: by key.
        sha256: of all but the metadata: the graph, and the weights that lie in the file.
    """

    metadata: dict[str, str]
    sha256: str

    @staticmethod
    def read(path: Path) -> "ModelFile":
        """Reads the whole file, a part at a time.

        Raises:
            ValueError: it cannot be read, is cut short, or no ONNX file.
        """
        try:
            with path.open("rb") as stream:
                return _read(stream)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:
            remedy = "copy it again, or give one that `dinoseg export RUN FILE.onnx` wrote"
            if path.suffix.lower() == ".pt2":
                remedy = "programs of PyTorch are for torch.export.load; export RUN FILE.onnx for this"
            raise ValueError(f"{path}: damaged, or no ONNX file ({error}); {remedy}") from None


def _read(stream: BufferedIOBase) -> ModelFile:
    metadata, digest = dict[str, str](), hashlib.sha256()
    for number, head, length in _fields(stream):
        if number == _METADATA:
            entry = dict(_texts(BytesIO(b"".join(_parts(stream, length)))))
            metadata[entry.get(_KEY, "")] = entry.get(_VALUE, "")
            continue
        digest.update(head)
        for part in _parts(stream, length):
            digest.update(part)
    return ModelFile(metadata, digest.hexdigest())


def _texts(stream: BufferedIOBase) -> Iterator[tuple[int, str]]:
    for number, _, length in _fields(stream):
        yield number, b"".join(_parts(stream, length)).decode()


def _fields(stream: BufferedIOBase) -> Iterator[tuple[int, bytes, int]]:
    """Of each field its number, its bytes up to here, and how many follow, which the caller reads."""
    while first := stream.read(1):
        head, tag = _number(stream, first)
        kind, length = tag & 7, 0
        if kind in (_NUMBER, _STATED):
            more, value = _number(stream, stream.read(1))
            head, length = head + more, value if kind == _STATED else 0
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError("it holds what no such file does")
        yield tag >> 3, head, length


def _number(stream: BufferedIOBase, read: bytes) -> tuple[bytes, int]:
    """A number that takes as many bytes as it needs, seven bits each, of which the first byte was read; its bytes."""
    while read and read[-1] & 0x80 and len(read) < _LONGEST_NUMBER:
        following = stream.read(1)
        if not following:
            break
        read += following
    if not read or read[-1] & 0x80:
        raise ValueError("it ends in the middle")
    return read, sum((byte & 0x7F) << 7 * place for place, byte in enumerate(read))


def _parts(stream: BufferedIOBase, length: int) -> Iterator[bytes]:
    while length:
        part = stream.read(min(length, _CHUNK))
        if not part:
            raise ValueError("it ends in the middle")
        length -= len(part)
        yield part
