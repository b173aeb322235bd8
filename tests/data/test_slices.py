"""Volumes as pairs: which slices, how they are turned, and which volumes are refused."""

import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.volume_files import affine_of, ball, write_volume, write_volume_pair
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dinoseg.check.scan import scan_pairs
from dinoseg.config import DatasetsConfig
from dinoseg.data import slices
from dinoseg.data.dataset import read_encoded, stored_size
from dinoseg.data.folders import find_pairs, find_pool
from dinoseg.data.items import SelfReading
from dinoseg.data.nifti import VolumeHeader
from dinoseg.data.parts import in_parts
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm
from dinoseg.data.shelf import Shelf
from dinoseg.data.slice_view import SliceView
from dinoseg.data.slices import Slice
from dinoseg.labels import LabelSpace


def listed(root: Path, **more: object) -> list[Slice]:
    datasets = DatasetsConfig(root=str(root), **more)
    pairs = in_parts(find_pool(datasets), datasets).pairs
    assert all(isinstance(pair, Slice) for pair in pairs)
    return [pair for pair in pairs if isinstance(pair, Slice)]


def refused(root: Path, **more: object) -> str:
    with pytest.raises(ValueError) as error:
        listed(root, **more)
    return str(error.value)


@pytest.mark.parametrize("axis", ["auto", "0", "1", "2"])
def test_every_voxel_is_in_one_slice(tmp_path: Path, axis: str) -> None:
    _, labels = write_volume_pair(tmp_path, "a", (9, 7, 5))
    _, others = write_volume_pair(tmp_path, "b", (6, 8, 4))
    slices = listed(tmp_path, slice_axis=axis)
    along = 2 if axis == "auto" else int(axis)
    assert len(slices) == labels.shape[along] + others.shape[along]
    assert slices[0].name == "a_s0000" and slices[-1].volume == "b"
    found = np.concatenate([part.label_ids("ids").ravel() for part in slices])
    both = np.concatenate([labels.ravel(), others.ravel()])
    np.testing.assert_array_equal(np.bincount(found), np.bincount(both))


def test_a_slice_lies_as_radiologists_look_at_it(tmp_path: Path) -> None:
    """The same body, stored twice: axes to the right, front and up, and all the other way round."""
    labels = np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2)
    for name, stored, affine in (("ras", labels, affine_of()), ("lpi", labels[::-1, ::-1, ::-1], -affine_of())):
        affine[3, 3] = 1
        write_volume(tmp_path / name / "images" / "v.nii.gz", stored, affine)
        write_volume(tmp_path / name / "masks" / "v.nii.gz", stored, affine)
    for axis, expected in (
        ("2", labels[::-1, ::-1, 0].T),
        ("1", labels[::-1, 0, ::-1].T),
        ("0", labels[0, ::-1, ::-1].T),
    ):
        first = listed(tmp_path / "ras", slice_axis=axis)[0]
        np.testing.assert_array_equal(first.label_ids("ids"), expected)
        np.testing.assert_array_equal(listed(tmp_path / "lpi", slice_axis=axis)[-1].label_ids("ids"), expected)
        assert first.size == expected.shape == stored_size(first, LabelSpace.build(None, None, None, {0: 1, 1: 1}))


@settings(max_examples=40, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3), st.integers(0, 2), st.booleans())
def test_what_is_turned_upright_is_turned_back(
    order: list[int], signs: tuple[float, float, float], axis: int, placed: bool
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * signs
    header = VolumeHeader(Path("v.nii"), (2, 3, 4), (1.0, 1.0, 1.0), "<i2", 352, 1.0, 0.0, affine, placed)
    view = SliceView.of(header, axis)
    plane = np.take(np.arange(24).reshape(2, 3, 4), 0, axis)
    picture = view.upright(plane)
    assert picture.shape == view.size(header.shape)
    np.testing.assert_array_equal(view.as_stored(picture), plane)


def test_a_picture_goes_from_the_lowest_to_the_highest_percentile(tmp_path: Path) -> None:
    values, labels = write_volume_pair(tmp_path, "a", (20, 16, 5))
    part = listed(tmp_path)[2]
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values[::-1, ::-1, 2].T - low) * 255 / (high - low), 0, 255).round()
    picture, class_map = read_encoded(part, LabelSpace.build(None, None, None, {0: 1, 1: 1, 2: 1}))
    assert np.abs(np.asarray(picture)[..., 0] - expected).max() <= 1
    np.testing.assert_array_equal(class_map, labels[::-1, ::-1, 2].T)


