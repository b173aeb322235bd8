"""NIfTI volumes that several tests use."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np


def affine_of(spacing: tuple[float, ...] = (0.8, 0.8, 4.0), flipped: bool = False) -> np.ndarray:
    """Axes to the right, front and up; or to the left and back, as converters of DICOM write them."""
    sign = -1 if flipped else 1
    affine = np.diag([sign * spacing[0], sign * spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (11.0, -20.0, 5.0)
    return affine


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """A NIfTI file, packed where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine_of() if affine is None else affine), path)
    return path


def ball(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values as of a CT, negative ones among them, and label ids: air 0, an organ 1, a stone 2 in it."""
    generator = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    distance = np.sqrt(
        sum((axis - centre) ** 2 for axis, centre in zip(grid, generator.uniform(-0.2, 0.2, 3), strict=True))
    )
    labels = (distance < 0.75).astype(np.uint8) + (distance < 0.4)
    values = np.array([-900, 40, 300])[labels] + generator.normal(0, 40, shape)
    return values.round().astype(np.int16), labels.astype(np.uint8)


def write_volume_pair(
    folder: Path, name: str, shape: tuple[int, int, int] = (20, 16, 5), suffix: str = ".nii.gz", **affine: Any
) -> tuple[np.ndarray, np.ndarray]:
    """``images/NAME`` and ``masks/NAME``; their values. The name decides what is in them."""
    values, labels = ball(shape, seed=sum(name.encode()))
    placed = affine_of(**affine)
    write_volume(folder / "images" / f"{name}{suffix}", values, placed)
    write_volume(folder / "masks" / f"{name}{suffix}", labels, placed)
    return values, labels
