"""The label space: encode and decode, the config forms, and every contradiction with its message."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dinoseg.labels import (
    LabelSpace,
    ReduceZeroLabel,
    preprocess_nonzero_labels,
    restore_original_labels,
)
from dinoseg.labels import space as space_module
from dinoseg.labels.palette import DISTINCT_COLOURS, class_colour

RETINA = {0: "background", 1: "artery", 2: "vein", 3: "crossing"}


def build(classes=None, ignore=None, reduce_zero_label=False, found=(), **options) -> LabelSpace:
    return LabelSpace.build(classes, ignore, reduce_zero_label, found, **options)


# --- encode and decode


def test_encode_maps_ids_and_ignores_255_by_default() -> None:
    space = build(RETINA)
    mask = np.array([[0, 1, 255], [3, 2, 0]], dtype=np.int32)
    encoded = space.encode(mask)
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [[0, 1, 255], [3, 2, 0]]
    assert (space.num_classes, space.ignore_index) == (4, 255)


def test_reduce_zero_label_ignores_zero_and_shifts_the_rest() -> None:
    space = build(None, None, True, {0, 1, 2, 3})
    mask = np.array([[0, 1, 2, 3, 255]], dtype=np.uint8)
    assert space.encode(mask).tolist() == [[255, 0, 1, 2, 255]]
    assert space.decode(np.array([[0, 1, 2, 255]])).tolist() == [[1, 2, 3, 0]]
    assert space.class_names == ("class_1", "class_2", "class_3")


def test_a_name_given_twice_merges_and_decodes_to_its_first_id() -> None:
    space = build({5: "vessel", 0: "background", 9: "vessel"}, [7])
    assert space.class_names == ("vessel", "background")
    assert space.encode(np.array([[5, 0, 9, 7]])).tolist() == [[0, 1, 0, 255]]
    assert space.decode(np.array([[0, 1, 255]], dtype=np.uint8)).tolist() == [[5, 0, 7]]


def test_colours_are_packed_and_keep_their_colour_for_drawing() -> None:
    space = build({"#000000": "sky", "255,0,16": "road"}, ["#ffffff"])
    assert space.kind == "colours"
    assert space.classes[1].label_ids == (0xFF0010,)
    assert space.classes[1].colour == (255, 0, 16)
    assert space.encode(np.array([[0xFF0010, 0, 0xFFFFFF]])).tolist() == [[1, 0, 255]]
    assert space.decode(np.array([[1, 0, 255]])).tolist() == [[0xFF0010, 0, 0xFFFFFF]]


def test_a_class_may_bring_its_drawing_colour() -> None:
    space = build({0: "background", 1: {"name": "vessel", "colour": "#0a0b0c"}})
    assert space.classes[1].name == "vessel"
    assert space.classes[1].colour == (10, 11, 12)
    assert space.classes[0].colour == DISTINCT_COLOURS[0]


def test_more_than_255_classes_use_16_bits() -> None:
    space = build(None, [], False, range(300))
    assert space.ignore_index == 65535
    mask = np.arange(300, dtype=np.int32).reshape(15, 20)
    encoded = space.encode(mask)
    assert encoded.dtype == np.uint16
    np.testing.assert_array_equal(encoded, mask)
    assert space.decode(encoded).dtype == np.uint16


def test_ids_beyond_16_bits_are_found_by_search() -> None:
    space = build({70000: "a", 3: "b", 2_000_000_000: "c"})
    mask = np.array([[3, 2_000_000_000, 70000, 255]], dtype=np.int32)
    assert space.encode(mask).tolist() == [[1, 2, 0, 255]]
    assert space.decode(np.array([[0, 2]])).dtype == np.int32
    with pytest.raises(ValueError, match=r"4 \(1 pixels\)"):
        space.encode(np.array([[4, 3]], dtype=np.int32))


def test_an_unknown_id_names_file_id_count_and_the_way_out() -> None:
    with pytest.raises(
        ValueError, match=r"a\.png: label id outside the label space: 7 \(2 pixels\), 9 \(1 pixels\)"
    ) as e:
        build(RETINA).encode(np.array([[7, 7, 9, 0]]), "a.png")
    assert "datasets.classes ({7: name})" in str(e.value)
    assert "datasets.ignore ([7])" in str(e.value)


@pytest.mark.parametrize("stray", [-1, 4, 254, 256, 65535, 2**31 - 1])
def test_no_id_outside_the_space_passes(stray: int) -> None:
    with pytest.raises(ValueError, match=f"{stray} "):
        build(RETINA).encode(np.array([[0, stray]], dtype=np.int32))


def test_a_stray_colour_is_an_error_that_tells_the_tolerance_and_only_that_tolerance_takes_it() -> None:
    classes = {"#000000": "sky", "#ff0000": "road"}
    mask = np.array([[0x030201, 0xF00400, 0xFF0000]], dtype=np.int32)
    with pytest.raises(ValueError, match=r"#f00400 \(1 pixels\).*colour_tolerance=15"):
        build(classes).encode(mask)
    with pytest.raises(ValueError, match="#f00400"):
        build(classes, colour_tolerance=14).encode(mask)
    assert build(classes, colour_tolerance=15).encode(mask).tolist() == [[0, 1, 1]]


def test_the_nearest_of_many_colours_is_found_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of greys 0 to 255 those up to 127, as far from both, are taken as black."""
    largest, distances = 0, space_module._colour_distance

    def watched(colours: np.ndarray, declared: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, len(colours))
        return distances(colours, declared)

    monkeypatch.setattr(space_module, "_colour_distance", watched)
    greys = np.tile(np.arange(256, dtype=np.int64) * 0x010101, 100)
    nearest, distance = build({"#000000": "sky", "#fefefe": "road"}).nearest(greys)
    assert nearest.tolist() == [0 if grey <= 127 else 0xFEFEFE for grey in range(256)] * 100
    assert distance.tolist() == [min(grey, abs(grey - 254)) for grey in range(256)] * 100
    assert largest < len(greys)


