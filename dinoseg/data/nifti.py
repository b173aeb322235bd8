"""Volumes in NIfTI files through nibabel (extra ``medical``): headers, and values slice by slice.

A plain ``.nii`` is mapped into memory, and a slice of it read alone; a packed ``.nii.gz`` has to be unpacked whole.
"""

import gzip
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from dinoseg.data.foreign_files import unreadable
from dinoseg.data.found_files import suffix_of
from dinoseg.system.files import refuse_special_file

# Voxels by which corners may lie apart and still be the same: affines are written with few digits, and in two ways.
_SAME_PLACE = 0.1
# Of the longest spacing: how much another may fall short of it and count as the same.
_SAME_SPACING = 0.01
# Slices and values of each that percentiles are taken of.
_SAMPLED_SLICES, _SAMPLED_VALUES = 32, 1 << 16
_PERCENTILES = (0.5, 99.5)
_CHUNK = 1 << 24

Affine = Float[np.ndarray, "4 4"]
Plane = Shaped[np.ndarray, "first second"]


@dataclass(frozen=True)
class VolumeHeader:
    """What a NIfTI file says of itself before its values.

    Attributes:
        shape: voxels along the three axes of the array; one of a 2-D image is 1.
        spacing: of voxels along them, in the unit of the file, most often mm.
        dtype: how a value is stored; ``offset`` where the first one stands, in bytes.
        slope, intercept: a value is slope * what is stored + intercept.
        affine: from voxels to the body, to the right, to the front and up (RAS+).
        is_placed: whether the file says where it lies.
    """

    path: Path
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    dtype: str
    offset: int
    slope: float
    intercept: float
    affine: Affine = field(compare=False)
    is_placed: bool = True

    @property
    def stored_bytes(self) -> int:
        """What its values take, unpacked."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def in_words(self) -> str:
        """Shape and spacing."""
        return f"{' x '.join(map(str, self.shape))} voxels of {' x '.join(f'{step:.4g}' for step in self.spacing)}"

    @property
    def origin(self) -> str:
        """Where the first voxel lies, and along which directions of the body the axes go."""
        import nibabel

        codes = "".join(code or "?" for code in nibabel.orientations.aff2axcodes(self.affine))
        return f"{', '.join(f'{value:.6g}' for value in self.affine[:3, 3])} ({codes})"

    def lies_elsewhere(self, other: "VolumeHeader") -> bool:
        """Whether both say where they lie, and a corner of the two is a tenth of a voxel apart or more."""
        if not (self.is_placed and other.is_placed):
            return False
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
        corners[:, :3] *= np.array(self.shape) - 1
        try:
            moved = np.linalg.solve(self.affine, other.affine @ corners.T).T
        except np.linalg.LinAlgError:
            return not np.allclose(self.affine, other.affine)
        # Not ">", which says no of what is not a number.
        return not float(np.abs(moved - corners).max()) <= _SAME_PLACE

    def axis(self, asked: str) -> int:
        """The axis that slices are cut across.

        Args:
            asked: ``datasets.slice_axis``: 0, 1, 2; or auto, the one along which voxels are farthest apart, the last of
                several; one along which there is a single voxel comes before it.
        """
        if asked != "auto":
            return int(asked)
        if 1 in self.shape:
            return max(axis for axis in range(3) if self.shape[axis] == 1)
        return max(axis for axis in range(3) if self.spacing[axis] >= (1 - _SAME_SPACING) * max(self.spacing))


@dataclass(frozen=True)
class Volume:
    """The values of a volume, as they are stored: in memory, or mapped into it from a plain file."""

    header: VolumeHeader
    stored: Shaped[np.ndarray, "first second third"]

    @property
    def held_bytes(self) -> int:
        """The memory that it takes for good."""
        return 0 if isinstance(self.stored, np.memmap) else self.stored.nbytes

    def stored_slice(self, axis: int, index: int) -> Plane:
        """A slice as it is stored, its axes in the order of the file."""
        place: list[Any] = [slice(None)] * 3
        place[axis] = index
        return np.ascontiguousarray(self.stored[tuple(place)])

    def slice(self, axis: int, index: int) -> Plane:
        """A slice in the unit of the file."""
        return self._scaled(self.stored_slice(axis, index))

    @cached_property
    def range(self) -> tuple[float, float]:
        """The 0.5th and the 99.5th percentile of the finite values, of a sample of them; apart in any case."""
        depth = self.stored.shape[2]
        chosen = np.unique(np.linspace(0, depth - 1, min(depth, _SAMPLED_SLICES)).round().astype(int))
        step = max(1, int(np.ceil(np.sqrt(self.stored[:, :, 0].size / _SAMPLED_VALUES))))
        sample = np.concatenate([self.stored_slice(2, index)[::step, ::step].ravel() for index in chosen.tolist()])
        values = self._scaled(sample).astype(np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            return 0.0, 1.0
        low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
        return (low, high) if high > low else (low, low + 1)

    def _scaled(self, stored: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        if (self.header.slope, self.header.intercept) == (1.0, 0.0):
            return stored
        return np.asarray(stored.astype(np.float64) * self.header.slope + self.header.intercept)


def require_nibabel(path: Path) -> None:
    """Raises ValueError, with the extra's name, where nibabel is not installed."""
    if find_spec("nibabel") is None:
        raise ValueError(
            f"{path}: a NIfTI volume is read with nibabel, which is not installed: pip install 'dinoseg[medical]'"
        )


