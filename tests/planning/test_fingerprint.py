"""The fingerprint of a data set on disk, against what was drawn."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dinoseg.check.check import check_dataset
from dinoseg.config import DatasetsConfig
from dinoseg.data.picture_form import PLAIN_FORM
from dinoseg.planning.fingerprint import Fingerprint, take_fingerprint
from dinoseg.planning.widths import middle_widths

CLASSES = {0: "ground", 1: "wire", 2: "ball", 3: "never"}


def _write(root: Path, split: str, images: int) -> None:
    for kind in ("images", "masks"):
        (root / split / kind).mkdir(parents=True)
    generator = np.random.default_rng(len(split))
    for number in range(images):
        mask = np.zeros((60, 100), np.uint8)
        mask[10:13, :] = 1
        if number % 2:
            mask[30:50, 40:60] = 2
        picture = generator.integers(0, 255, (60, 100, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / split / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")


def _taken(root: Path, seconds: float, **datasets: object) -> Fingerprint:
    report = check_dataset(DatasetsConfig(root=str(root), classes=CLASSES, **datasets))  # type: ignore[arg-type]
    return take_fingerprint(report, PLAIN_FORM, seconds)


def test_what_was_drawn_is_found(tmp_path: Path) -> None:
    _write(tmp_path, "train", 10)
    _write(tmp_path, "val", 3)
    found = _taken(tmp_path, 60.0)
    assert found.images == {"train": 10, "val": 3}
    assert found.size == found.largest == (60, 100)
    assert (found.bands, found.masks) == (3, 10)
    ground, wire, ball, never = found.classes
    assert (wire.share, wire.images) == (pytest.approx(0.05), 1.0)
    assert (ball.share, ball.images) == (pytest.approx(400 / 6000 / 2), 0.5)
    assert wire.width is not None and wire.width.median == 3
    assert ball.width is not None and ball.width.median == 20
    assert (never.share, never.width) == (0, None)
    assert (found.most_frequent, found.rarest, found.thinnest) == (ground, ball, wire)
    assert found.thinner_than(7.0) == (wire,)
    # All of it lies above.
    assert found.positions.has_up and found.positions.images == 10


def test_the_largest_image_is_of_any_split(tmp_path: Path) -> None:
    """The window of an evaluation is chosen by it."""
    _write(tmp_path, "train", 2)
    _write(tmp_path, "val", 1)
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        Image.new(mode, (300, 200)).save(tmp_path / "val" / kind / "9.png")
    found = _taken(tmp_path, 60.0)
    assert (found.size, found.largest) == ((60, 100), (200, 300))


def test_time_bounds_how_many_masks_are_looked_at(tmp_path: Path) -> None:
    _write(tmp_path, "train", 30)
    _write(tmp_path, "val", 2)
    assert _taken(tmp_path, 60.0).masks == 24
    assert _taken(tmp_path, 0.0).masks == 1


def test_the_clock_is_asked_before_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second each. The first mask has no ball, which is measured later where as long again has not passed yet."""
    _write(tmp_path, "train", 10)
    _write(tmp_path, "val", 1)
    report, clock = check_dataset(DatasetsConfig(root=str(tmp_path), classes=CLASSES)), [0.0]

    def timed(region: np.ndarray) -> np.ndarray:
        clock[0] += 1.0
        return middle_widths(region)

    monkeypatch.setattr("dinoseg.planning.fingerprint.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("dinoseg.planning.fingerprint.middle_widths", timed)
    for seconds, taken, known in ((0.5, 2.0, 2), (1.9, 3.0, 3), (3.5, 5.0, 3), (60.0, 25.0, 3)):
        clock[0] = 0.0
        found = take_fingerprint(report, PLAIN_FORM, seconds)
        assert (clock[0], sum(entry.width is not None for entry in found.classes)) == (taken, known)


def test_a_list_without_images_is_told(tmp_path: Path) -> None:
    _write(tmp_path, "train", 2)
    _write(tmp_path, "val", 2)
    report = check_dataset(DatasetsConfig(root=str(tmp_path), classes=CLASSES), splits=("val",))
    with pytest.raises(ValueError, match="no training image: there is nothing to plan for"):
        take_fingerprint(report, PLAIN_FORM, 1.0)
