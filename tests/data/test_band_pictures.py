"""Pictures of many bands: files of any layout, ranges, crops, and what the transforms make of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.band_files import hidden_band, write_tiff
from PIL import Image

from dinoseg.config import TrainTransformConfig, TransformsConfig
from dinoseg.data.band_files import read_band_file, stored_band_size
from dinoseg.data.bands import BandPicture, inside_of, shown_picture
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.pairs import Pair
from dinoseg.data.picture_form import PLAIN_FORM, PictureForm
from dinoseg.data.raster_pictures import raster_picture
from dinoseg.data.rasters import Area, opened_raster
from dinoseg.data.reading import Reading
from dinoseg.data.transforms import build_eval_transform, build_train_transform
from dinoseg.labels import LabelSpace

VALUES = hidden_band(0)[0].astype(np.uint16)
TRANSFORMS = TransformsConfig(mean=[0.1, 0.2, 0.3, 0.4], std=[0.5, 0.5, 0.5, 0.5])


def write(path: Path, layout: str) -> Path:
    if layout.startswith("npy"):
        np.save(path, np.moveaxis(VALUES, 0, -1) if layout == "npy last" else VALUES)
        return path
    if layout == "pages":
        pages = [Image.fromarray(band) for band in VALUES]
        pages[0].save(path, save_all=True, append_images=pages[1:])
        return path
    return write_tiff(path, VALUES, interleave=layout)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("a.tif", "band"), ("a.tif", "pixel"), ("a.tif", "pages"), ("a.npy", "npy last"), ("a.npy", "npy first")],
)
def test_files_of_every_layout(name: str, layout: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, layout)
    found = read_band_file(path, [4, 3, 2, 8])
    np.testing.assert_array_equal(found.values, np.moveaxis(VALUES[[3, 2, 1, 7]], 0, -1))
    assert (found.count, found.stored_size, stored_band_size(path)) == (13, (48, 40), (40, 48))
    with pytest.raises(ValueError, match=r"holds 13 bands, and datasets.bands=\[1, 14\] names band 14; give files"):
        read_band_file(path, [1, 14])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P"])
def test_pictures_that_pillow_reads(mode: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (4, 5, 4), dtype=np.uint8)).convert(mode)
    picture.save(tmp_path / "a.png")
    expected = np.asarray(picture.convert("RGB") if mode == "P" else picture).reshape(4, 5, -1)
    np.testing.assert_array_equal(read_band_file(tmp_path / "a.png").values, expected)


def test_a_part_is_what_the_whole_holds_there() -> None:
    values = np.moveaxis(VALUES[:4], 0, -1)
    picture = BandPicture(values, ((1000.0, 3000.0),) * 4)
    whole = picture.pixels(0, 0, 40, 48)
    expected = np.clip((VALUES[:4].astype(float) - 1000) / 2000, 0, 1)
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    np.testing.assert_array_equal(picture.pixels(3, 5, 10, 11), whole[:, 3:13, 5:16])
    np.testing.assert_allclose(np.asarray(picture.shown()), np.moveaxis(expected[:3], 0, -1) * 255, atol=0.51)


def test_what_is_no_number_holds_no_data(tmp_path: Path) -> None:
    values = np.full((4, 5), 0.5, np.float32)
    values[0, 0], values[1, 1] = np.nan, np.inf
    for form in (PictureForm(None, (1,), ((0.0, 1.0),)), PictureForm(None, None, ((0.0, 1.0),))):
        picture = form.of_values(values)
        inside = inside_of(picture)
        assert inside is not None and np.flatnonzero(~inside).tolist() == [0, 6]
        assert np.asarray(shown_picture(picture))[[0, 1, 2], [0, 1, 2], 0].tolist() == [0, 0, 128]


def test_values_without_a_range_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[-1.5, 2.5]], np.float32))
    with pytest.raises(ValueError, match=r"a.npy: values of type float32 \(-1.5 to 2.5\) .* set datasets.range=low"):
        PictureForm(bands=(1,)).read(tmp_path / "a.npy")
    Image.fromarray(np.array([[-1.5, 2.5]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif: a valid picture of floating-point values .* set datasets.range=low"):
        PLAIN_FORM.read(tmp_path / "a.tif")


def test_a_part_of_a_raster_is_what_the_file_holds_there(tmp_path: Path) -> None:
    form, path = PictureForm(4095, (4, 3, 2, 8)), write_tiff(tmp_path / "a.tif", VALUES, nodata=0)
    whole = form.read(path)
    with opened_raster(path) as opened:
        part, inside = raster_picture(opened, Area((2, 12), (3, 20)), form)
    assert isinstance(part, BandPicture) and isinstance(whole, BandPicture) and inside.all()
    np.testing.assert_array_equal(part.pixels(0, 0, 10, 17), whole.pixels(2, 3, 10, 17))


@pytest.mark.parametrize("rotation", [0.0, 10.0])
def test_transforms_take_any_number_of_bands(rotation: float) -> None:
    train = TrainTransformConfig(crop_size=16, rotation=rotation, gamma=0.2, noise=0.02, cutout=0.1)
    config = TRANSFORMS.model_copy(update={"train": train})
    picture = BandPicture(np.moveaxis(VALUES[:4], 0, -1), ((0.0, 4095.0),) * 4)
    mask = np.zeros((40, 48), np.uint8)
    torch.manual_seed(0)
    image, labels = build_train_transform(config, 255)(picture, mask)
    assert image.shape == (4, 16, 16) and labels.shape == (16, 16) and bool(image.isfinite().all())
    whole = build_eval_transform(config).normalise(picture)
    mean = torch.tensor(config.mean)[:, None, None]
    torch.testing.assert_close(whole * 0.5 + mean, torch.from_numpy(picture.pixels(0, 0, 40, 48)))


@pytest.mark.parametrize(("dtype", "nodata", "known"), [("float32", -9999, 1), ("int16", -9999, 1), ("uint16", 0, 3)])
def test_nodata_of_one_band_is_no_value_of_it(dtype: str, nodata: int, known: int, tmp_path: Path) -> None:
    """Of unsigned values 0 may be a value: such a pixel holds no data where all bands say so."""
    values = np.full((2, 2, 2), 500, dtype)
    values[0, 0], values[1, 1, 0] = nodata, nodata
    if dtype == "uint16":
        values[:, 1, 1] = nodata
    path = write_tiff(tmp_path / "a.tif", values, nodata=nodata)
    found = read_band_file(path, [1, 2])
    assert found.inside is not None and found.inside.sum() == known and found.values.min() == 0
    second = read_band_file(path, [2])
    assert second.inside is not None and second.inside.sum() == 3


def test_what_one_run_finds_no_data_in_counts_for_none(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((6, 5, 2)).astype(np.float32)
    values[0, :, 0], values[:, 0, 1] = np.nan, np.nan
    np.save(tmp_path / "a.npy", values)
    Image.new("L", (5, 6)).save(tmp_path / "a.png")
    pair, space = Pair("a", tmp_path / "a.npy", tmp_path / "a.png"), LabelSpace.build(None, None, None, {0: 1, 1: 1})
    transform = build_eval_transform(TransformsConfig(mean=[0.5], std=[0.5]))
    forms = [PictureForm(bands=(band,), ranges=((0.0, 1.0),)) for band in (1, 2)]
    for first, second in (forms, forms[::-1]):
        dataset = EvaluationDataset([pair], space, transform, first)
        dataset.other_readings = (Reading(second, transform),)
        ignored = dataset[0]["class_map"] == space.ignore_index
        np.testing.assert_array_equal(ignored.numpy(), np.isnan(values).any(axis=-1))
