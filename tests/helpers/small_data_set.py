"""A small good data set on disk, to be spoilt by the tests of the check."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from dinoseg.check.check import CheckReport, check_dataset
from dinoseg.check.file_findings import Finding
from dinoseg.config import DatasetsConfig
from dinoseg.console.check_report import render_report

IDS = np.array([[0, 1, 2, 3], [0, 0, 1, 2]], dtype=np.uint8)
SPLITS = ("train", "val", "test")


def touch(root: Path, *names: str) -> None:
    """Empty files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_pair(root: Path, split: str, name: str, ids: np.ndarray = IDS, seed: int | None = None) -> None:
    """Writes an image of the mask's size, different for every split and name unless a seed is given."""
    number = sum(map(ord, f"{split}/{name}")) if seed is None else seed
    noise = np.random.default_rng(number).integers(0, 256, (*ids.shape[:2], 3), dtype=np.uint8)
    save(root / split / "images" / f"{name}.png", noise)
    save(root / split / "masks" / f"{name}.png", ids)


def write_data_set(root: Path) -> Path:
    """Two pairs in each of train, val and test, with label ids 0..3."""
    for split in SPLITS:
        for name in ("a", "b"):
            write_pair(root, split, name)
    return root


def rewrite_masks(root: Path, change: Callable[[int], np.ndarray]) -> None:
    for index, path in enumerate(sorted(root.glob("*/masks/*.png"))):
        pixels = change(index)
        save(path, pixels)
        save(path.parents[1] / "images" / path.name, np.full((*pixels.shape[:2], 3), index, np.uint8))


def run(root: Path, num_classes: int | None = None, **settings: Any) -> CheckReport:
    return check_dataset(DatasetsConfig(root=str(root), **settings), num_classes)


def only(report: CheckReport, code: str) -> Finding:
    found = [finding for finding in report.findings if finding.code == code]
    assert len(found) == 1, report.findings
    return found[0]


def text_of(report: CheckReport) -> str:
    out = io.StringIO()
    Console(file=out, width=150).print(render_report(report))
    return out.getvalue()
