"""Volumes, predicted slice by slice and written as NIfTI with the shape, affine and spacing of their source."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from dinoseg.data.nifti import VolumeHeader, load_nifti, read_volume, read_volume_header
from dinoseg.data.slice_view import SliceView
from dinoseg.data.slices import slice_picture
from dinoseg.inference.exposures import Exposures
from dinoseg.inference.fingerprint import png_text
from dinoseg.inference.prediction import Prediction
from dinoseg.inference.predictor import Predictor
from dinoseg.system.files import replaced_file

VOLUME_OUTPUT_SUFFIX = ".nii.gz"
# What the description of a label volume begins with; a SHA-256 after it fits its 80 bytes.
_DESCRIPTION = "dinoseg"


@dataclass(frozen=True)
class VolumeOutput:
    """Where the prediction of a volume goes: label ids as NIfTI, and a picture of its middle slice.

    ``fingerprint`` is written into both.
    """

    labels: Path
    overlay: Path
    fingerprint: str | None = None


def slice_axis_of(predictor: Predictor) -> str:
    """``datasets.slice_axis`` of the run; of the first of several."""
    return predictor.ensemble.members[0].config.datasets.slice_axis


def count_slices(path: Path, axis: str) -> int:
    """How many slices a volume is predicted in; 1 for one that cannot be read."""
    try:
        header = read_volume_header(path)
    except ValueError:
        return 1
    return header.shape[header.axis(axis)]


def volume_holds(path: Path, fingerprint: str) -> bool:
    """Whether a label volume is there and carries this fingerprint."""
    return _description(path) == _described(fingerprint)


def is_foreign_volume(path: Path) -> bool:
    """Whether a file is there that holds something and was not written by a prediction of a volume."""
    if not path.is_file() or not path.stat().st_size:
        return False
    return not _description(path).startswith(_DESCRIPTION)


def predict_volume(
    predictor: Predictor, source: Path, output: VolumeOutput, advance: Callable[[], None] = lambda: None
) -> None:
    """Predicts a volume; label volume and overlay appear whole or not at all.

    In memory are the volume, unless it is a plain ``.nii``, and its label ids.

    Args:
        advance: called after each slice.

    Raises:
        ValueError: a volume that cannot be read, or the run's labels are colours.
        OSError: an output cannot be written.
    """
    if predictor.label_space.kind == "colours":
        raise ValueError(f"{source}: volumes are written as label ids, but this run has colours; train it on label ids")
    header = read_volume_header(source)
    view = SliceView.of(header, header.axis(slice_axis_of(predictor)))
    labels, middle = _predict_slices(predictor, header, view, advance)
    with replaced_file(output.labels) as temporary:
        _write(temporary, labels, source, output.fingerprint)
    with replaced_file(output.overlay) as temporary:
        middle.overlay().save(temporary, pnginfo=png_text(output.fingerprint))


def _predict_slices(
    predictor: Predictor, header: VolumeHeader, view: SliceView, advance: Callable[[], None]
) -> tuple[Integer[np.ndarray, "first second third"], Prediction]:
    """The label ids of all slices, and the prediction of the middle one."""
    volume, count = read_volume(header), header.shape[view.axis]
    labels: np.ndarray | None = None
    middle: Prediction | None = None
    for index in range(count):
        pictures = {form: slice_picture(volume, view, index, form) for form in predictor.forms}
        prediction = predictor.predict(Exposures(pictures))
        plane = view.as_stored(prediction.labels)
        if labels is None:
            labels = np.empty(header.shape, plane.dtype, order="F")
        place: list[Any] = [slice(None)] * 3
        place[view.axis] = index
        labels[tuple(place)] = plane
        if index == count // 2:
            middle = prediction
        advance()
    assert labels is not None and middle is not None
    return labels, middle


def _write(
    path: Path, labels: Integer[np.ndarray, "first second third"], source: Path, fingerprint: str | None
) -> None:
    """Label ids in the header of their source, less what speaks of its values."""
    image = load_nifti(source)
    header = image.header.copy()
    header.extensions.clear()
    header.set_data_dtype(labels.dtype)
    header["vox_offset"], header["cal_min"], header["cal_max"] = 0, 0, 0
    header["descrip"] = _described(fingerprint)
    labelled = type(image)(labels.reshape(image.shape), image.affine, header)
    # Without a time and a name in it: the same prediction gives the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
        labelled.to_stream(packed)


def _described(fingerprint: str | None) -> str:
    return _DESCRIPTION if fingerprint is None else f"{_DESCRIPTION} {fingerprint}"


def _description(path: Path) -> str:
    """What a NIfTI file is said to be; empty for other files."""
    try:
        return bytes(load_nifti(path).header["descrip"]).rstrip(b"\0").decode("ascii", "replace")
    except Exception:  # nibabel, gzip and zlib raise many types for what is no NIfTI file
        return ""