def test_decode_refuses_what_is_no_class_index() -> None:
    with pytest.raises(ValueError, match=r"\[4\] are no class indices"):
        build(RETINA).decode(np.array([[0, 4]], dtype=np.uint8))


SPACES = [
    build(RETINA),
    build(None, None, True, {0, 1, 2, 3}),
    build({4: "a", 2: "b", 0: "c"}, [1, 3, 255]),
    build({0: "background", 255: "object"}, []),
    build({1000: "a", 2000: "b", 3: "c"}, [65535, 7]),
    build({"#000000": "a", "#00ff00": "b", "#0000ff": "c"}, ["#ffffff", "#808080"]),
]


@given(data=st.data(), space=st.sampled_from(SPACES))
def test_truth_survives_encode_decode_and_mask_ignored(data: st.DataObject, space: LabelSpace) -> None:
    ids = [label_id for entry in space.classes for label_id in entry.label_ids] + list(space.ignored_ids)
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    truth = data.draw(arrays(np.int32, shape, elements=st.sampled_from(ids)))
    restored = space.mask_ignored(space.decode(space.encode(truth)), truth)
    np.testing.assert_array_equal(restored, truth)


@given(data=st.data(), space=st.sampled_from(SPACES))
def test_decode_then_encode_is_the_identity_on_class_indices(data: st.DataObject, space: LabelSpace) -> None:
    prediction = data.draw(arrays(np.uint8, (4, 5), elements=st.integers(0, space.num_classes - 1)))
    np.testing.assert_array_equal(space.encode(space.decode(prediction).astype(np.int32)), prediction)


def test_merged_classes_come_back_as_the_canonical_id() -> None:
    space = build({1: "vessel", 2: "vessel", 0: "rest"}, [3])
    truth = np.array([[0, 1, 2, 3]])
    assert space.mask_ignored(space.decode(space.encode(truth)), truth).tolist() == [[0, 1, 1, 3]]


@pytest.mark.parametrize("space", SPACES)
def test_labels_json_round_trip(space: LabelSpace, tmp_path: Path) -> None:
    space.save(tmp_path / "labels.json")
    assert LabelSpace.load(tmp_path / "labels.json") == space
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]
    assert json.loads((tmp_path / "labels.json").read_text())["num_classes"] == space.num_classes


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", r"damaged \(it is empty\)"),
        ("{}", "kind: missing"),
        ("[1]", "a list of 1 found, an object expected"),
        (
            '{"kind": "ids", "num_classes": 1, "ignore_index": 255, "classes": [{"name": "a"}]}',
            r"classes\[0\].index: mis",
        ),
    ],
)
def test_a_damaged_labels_json_names_the_file(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"labels\.json: {reason}.*copy labels.json anew"):
        LabelSpace.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 5}, "num_classes: 5 found, 2 expected"),
        ({"ignore_index": 65535}, "ignore_index: 65535 found, 255 expected"),
        ({"ignored_ids": [7, 2]}, r"ignored_ids\[1\]: 2 found, which classes\[1\].label_ids\[0\] has already"),
        ({"ignored_ids": [2**31]}, r"ignored_ids\[0\]: 2147483648 found, at most 2147483647 expected"),
        ({"kind": "words"}, "kind: \"words\" found, 'ids' or 'colours' expected"),
    ],
)
def test_what_does_not_agree_in_labels_json_is_named(change: dict[str, Any], message: str) -> None:
    space = LabelSpace.build({0: "back", 2: "road"}, [255], False, [])
    with pytest.raises(ValueError, match=message):
        LabelSpace.from_dict(space.to_dict() | change)


