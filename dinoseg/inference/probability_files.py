"""Files of probabilities: one ``.npz`` an image, written as the rows come, so that no more than a stripe is held.

Arrays lie (height, width, channel), which is the order of rows: ``probabilities`` in float16; ``label_ids``, ``names``
and, of a choice of the largest, ``class_indices``, which say what a channel is.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, Shaped
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dinoseg.inference.judged_rows import JudgedRows, OnRows
from dinoseg.inference.pixel_maps import as_bytes, largest_first, rounded
from dinoseg.inference.prediction import Prediction
from dinoseg.labels import LabelSpace
from dinoseg.system.files import replaced_file

_FINGERPRINT = "fingerprint"
# Of deflate: half of what the highest saves, in a fraction of the time.
_LEVEL = 1


@contextmanager
def written_probabilities(
    path: Path,
    size: tuple[int, int],
    label_space: LabelSpace,
    top: int | None,
    fingerprint: str | None,
    inside: Bool[np.ndarray, "height width"] | None = None,
) -> Iterator[OnRows]:
    """What takes the rows of an image and writes them; the file appears, whole, at the end of the block.

    Args:
        size: height and width.
        top: how many of each pixel, the largest; None for every class.
        inside: where a prediction is wanted; elsewhere all probabilities are 0.

    Raises:
        OSError: it cannot be written.
    """
    channels = top or label_space.num_classes
    index_type = np.uint8 if label_space.num_classes <= 256 else np.uint16
    classes = np.zeros((*size, channels), index_type) if top else None
    with replaced_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with _array(archive, "probabilities", (*size, channels), np.dtype(np.float16)) as write:

            def take(rows: JudgedRows) -> None:
                values = rounded(rows.probabilities, rows.largest, np.float16)
                if inside is not None:
                    values[:, ~inside[rows.first : rows.last]] = 0
                if classes is not None:
                    values, order = largest_first(values, channels)
                    classes[rows.first : rows.last] = np.moveaxis(order, 0, -1)
                write(np.moveaxis(values, 0, -1))

            yield take
        for name, array in _described(label_space, fingerprint, classes).items():
            with _array(archive, name, array.shape, array.dtype) as write:
                write(array)


def holds_probabilities(path: Path, fingerprint: str | None) -> bool:
    """Whether a file is there, whole, and carries this fingerprint."""
    if fingerprint is None or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_fingerprint(archive) == fingerprint and archive.testzip() is None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False


def is_foreign_probabilities(path: Path) -> bool:
    """Whether a file is there that holds something and was not written by a prediction."""
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            _read_fingerprint(archive)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return True
    return False


def write_confidence(path: Path, prediction: Prediction, text: PngInfo | None) -> None:
    """A grey PNG of the largest probability: 1..255 for up to 1, and 0 where nothing is predicted.

    Args:
        prediction: with its confidence.
        text: is written into the file.

    Raises:
        OSError: it cannot be written.
    """
    assert prediction.confidence is not None
    shown = as_bytes(prediction.confidence)
    shown[prediction.class_map == prediction.label_space.ignore_index] = 0
    with replaced_file(path) as temporary:
        Image.fromarray(shown).save(temporary, pnginfo=text)


def _described(
    label_space: LabelSpace, fingerprint: str | None, classes: Integer[np.ndarray, "height width top"] | None
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """What says which channel is what."""
    described: dict[str, Any] = {
        "label_ids": np.array([entry.label_ids[0] for entry in label_space.classes], np.int64),
        "names": np.array(label_space.class_names),
        _FINGERPRINT: np.array(fingerprint or ""),
    }
    return described if classes is None else described | {"class_indices": classes}


@contextmanager
def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Any]:
    """What writes the parts of an array, one after the other along its first axis."""
    # Without a time in it: the same prediction gives the same bytes.
    member = zipfile.ZipInfo(f"{name}.npy")
    member.compress_type = zipfile.ZIP_DEFLATED
    member._compresslevel = _LEVEL  # type: ignore[attr-defined]  # no public name before Python 3.13
    with archive.open(member, "w", force_zip64=True) as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        yield lambda part: stream.write(np.ascontiguousarray(part).tobytes())


def _read_fingerprint(archive: zipfile.ZipFile) -> str:
    with archive.open(f"{_FINGERPRINT}.npy") as stream:
        return str(np.lib.format.read_array(stream, allow_pickle=False))
