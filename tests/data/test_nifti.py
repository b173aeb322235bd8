"""NIfTI files: headers, slices, and what is said of files that are not read."""

import gzip
import importlib.util
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.volume_files import affine_of, ball, write_volume

from dinoseg.data.masks import read_image
from dinoseg.data.nifti import read_volume, read_volume_header


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as error:
        read_volume(read_volume_header(path))
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_slices_are_those_of_nibabel(tmp_path: Path, suffix: str, dtype: type) -> None:
    values = np.arange(7 * 5 * 4).reshape(7, 5, 4).astype(dtype)
    path = write_volume(tmp_path / f"v{suffix}", values)
    header = read_volume_header(path)
    assert header.shape == (7, 5, 4) and header.spacing == pytest.approx((0.8, 0.8, 4.0))
    volume = read_volume(header)
    for axis in range(3):
        np.testing.assert_array_equal(volume.slice(axis, 3), np.take(values, 3, axis))
    assert volume.held_bytes == (0 if suffix == ".nii" else values.nbytes)


def test_a_scale_in_the_header_is_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine_of())
    image.header.set_slope_inter(2.0, -1000.0)
    nibabel.save(image, tmp_path / "v.nii.gz")
    volume = read_volume(read_volume_header(tmp_path / "v.nii.gz"))
    expected = np.asarray(nibabel.load(tmp_path / "v.nii.gz").dataobj)
    np.testing.assert_allclose(volume.slice(2, 1), expected[:, :, 1])


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 4, 1), (6, 5, 4, 1, 1)])
def test_axes_of_one_are_none(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = read_volume_header(write_volume(tmp_path / "v.nii", np.ones(shape, np.int16)))
    assert header.shape == (*shape[:3], 1)[:3]
    assert header.axis("auto") == 2


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((0.8, 0.8, 4.0), 2), ((4.0, 0.8, 0.8), 0), ((1.0, 1.0, 1.0), 2), ((2.0, 2.0, 1.0), 1), ((1.0, 1.0, 0.995), 2)],
)
def test_auto_is_the_axis_along_which_voxels_are_farthest_apart(
    tmp_path: Path, spacing: tuple[float, ...], axis: int
) -> None:
    header = read_volume_header(write_volume(tmp_path / "v.nii", np.ones((4, 5, 6), np.int16), affine_of(spacing)))
    assert header.axis("auto") == axis
    assert header.axis("1") == 1


def test_places_are_the_same_up_to_a_tenth_of_a_voxel(tmp_path: Path) -> None:
    near, far = affine_of(), affine_of()
    near[0, 3] += 0.07
    far[0, 3] += 0.09
    headers = [
        read_volume_header(write_volume(tmp_path / f"{name}.nii", np.ones((4, 5, 6), np.int16), affine))
        for name, affine in {"v": affine_of(), "near": near, "far": far}.items()
    ]
    assert [header.lies_elsewhere(headers[0]) for header in headers] == [False, False, True]


def test_the_range_is_that_of_the_percentiles(tmp_path: Path) -> None:
    values, _ = ball((30, 30, 12))
    values[0, 0, 0] = 30000
    plain, packed = (
        read_volume(read_volume_header(write_volume(tmp_path / f"v{suffix}", values))) for suffix in (".nii", ".nii.gz")
    )
    assert plain.range == packed.range == pytest.approx(np.percentile(values, (0.5, 99.5)))
    empty = np.full((3, 3, 3), np.nan, np.float32)
    assert read_volume(read_volume_header(write_volume(tmp_path / "nan.nii", empty))).range == (0.0, 1.0)


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    values, _ = ball((30, 30, 12))
    packed, plain = (write_volume(tmp_path / f"v{suffix}", values) for suffix in (".nii.gz", ".nii"))
    for path in (packed, plain):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "truncated or damaged (" in refused(path)
    packed.write_bytes(gzip.compress(gzip.compress(values.tobytes()))[:200])
    assert "truncated or damaged (" in refused(packed)
    packed.write_bytes(b"")
    assert "truncated or damaged (" in refused(packed)
    for path in (packed, plain):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        assert "a pointer of Git LFS, and not the file itself: fetch it (git lfs pull)" in refused(path)


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "v.nii.gz", ball((8, 8, 4))[0])
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    assert "truncated or damaged (" in refused(path)


def test_other_than_a_number_a_voxel_is_refused(tmp_path: Path) -> None:
    shape = (4, 5, 3)
    path = write_volume(tmp_path / "v.nii.gz", np.ones(shape, np.complex64))
    assert "holds complex values (complex64), which dinoseg does not read: save their magnitude" in refused(path)
    colours = np.zeros(shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "holds colours" in refused(write_volume(tmp_path / "rgb.nii.gz", colours))
    path = write_volume(tmp_path / "time.nii.gz", np.ones((*shape, 2), np.int16))
    assert (
        "has 4 axes (4 x 5 x 3 x 2): several volumes, of points in time or channels, of which one would be read; save "
        "the one to use as a file of its own"
    ) in refused(path)


def test_a_volume_is_no_picture(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "v.nii.gz", np.ones((4, 5, 3), np.int16))
    with pytest.raises(
        ValueError, match="a NIfTI volume and no picture: check, train, eval and predict read its slices"
    ):
        read_image(path)


def test_without_nibabel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_volume(tmp_path / "v.nii.gz", np.ones((4, 5, 3), np.int16))
    monkeypatch.setattr("dinoseg.data.nifti.find_spec", lambda name: importlib.util.find_spec("no_such_package"))
    assert "pip install 'dinoseg[medical]'" in refused(path)
