"""What the check says of white in pictures with 16 bits, and of channels that are not used."""

from pathlib import Path

import numpy as np
import pytest
from helpers.small_data_set import only, run, save, text_of, write_data_set
from PIL import Image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data")


def write_picture(root: Path, place: str, brightest: int) -> Path:
    """A picture with 16 bits in place of ``<split>/images/<name>``, unlike any other."""
    split, name = place.split("/")
    path = root / split / "images" / f"{name}.png"
    pixels = np.linspace(0, brightest, 8).astype(np.uint16).reshape(2, 4)
    pixels[0, 1] += sum(map(ord, place)) % 50
    save(path, pixels)
    return path


@pytest.mark.parametrize(
    ("brightest", "white", "bits"), [(1020, 1023, 10), (4095, 4095, 12), (16000, 16383, 14), (60000, 65535, 16)]
)
def test_white_is_found_over_all_splits_and_said(brightest: int, white: int, bits: int, root: Path) -> None:
    write_picture(root, "train/a", 700)
    write_picture(root, "test/b", brightest)
    report = run(root)
    assert report.white_level == white
    finding = only(report, "white_level")
    assert finding.message == (
        f"2 images with 16 bits a channel, brightest value {brightest}: white is taken as {white}, the largest value "
        f"of {bits} bits"
    )
    # Only all 16 bits are sure to be white.
    assert finding.severity == ("note" if white == 65535 else "warning")
    assert f"datasets.white_level={white}" in finding.advice
    assert f"white is taken as {white}" in " ".join(text_of(report).split())
    assert report.to_dict()["white_level"] == white


def test_a_set_of_8_bits_has_no_white_level(root: Path) -> None:
    report = run(root)
    assert report.white_level is None
    assert not [finding for finding in report.findings if finding.code == "white_level"]
    assert run(root, white_level=4095).white_level == 4095


def test_a_given_white_wins_and_what_lies_above_is_named(root: Path) -> None:
    bright = write_picture(root, "train/a", 4095)
    write_picture(root, "train/b", 900)
    report = run(root, white_level=1023)
    finding = only(report, "above_white_level")
    assert (report.white_level, finding.severity, finding.files) == (1023, "warning", (str(bright),))
    assert "1 image with values above datasets.white_level=1023 (brightest 4095)" in finding.message
    assert not [finding for finding in run(root, white_level=4095).findings if finding.severity == "warning"]


def test_a_given_white_far_above_is_a_warning(root: Path) -> None:
    write_picture(root, "train/a", 4095)
    finding = only(run(root, white_level=65535), "dark_16_bit")
    assert "12 of them used (brightest value 4095): with datasets.white_level=65535 they come out dark" in (
        finding.message
    )
    assert "set it to 4095" in finding.advice


def test_channels_that_are_not_used_are_counted(root: Path) -> None:
    alpha, bands = root / "train/images/a.png", root / "val/images/a.tif"
    save(alpha, np.full((2, 4, 4), 9, np.uint8))
    (root / "val/images/a.png").unlink()
    Image.frombytes("RGBX", (4, 2), bytes(range(32))).save(bands)
    finding = only(run(root), "dropped_channel")
    assert finding.message.startswith("2 images with a channel beyond red, green and blue (or grey), which is not used")
    assert finding.files == (str(alpha), str(bands))