# --- the notes' functions


def _as_the_notes_define(label: list[int], ignore_index: int) -> list[int]:
    shifted = [value + 1 if value == ignore_index else value for value in label]
    shifted = [value - 1 for value in shifted]
    return [ignore_index if value == -1 else value for value in shifted]


@given(
    label=st.lists(st.integers(0, 255), min_size=1, max_size=40),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64]),
    ignore_index=st.sampled_from([255, 100]),
)
def test_preprocess_nonzero_labels_is_the_notes_for_every_dtype(
    label: list[int], dtype: torch.dtype, ignore_index: int
) -> None:
    tensor = torch.tensor(label, dtype=dtype)
    result = preprocess_nonzero_labels(tensor, ignore_index)
    assert result.dtype == dtype
    assert result.tolist() == _as_the_notes_define(label, ignore_index)
    assert tensor.tolist() == label


@given(
    label=st.lists(st.integers(0, 254), min_size=1, max_size=40),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.int64]),
)
def test_restore_original_labels_inverts_it(label: list[int], dtype: torch.dtype) -> None:
    tensor = torch.tensor(label, dtype=dtype)
    assert restore_original_labels(preprocess_nonzero_labels(tensor)).tolist() == label


def test_the_label_space_agrees_with_the_notes() -> None:
    space = build(None, None, True, range(6))
    mask = np.array([[0, 1, 2, 3, 4, 5, 255]], dtype=np.uint8)
    encoded = preprocess_nonzero_labels(torch.from_numpy(mask))
    np.testing.assert_array_equal(space.encode(mask), encoded.numpy())
    np.testing.assert_array_equal(space.decode(encoded.numpy()), restore_original_labels(encoded).numpy())


def test_reduce_zero_label_takes_a_label_or_a_pair() -> None:
    transform = ReduceZeroLabel()
    image, label = torch.rand(3, 1, 3), torch.tensor([[0, 1, 255]])
    assert transform(label).tolist() == [[255, 0, 255]]
    same_image, reduced = transform(image, label)
    assert same_image is image
    assert reduced.tolist() == [[255, 0, 255]]
    with pytest.raises(ValueError, match="got 3 values"):
        transform(image, image, label)


def test_an_ignore_index_that_does_not_fit_the_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ignore_index=65535 does not fit torch\.uint8"):
        preprocess_nonzero_labels(torch.zeros(1, dtype=torch.uint8), 65535)


# --- drawing colours


def test_colours_of_300_classes_are_distinct() -> None:
    assert len({class_colour(index) for index in range(300)}) == 300


@pytest.mark.parametrize("ignore", [3.5, [3, 3.5], True])
def test_an_ignored_label_that_is_none_is_named(ignore: object) -> None:
    with pytest.raises(ValueError, match=r"datasets\.ignore: (3\.5|True) is neither a label id nor a colour"):
        LabelSpace.build(None, ignore, None, found_ids=[0, 1])


def test_a_negative_id_is_ignored_and_written_as_an_id_that_images_hold() -> None:
    space = LabelSpace.build({0: "a", 3: "b"}, [-1], None, [-1, 0, 3])
    mask = np.array([[0, 3, -1]], dtype=np.int32)
    assert space.encode(mask).tolist() == [[0, 1, 255]]
    decoded = space.decode(np.array([[0, 1, 1]], dtype=np.uint8))
    assert (decoded.tolist(), decoded.dtype) == ([[0, 3, 3]], np.uint8)
    assert space.mask_ignored(decoded, mask).tolist() == [[0, 3, 255]]


def test_the_id_written_for_ignored_pixels_is_never_that_of_a_class() -> None:
    space = LabelSpace.build({0: "a", 255: "b"}, [-9999], None, [0, 255])
    assert space.decode(np.array([[0, 1, 255]], dtype=np.uint8)).tolist() == [[0, 255, 1]]


def test_a_negative_id_cannot_be_named() -> None:
    with pytest.raises(ValueError, match=r"label id -2 cannot be a class.*datasets.ignore=\[-2\]"):
        LabelSpace.build({-2: "a", 0: "b"}, None, None, [0])


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_the_label_functions_take_wide_unsigned_types(dtype: torch.dtype) -> None:
    label = torch.tensor([0, 1, 2, 255, 300], dtype=torch.int64).to(dtype)
    reduced = preprocess_nonzero_labels(label)
    assert (reduced.dtype, reduced.tolist()) == (dtype, [255, 0, 1, 255, 299])
    assert restore_original_labels(reduced).tolist() == [0, 1, 2, 0, 300]
