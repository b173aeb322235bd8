"""Bitmaps, ellipses and run lengths to pixels, and pixels to a canvas."""

import numpy as np
import pytest
from helpers.annotations import random_ids
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoseg.importing.coco_rle import RunLengths, run_lengths, unpack_counts
from dinoseg.importing.ellipses import Ellipse
from dinoseg.importing.runs import Bitmap, Region


def painted(region: Region, height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height, width), np.int32)
    region.runs(height, width).paint(canvas, 7)
    return canvas == 7


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(-30, 30), st.integers(-30, 30))
def test_a_bitmap_lies_where_its_corner_is_and_is_cut(seed: int, top: int, left: int) -> None:
    frame = random_ids(seed) > 0
    wide = np.zeros((200, 200), bool)
    wide[80 + top : 80 + top + frame.shape[0], 80 + left : 80 + left + frame.shape[1]] = frame
    np.testing.assert_array_equal(painted(Bitmap(frame, top, left), 20, 25), wide[80:100, 80:105])


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_short_and_long_runs_are_painted_alike(share: float) -> None:
    region = np.random.default_rng(3).random((40, 300)) < share
    np.testing.assert_array_equal(painted(Bitmap(region), 40, 300), region)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-5, 25),
    st.floats(-5, 25),
    st.floats(0.3, 15),
    st.floats(0.3, 15),
    st.sampled_from([0.0, 30.0, 90.0, 211.5]),
)
def test_an_ellipse_holds_the_centres_within_it(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float
) -> None:
    found = painted(Ellipse(x, y, radius_x, radius_y, degrees), 20, 22)
    rows, columns = np.mgrid[:20, :22] + 0.5
    turned = (columns - x + 1j * (rows - y)) * np.exp(-1j * np.deg2rad(degrees))
    distance = (turned.real / radius_x) ** 2 + (turned.imag / radius_y) ** 2
    certain = np.abs(distance - 1) > 1e-9
    np.testing.assert_array_equal(found[certain], (distance < 1)[certain])


def column_counts(region: np.ndarray) -> list[int]:
    """Run lengths column by column, the first of pixels outside."""
    counts, value = [0], False
    for pixel in region.T.ravel():
        if pixel != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return counts


def packed(counts: list[int]) -> str:
    """Five bits a letter, lowest first; from the fourth on the difference to the last but one."""
    letters = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            letters += chr(48 + bits + (0 if done else 32))
            if done:
                break
    return letters


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_run_lengths_packed_or_not_give_the_region(seed: int, height: int, width: int, share: float) -> None:
    region = np.random.default_rng(seed).random((height, width)) < share
    counts = column_counts(region)
    assert unpack_counts(packed(counts), "x").tolist() == counts
    for stored in (counts, packed(counts)):
        found = run_lengths({"size": [height, width], "counts": stored}, height, width, "x")
        np.testing.assert_array_equal(painted(found, height, width), region)


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=30))
def test_counts_of_any_size_are_unpacked(counts: list[int]) -> None:
    assert unpack_counts(packed(counts), "x").tolist() == counts


def test_it_reads_what_pycocotools_writes() -> None:
    api = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    for seed in range(20):
        region = random_ids(seed, (37, 53)) > 0
        written = api.encode(np.asfortranarray(region.astype(np.uint8)))
        stored = {"size": list(written["size"]), "counts": written["counts"].decode()}
        np.testing.assert_array_equal(painted(run_lengths(stored, 37, 53, "x"), 37, 53), region)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (
            {"size": [4, 4], "counts": [16]},
            "x.size is [4, 4], but the file says that its picture has [4, 5] (height, width)",
        ),
        ({"counts": [20]}, "x.size is null"),
        ({"size": [4, 5]}, "x.counts is null; a text or a list of run lengths expected"),
        ({"size": [4, 5], "counts": [3, "a"]}, "x.counts is a list of 2"),
        ({"size": [4, 5], "counts": [-3, 23]}, "x.counts is a list of 2"),
        ({"size": [4, 5], "counts": [3, 4]}, "does not cover the 4 x 5 pixels of its picture once"),
        ({"size": [4, 5], "counts": [3, 18]}, "does not cover the 4 x 5 pixels"),
        ({"size": [4, 5], "counts": packed([3, 2**33])}, "does not cover the 4 x 5 pixels"),
        ({"size": [4, 5], "counts": packed([25, 5, 3, 1])}, "does not cover the 4 x 5 pixels"),
        ({"size": [4, 5], "counts": "ooooooooooo1"}, "no packed run lengths of COCO"),
        ({"size": [4, 5], "counts": "o"}, "no packed run lengths of COCO"),
        ({"size": [4, 5], "counts": "3\x01"}, "no packed run lengths of COCO"),
        ({"size": [4, 5], "counts": "é"}, "no packed run lengths of COCO"),
        ({"size": [4, 5], "counts": ""}, "does not cover the 4 x 5 pixels"),
    ],
)
def test_damaged_run_lengths_are_refused(stored: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError) as refused:
        run_lengths(stored, 4, 5, "x")
    assert words in str(refused.value)


def test_runs_of_no_length_are_nothing() -> None:
    found = RunLengths(np.array([2, 0, 3, 1, 6]), 4, 3)
    expected = np.zeros(12, bool)
    expected[5] = True
    np.testing.assert_array_equal(painted(found, 4, 3), expected.reshape(3, 4).T)
    assert not painted(RunLengths(np.array([12]), 4, 3), 4, 3).any()
