"""Pictures, masks and their outlines for tests of the import; written without anything of the package."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dinoseg.importing.data_set import write_data_set
from dinoseg.importing.formats import ImportOrder, read_source
from dinoseg.importing.report import ImportReport

NAMES = {1: "artery", 2: "vein", 3: "crossing"}


def random_ids(seed: int, size: tuple[int, int] = (23, 31), classes: int = 3) -> np.ndarray:
    """A mask (height, width) of ragged blobs, with holes and touching classes."""
    generator = np.random.default_rng(seed)
    ids = np.zeros(size, np.uint8)
    for label_id in [*range(1, classes + 1)] * 2:
        height, width = generator.integers(3, 12, 2)
        top, left = generator.integers(0, size[0] - height), generator.integers(0, size[1] - width)
        ids[top : top + height, left : left + width] = np.where(
            generator.random((height, width)) < 0.8, label_id, ids[top : top + height, left : left + width]
        )
    return ids


def write_picture(path: Path, size: tuple[int, int], orientation: int | None = None) -> None:
    """A picture of (height, width) as stored, with an EXIF orientation if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    noise = np.random.default_rng(sum(path.name.encode())).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, exif=exif)


def row_boxes(region: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of every stretch of pixels in a row: a region without holes to speak of."""
    boxes = []
    for row, pixels in enumerate(region):
        columns = np.flatnonzero(pixels)
        for stretch in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
            if stretch.size:
                boxes.append((int(stretch[0]), row, int(stretch[-1]) + 1, row + 1))
    return boxes


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def outlines(region: np.ndarray) -> list[list[list[int]]]:
    """Closed rings of corners [x, y] along the sides of pixels around a region and around its holes."""
    padded = np.pad(region.astype(bool), 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for row, column in zip(*np.nonzero(padded), strict=True):
        x, y = int(column) - 1, int(row) - 1
        sides = {
            (-1, 0): ((x, y), (x + 1, y)),
            (1, 0): ((x + 1, y + 1), (x, y + 1)),
            (0, 1): ((x + 1, y), (x + 1, y + 1)),
            (0, -1): ((x, y + 1), (x, y)),
        }
        for (down, right), (start, end) in sides.items():
            if not padded[row + down, column + right]:
                following[start].append(end)
    rings = []
    while following:
        start = next(iter(following))
        ring, place = [], start
        while place in following:
            ring.append(list(place))
            ends = following[place]
            after = ends.pop()
            if not ends:
                del following[place]
            place = after
        rings.append(ring)
    return rings


def run_import(
    out: Path, format_name: str, annotations: Path, pictures: Path | None = None, overlap: Any = "area", **options: Any
) -> ImportReport:
    """What ``dinoseg import`` does, less what it prints."""
    return write_data_set(read_source(ImportOrder(format_name, annotations, pictures, **options)), out, overlap)


def read_mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode in ("L", "I;16")
        return np.asarray(image)


def classes_of(out: Path) -> dict[str, int]:
    """Label ids by name, from classes.csv."""
    lines = (out / "classes.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,name,colour"
    return {name: int(label_id) for label_id, name, _ in (line.split(",") for line in lines[1:])}


def assert_equal_masks(out: Path, masks: dict[str, np.ndarray], names: dict[int, str] = NAMES, split: str = "") -> None:
    """The masks of a data set are those they were made from, class by class, by their names."""
    ids = classes_of(out) | {"background": 0}
    found = {
        path.relative_to(out / split / "masks").with_suffix("").as_posix()
        for path in (out / split / "masks").rglob("*.png")
    }
    assert found == set(masks)
    for stem, expected in masks.items():
        mask = read_mask(out / split / "masks" / f"{stem}.png")
        assert mask.shape == expected.shape
        for label_id, name in names.items():
            np.testing.assert_array_equal(mask == ids[name], expected == label_id, err_msg=f"{stem}: {name}")
        np.testing.assert_array_equal(mask == 0, expected == 0)