def test_nnunet_and_lists_are_of_volumes(tmp_path: Path) -> None:
    for name in ("case_1", "case_2"):
        values, labels = ball((8, 7, 3))
        write_volume(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", values)
        write_volume(tmp_path / "labelsTr" / f"{name}.nii.gz", labels)
    pairs = find_pairs(DatasetsConfig(root=str(tmp_path)), "train").pairs
    assert [pair.name for pair in pairs[:4]] == ["case_1_s0000", "case_1_s0001", "case_1_s0002", "case_2_s0000"]
    (tmp_path / "val.txt").write_text("case_2\n")
    val = find_pairs(DatasetsConfig(root=str(tmp_path), val="val.txt"), "val").pairs
    assert [pair.name for pair in val] == ["case_2_s0000", "case_2_s0001", "case_2_s0002"]


def test_a_region_is_a_volume_too(tmp_path: Path) -> None:
    _, labels = write_volume_pair(tmp_path, "a", (8, 7, 3))
    write_volume(tmp_path / "fov" / "a.nii.gz", (np.arange(8)[:, None, None] < 4) * np.ones((8, 7, 3), np.uint8))
    datasets = DatasetsConfig(root=str(tmp_path), images="images/*", masks="masks/*", regions="fov")
    from dinoseg.data.regions import attach_regions

    (first, *_) = in_parts(attach_regions(find_pool(datasets), datasets, None), datasets).pairs
    assert isinstance(first, SelfReading)
    _, ids, inside = first.load("ids", PLAIN_FORM)
    assert inside.sum() == 4 * 7
    np.testing.assert_array_equal(np.bincount(ids[inside]), np.bincount(labels[:4, :, 0].ravel()))


def test_an_image_and_a_mask_that_do_not_fit_are_named(tmp_path: Path) -> None:
    values, labels = ball((8, 7, 3))
    image, mask = tmp_path / "images" / "a.nii.gz", tmp_path / "masks" / "a.nii.gz"
    write_volume(image, values)
    write_volume(mask, labels[:, :, :2])
    assert (
        f"{image} is 8 x 7 x 3 voxels of 0.8 x 0.8 x 4 but its mask {mask} is 8 x 7 x 2 voxels of 0.8 x 0.8 x 4; "
        "resample the mask onto the grid of the image, by nearest neighbour only"
    ) == refused(tmp_path)
    write_volume(mask, labels, affine_of((0.8, 0.8, 5.0)))
    found = refused(tmp_path)
    assert f"{image} begins at 11, -20, 5 (RAS) in steps of 0.8 x 0.8 x 4 but its mask {mask} at 11, -20, 5" in found
    assert "where its header alone is wrong, save it with the affine of the image" in found


def test_a_mask_that_does_not_say_where_it_lies_is_taken(tmp_path: Path) -> None:
    _, labels = write_volume_pair(tmp_path, "a", (8, 7, 3))
    image = nibabel.Nifti1Image(labels, None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "masks" / "a.nii.gz")
    np.testing.assert_array_equal(listed(tmp_path)[0].label_ids("ids"), labels[::-1, ::-1, 0].T)


def test_values_between_label_ids_are_refused(tmp_path: Path) -> None:
    _, labels = write_volume_pair(tmp_path, "a", (8, 7, 3))
    mask = write_volume(tmp_path / "masks" / "a.nii.gz", labels.astype(np.float32))
    np.testing.assert_array_equal(
        np.bincount(listed(tmp_path)[1].label_ids("ids").ravel()), np.bincount(labels[..., 1].ravel())
    )
    write_volume(mask, labels * 0.5)
    with pytest.raises(ValueError, match=r"holds 0\.5, which is no label id") as error:
        listed(tmp_path)[1].label_ids("ids")
    assert str(error.value).startswith(str(mask))


def test_a_picture_is_no_mask_of_a_volume(tmp_path: Path) -> None:
    write_volume_pair(tmp_path, "a", (8, 7, 3))
    (tmp_path / "masks" / "a.nii.gz").unlink()
    Image.new("L", (8, 7)).save(tmp_path / "masks" / "a.png")
    assert "a.nii.gz is a volume and" in refused(tmp_path) and "a.png is none" in refused(tmp_path)


def test_an_axis_wants_volumes(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        Image.new("L", (8, 7)).save(tmp_path / kind / "a.png")
    assert refused(tmp_path, slice_axis="1") == (
        "datasets.slice_axis=1: is of volumes (.nii, .nii.gz), and there is none; leave it out"
    )
    with pytest.raises(ValueError, match="'3' is unknown; choose one of auto, 0, 1, 2"):
        DatasetsConfig(slice_axis="3")


def test_the_shelf_keeps_what_fits_and_the_last() -> None:
    shelf, read = Shelf[str](10), []

    def ask(name: str, size: int) -> str:
        def take_down() -> tuple[str, int]:
            read.append(name)
            return name.upper(), size

        return shelf.get(name, take_down)

    assert [ask("a", 4), ask("b", 5), ask("a", 4), ask("c", 4), ask("a", 4)] == ["A", "B", "A", "C", "A"]
    assert read == ["a", "b", "c"] and shelf.held_bytes == 8  # b was asked for before a
    ask("d", 30)
    assert shelf.held_bytes == 30
    assert pickle.loads(pickle.dumps(shelf)).held_bytes == 0


def test_the_shelf_keeps_few_files_open() -> None:
    shelf = Shelf[int](10)
    for number in range(100):
        shelf.get(number, lambda number=number: (number, 0))
    read: list[int] = []
    for number in (99, 36, 35):
        shelf.get(number, lambda number=number: (read.append(number) or number, 0))
    assert read == [35]


def test_voxels_that_are_no_numbers_count_nowhere_where_values_have_a_range(tmp_path: Path) -> None:
    values, labels = ball((9, 7, 3))
    stored = values.astype(np.float32)
    stored[:2, 0, 1] = np.nan
    labels[0, 0, 1] = 7  # which nothing names
    write_volume(tmp_path / "images" / "a.nii", stored)
    write_volume(tmp_path / "masks" / "a.nii", labels)
    form = PictureForm(ranges=((-900.0, 300.0),))
    part = listed(tmp_path)[1]
    space = LabelSpace.build(None, None, None, {0: 1, 1: 1, 2: 1})
    _, class_map = read_encoded(part, space, form)
    missing = part.view.upright(~np.isfinite(stored[:, :, 1]))
    np.testing.assert_array_equal(class_map == space.ignore_index, missing)
    (fact,) = scan_pairs([part], form=form)
    assert fact.mask.outside == fact.image.no_data == 2 and 7 not in dict(fact.mask.counts)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_that_is_replaced_is_read_anew(tmp_path: Path, suffix: str) -> None:
    _, labels = write_volume_pair(tmp_path, "a", (9, 7, 5), suffix)
    part = listed(tmp_path)[0]
    mask, other = tmp_path / "masks" / f"a{suffix}", tmp_path / f"other{suffix}"
    np.testing.assert_array_equal(part.label_ids("ids"), part.view.upright(labels[:, :, 0]))
    write_volume(other, (1 - labels[:, :, ::-1].clip(0, 1)).astype(np.uint8))
    other.replace(mask)
    assert part.label_ids("ids").all() and not labels[:, :, 0].all()
    write_volume(other, np.zeros((9, 8, 6), np.uint8))
    other.replace(mask)
    with pytest.raises(ValueError) as error:
        part.label_ids("ids")
    assert str(error.value) == (
        f"{mask}: is 9 x 8 x 6 voxels of 0.8 x 0.8 x 4 (|u1) and was 9 x 7 x 5 voxels of 0.8 x 0.8 x 4 (|u1) when it "
        "was listed; leave files alone while they are read"
    )


def test_a_damaged_volume_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume_pair(tmp_path, "a", (60, 50, 10))
    image, tries = tmp_path / "images" / "a.nii.gz", []
    whole = image.read_bytes()
    image.write_bytes(whole[:-9])
    parts = listed(tmp_path)
    read = slices.read_volume
    monkeypatch.setattr(slices, "read_volume", lambda header: tries.append(header.path) or read(header))
    for part in parts:
        with pytest.raises(ValueError, match=r"a.nii.gz: truncated or damaged \(.+\); replace or remove the file"):
            part.picture(PLAIN_FORM)
    assert len(parts) == 10 and tries == [image]
    image.write_bytes(whole)
    assert parts[0].picture(PLAIN_FORM).size == (60, 50)
