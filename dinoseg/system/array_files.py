"""Files of arrays (``.npy``, ``.npz``) that are read: never with code, and no larger than they can be."""

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from jaxtyping import Shaped

from dinoseg.system.files import special_kind

# Characters of the longest text in an array of texts: no path of a file system is longer.
_LONGEST_TEXT = 4096
# Deflate shrinks by less than this: what claims more does not hold what it claims.
_MOST_SHRUNK = 1100
# Bytes of the longest header; one of ours, or of a mask, has a hundred.
_LONGEST_HEADER = 10_000


@dataclass(frozen=True)
class ArrayForm:
    """What an array in a file must be: whole numbers (read as int64, none below 0) or texts, of one shape."""

    kind: Literal["whole numbers", "texts"]
    shape: tuple[int, ...]


def read_arrays(path: Path, forms: Mapping[str, ArrayForm], remedy: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The named arrays of an ``.npz`` file; others in it are passed over.

    Sizes and types are compared with the header of each array before room is made for its values.

    Raises:
        ValueError: the file cannot be read, or an array is missing or of another form; names file and array.
    """
    if kind := special_kind(path):
        raise ValueError(f"{path}: {kind}; {remedy}")
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read_array(archive, path, name, form) for name, form in forms.items()}
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; {remedy}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None
    except _WrongArray as error:
        raise ValueError(f"{path}: {error}; {remedy}") from None
    except Exception as error:  # zipfile, zlib and numpy raise many types for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: damaged ({reason}); {remedy}") from None


def read_array_file(path: Path, remedy: str) -> Shaped[np.ndarray, "..."]:
    """The array of a ``.npy`` file.

    Its header is compared with the size of the file before room is made for the values.

    Raises:
        ValueError: missing, damaged, an archive of arrays, or it holds Python objects; names the file.
    """
    if kind := special_kind(path):
        raise ValueError(f"{path}: {kind}; {remedy}")
    try:
        with path.open("rb") as stream:
            if stream.read(4) == b"PK\x03\x04":
                raise _WrongArray("an archive of arrays under the name of one; save the array alone with numpy.save")
            stream.seek(0)
            shape, dtype = _read_header(stream)
            if dtype.hasobject:
                raise _WrongArray("holds Python objects, which could run code; save numbers")
            size, there = _bytes_of(shape, dtype), os.fstat(stream.fileno()).st_size - stream.tell()
            if size > there:
                raise ValueError(f"{dtype} of shape {shape} needs {size} bytes, the file holds {there}")
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except _WrongArray as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # numpy raises many types for a damaged header
        if isinstance(error, OSError) and error.strerror:
            raise ValueError(f"{path}: cannot be opened ({error.strerror})") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: truncated or damaged array ({reason}); {remedy}") from None


class _WrongArray(Exception):
    pass


def _read_header(stream: IO[bytes] | io.BufferedIOBase) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type that a ``.npy`` stream begins with; no more is read than a header may hold.

    Raises:
        ValueError: no such header, or a longer one.
    """
    version = np.lib.format.read_magic(stream)
    prefix = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(prefix, "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = io.BytesIO(prefix + stream.read(length))
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(header)
    if any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype


def _bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=object)) * dtype.itemsize


def _read_array(archive: zipfile.ZipFile, path: Path, name: str, form: ArrayForm) -> Shaped[np.ndarray, "..."]:
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise _WrongArray(f"{name}: missing") from None
    with archive.open(member) as stream:
        shape, dtype = _read_header(stream)
    kinds, described = ("iu", "whole numbers") if form.kind == "whole numbers" else ("U", "texts")
    if dtype.kind not in kinds or dtype.itemsize > 4 * _LONGEST_TEXT or shape != form.shape:
        raise _WrongArray(f"{name}: {dtype} of shape {shape} found, {described} of shape {form.shape} expected")
    size = _bytes_of(shape, dtype)
    if size > member.file_size or member.file_size > _MOST_SHRUNK * (path.stat().st_size + 1):
        raise _WrongArray(f"{name}: cut short: {size} bytes of values expected")
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    if form.kind == "texts":
        array.tolist()  # raises where a value is no character
        return array
    array = array.astype(np.int64)
    if array.size and array.min() < 0:
        raise _WrongArray(f"{name}: {array.min()} found, 0 or more expected")
    return array
