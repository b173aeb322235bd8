"""Overlays: colours where the classes are, hatching where nothing counts, a legend that fits any picture."""

import numpy as np
import pytest
from PIL import Image

from dinoseg.drawing.overlay import error_map, overlay, side_by_side
from dinoseg.labels import LabelSpace

SPACE = LabelSpace.build({0: "background", 1: "artery", 2: "vein"}, [255], None, found_ids=[0, 1, 2])
GREY = Image.new("RGB", (40, 30), (100, 100, 100))


def _class_map() -> np.ndarray:
    class_map = np.zeros((30, 40), dtype=np.uint8)
    class_map[5:15, 5:15] = 1
    class_map[20:, 20:] = 255
    return class_map


def test_classes_are_blended_in_their_colours_and_the_background_is_left_alone() -> None:
    drawn = np.asarray(overlay(GREY, _class_map(), SPACE, opacity=0.5, legend=False))
    expected = (100 + np.array(SPACE.classes[1].colour)) / 2
    assert np.abs(drawn[10, 10] - expected).max() <= 1
    assert drawn[2, 2].tolist() == [100, 100, 100]
    # The outline is opaque.
    assert drawn[10, 14].tolist() == list(SPACE.classes[1].colour)


def test_ignored_pixels_are_hatched() -> None:
    drawn = np.asarray(overlay(GREY, _class_map(), SPACE, legend=False))[22:, 22:]
    assert {(40, 40, 40), (235, 235, 235), (100, 100, 100)} == {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("size", [(40, 30), (1200, 17), (17, 1200), (1, 1), (2000, 1500)])
def test_the_legend_goes_below_a_picture_of_any_size(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size)
    drawn = overlay(picture, np.zeros(size[::-1], dtype=np.uint8), SPACE, note="label id 7 has no output")
    assert drawn.width >= size[0] and drawn.height > size[1]
    strip = np.asarray(drawn)[size[1] :]
    for entry in SPACE.classes:
        assert (strip == np.array(entry.colour)).all(axis=-1).any()


def test_many_classes_do_not_make_the_legend_endless() -> None:
    space = LabelSpace.build({i: f"class number {i}" for i in range(150)}, [255], None, found_ids=list(range(150)))
    class_map = np.arange(150, dtype=np.uint8).reshape(10, 15).repeat(8, 0).repeat(8, 1)
    drawn = overlay(Image.new("RGB", (120, 80)), class_map, space)
    assert drawn.height < 1000


def test_a_name_without_end_does_not_make_the_legend_as_wide() -> None:
    space = LabelSpace.build({0: "w" * 100_000, 1: "vein"}, [255], None, found_ids=[0, 1])
    drawn = overlay(Image.new("RGB", (120, 80)), np.zeros((80, 120), dtype=np.uint8), space)
    assert drawn.width < 1000


def test_error_map_shows_wrong_pixels_only() -> None:
    truth, prediction = _class_map(), _class_map()
    prediction[truth == 255] = 0
    prediction[0, 0] = 2
    drawn = np.asarray(error_map(GREY, truth, prediction, SPACE))
    assert drawn[0, 0].tolist() == [(channel + 255) // 2 for channel in SPACE.classes[2].colour]
    assert drawn[2, 2].tolist() == drawn[10, 10].tolist() == [35, 35, 35]
    assert (drawn[22:, 22:] == 40).any()


def test_side_by_side_keeps_the_pictures() -> None:
    strip = np.asarray(side_by_side([("a", GREY), ("b", GREY)], gap=4))
    assert strip.shape[1] == 84
    assert (strip[-30:, :40] == 100).all() and (strip[-30:, 44:] == 100).all()


def test_maps_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="30"):
        overlay(GREY, np.zeros((30, 41), dtype=np.uint8), SPACE)
    with pytest.raises(ValueError, match="7"):
        overlay(GREY, np.full((30, 40), 7, dtype=np.uint8), SPACE)


def test_a_black_class_leaves_the_picture_as_it_is() -> None:
    space = LabelSpace.build({"#000000": "road", "#ff0000": "car"}, None, None, found_ids=[])
    drawn = np.asarray(overlay(GREY, np.zeros((30, 40), dtype=np.uint8), space, legend=False))
    assert (drawn == 100).all()
