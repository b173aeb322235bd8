"""What is drawn of a prediction, by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinoseg.app.seen import LONGEST_SIDE, Seen, View, class_shares, encoded
from dinoseg.drawing.overlay import overlay, without_classes
from dinoseg.labels import LabelClass, LabelSpace

SPACE = LabelSpace(
    "ids",
    (
        LabelClass("background", (0,), (10, 10, 10)),
        LabelClass("red", (7,), (200, 0, 0)),
        LabelClass("green", (9,), (0, 200, 0)),
    ),
    (255,),
)
CLASS_MAP = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [0, 2, 2, 1]], np.uint8)
PICTURE = Image.fromarray(np.full((3, 4, 3), 100, np.uint8))
CONFIDENCE = np.array([[255, 200, 150, 100]] * 3, np.uint8)


def test_a_small_picture_is_seen_as_it_is() -> None:
    seen = Seen.of(PICTURE, CLASS_MAP, CONFIDENCE)
    assert np.array_equal(seen.class_map, CLASS_MAP) and np.array_equal(seen.confidence, CONFIDENCE)
    drawn = seen.draw(View(opacity=0.3), SPACE)
    assert np.array_equal(drawn, overlay(PICTURE, CLASS_MAP, SPACE, 0.3, legend=False))


def test_a_hidden_class_gives_way_to_the_picture() -> None:
    seen = Seen.of(PICTURE, CLASS_MAP, CONFIDENCE)
    every, without = (np.asarray(seen.draw(View(hidden=hidden), SPACE)) for hidden in (frozenset(), frozenset({2})))
    green = CLASS_MAP == 2
    assert (without[green] == 100).all() and (every[green] != 100).any()
    assert np.array_equal(every[~green], without[~green])


def test_hiding_leaves_the_legend_below_an_overlay() -> None:
    drawn = overlay(PICTURE, CLASS_MAP, SPACE)
    hidden = np.asarray(without_classes(drawn, PICTURE, CLASS_MAP, {1, 2}))
    assert (hidden[:3, :4] == 100).all()
    assert np.array_equal(hidden[3:], np.asarray(drawn)[3:]) and hidden.shape[0] > 3
    with pytest.raises(ValueError, match=r"class map is \(2, 4\), the image \(3, 4\)"):
        without_classes(drawn, PICTURE, CLASS_MAP[:2], {1})


def test_confidence_is_a_grey_picture() -> None:
    drawn = np.asarray(Seen.of(PICTURE, CLASS_MAP, CONFIDENCE).draw(View("confidence"), SPACE))
    assert np.array_equal(drawn, np.repeat(CONFIDENCE[..., None], 3, axis=-1))


def test_a_large_picture_is_seen_smaller_and_each_pixel_is_one_of_its_own() -> None:
    width, height = 2 * LONGEST_SIDE, 10
    columns = np.arange(width) // 2 % 250
    class_map = np.repeat(columns[None].astype(np.uint8), height, axis=0)
    seen = Seen.of(Image.fromarray(class_map).convert("RGB"), class_map, class_map)
    assert seen.class_map.shape == (5, LONGEST_SIDE) == seen.picture.shape[:2]
    assert np.array_equal(seen.class_map[2], np.arange(LONGEST_SIDE) % 250)
    assert np.array_equal(seen.picture[2, :, 0], seen.class_map[2])


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    seen = Seen.of(PICTURE, CLASS_MAP, CONFIDENCE)
    seen.save(tmp_path / "seen.npz")
    found = Seen.load(tmp_path / "seen.npz")
    for name in ("picture", "class_map", "confidence"):
        assert np.array_equal(getattr(found, name), getattr(seen, name))


def test_the_legend_counts_pixels() -> None:
    legend = class_shares(CLASS_MAP, SPACE, {1, 2})
    assert [(line.name, line.drawn, line.share) for line in legend] == [
        ("background", False, 4 / 12),
        ("red", True, 4 / 12),
        ("green", True, 4 / 12),
    ]


def test_a_view_is_read_from_an_address() -> None:
    assert View.parse("classes", 35.0, "2,1") == View("classes", 0.35, frozenset({1, 2}))
    assert View.parse("confidence", 0.0, "") == View("confidence", 0.0)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (("depth", 50.0, ""), "view=depth: choose classes or confidence"),
        (("classes", 101.0, ""), "opacity=101: choose 0 to 100"),
        (("classes", float("nan"), ""), "opacity=nan: choose 0 to 100"),
        (("classes", 50.0, "1;2"), "hidden=1;2: class indices with commas between them are wanted"),
    ],
)
def test_a_view_that_is_none_is_refused(view: tuple[str, float, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        View.parse(*view)


def test_small_pictures_are_sent_exactly_and_large_ones_nearly() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    body, kind = encoded(Image.fromarray(noise))
    assert kind == "image/png" and np.array_equal(Image.open(io.BytesIO(body)), noise)
    smooth = np.full((1000, 800, 3), (200, 30, 90), np.uint8)
    body, kind = encoded(Image.fromarray(smooth))
    assert kind == "image/jpeg" and np.abs(np.asarray(Image.open(io.BytesIO(body))).astype(int) - smooth).max() <= 3