def load_nifti(path: Path) -> Any:
    """nibabel's image of a file, of which the header is read; raises whatever nibabel raises."""
    import nibabel

    logger = nibabel.imageglobals.logger
    level = logger.level
    # What it mends of a header it would say on the terminal, of every file and each time.
    logger.setLevel(logging.CRITICAL)
    try:
        return nibabel.load(path)
    finally:
        logger.setLevel(level)


def read_volume_header(path: Path) -> VolumeHeader:
    """The header of a NIfTI file; values are not read.

    Raises:
        ValueError: nibabel is missing; no NIfTI file, a damaged one, or one that holds other than one number a voxel.
    """
    require_nibabel(path)
    import nibabel

    with _errors_in_words(path):
        image = load_nifti(path)
        if not isinstance(image, nibabel.Nifti1Pair):
            raise ValueError(f"{path}: no NIfTI file but {type(image).__name__}; save it as .nii.gz")
        proxy: Any = image.dataobj
        affine = np.asarray(image.affine, dtype=np.float64)
        shape = _three_axes(path, image.shape)
        steps = [abs(float(step)) for step in image.header.get_zooms()[:3]]
        slope, intercept = (float(value) for value in (proxy.slope, proxy.inter))
    _refuse_values(path, proxy.dtype)
    steps = [step if np.isfinite(step) and step > 0 else 1.0 for step in (*steps, 1.0, 1.0)][:3]
    placed = bool(image.header["sform_code"] or image.header["qform_code"]) and bool(np.isfinite(affine).all())
    return VolumeHeader(
        path,
        shape,
        (steps[0], steps[1], steps[2]),
        proxy.dtype.str,
        int(proxy.offset),
        slope,
        intercept,
        affine,
        placed,
    )


def read_volume(header: VolumeHeader) -> Volume:
    """The values of a volume.

    Raises:
        ValueError: truncated, damaged, or too large for the memory.
    """
    with _errors_in_words(header.path):
        if suffix_of(header.path) != ".nii.gz":
            mapped = np.memmap(header.path, header.dtype, "r", header.offset, header.shape, order="F")
            return Volume(header, mapped)
        values = np.empty(header.shape, header.dtype, order="F")
        # A view of its bytes, in the order of the file.
        target = memoryview(values.reshape(-1, order="F").view(np.uint8).data)
        with gzip.open(header.path) as file:
            file.seek(header.offset)
            place = 0
            while place < len(target):
                count = file.readinto(target[place : place + _CHUNK])
                if not count:
                    raise EOFError(f"{len(target) - place:,} of {len(target):,} bytes are missing")
                place += count
            while file.read(_CHUNK):
                pass  # to its end, where the checksum stands
        return Volume(header, values)


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file is a ValueError that names it."""
    refuse_special_file(path)
    try:
        yield
    except MemoryError:
        raise ValueError(f"{path}: does not fit into memory; cut the volume, or unpack it to .nii") from None
    except Exception as error:  # nibabel, gzip and zlib raise many types for damaged files
        raise unreadable(path, error) from None


def _three_axes(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise ValueError(
            f"{path}: has {len(shape)} axes ({' x '.join(map(str, shape))}): several volumes, of points in time or "
            "channels, of which one would be read; save the one to use as a file of its own"
        )
    if not shape or min(shape) < 1:
        raise ValueError(f"{path}: a volume of shape {shape} holds nothing; replace or remove the file")
    first, second, third = (*shape, 1, 1)[:3]
    return int(first), int(second), int(third)


def _refuse_values(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return
    what = {"c": "complex values", "V": "colours"}.get(dtype.kind, "values")
    advice = "save their magnitude" if dtype.kind == "c" else "save one whole or floating-point number a voxel"
    raise ValueError(f"{path}: holds {what} ({dtype}), which dinoseg does not read: {advice}")
