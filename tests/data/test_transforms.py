"""Train and evaluation transforms: alignment, padding, nearest-only masks, class share, and messages for bad values."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from dinoseg.config import TrainTransformConfig, TransformsConfig
from dinoseg.data.transforms import TrainTransform, as_size, build_eval_transform, build_train_transform

IGNORE = 255
PLAIN = TrainTransformConfig(
    random_img_size_ratio_range=[1.0, 1.0], flip_prob=0.0, max_class_share=1.0, photometric_distortion=False
)


def transform_of(ignore_index: int = IGNORE, mean: float = 0.0, std: float = 1.0, **train: Any) -> TrainTransform:
    """A transform in which nothing is random but what the arguments ask for."""
    config = TransformsConfig(train=PLAIN.model_copy(update=train), mean=[mean] * 3, std=[std] * 3)
    return build_train_transform(config, ignore_index)


def grey_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2))


def coordinate_image(height: int, width: int) -> tuple[Image.Image, np.ndarray]:
    """Red = row, green = column of each pixel; and the same in one number: row * 256 + column."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
    return Image.fromarray(image), (rows * 256 + columns).astype(np.uint16)


def rows_and_columns(image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return image[0].numpy() * 255.0, image[1].numpy() * 255.0


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    crop=st.tuples(st.integers(5, 90), st.integers(5, 90)),
    ratio=st.floats(0.4, 2.5),
    rotate=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_image_and_class_map_stay_aligned(
    height: int, width: int, crop: tuple[int, int], ratio: float, rotate: bool, seed: int
) -> None:
    transform = transform_of(
        ignore_index=65535,
        crop_size=list(crop),
        random_img_size_ratio_range=[ratio, ratio],
        flip_prob=0.5,
        vertical_flip_prob=0.5,
        right_angle_rotations=rotate,
    )
    torch.manual_seed(seed)
    image, class_map = transform(*coordinate_image(height, width))
    assert image.shape == (3, *crop) and class_map.shape == crop and class_map.dtype == torch.int64
    inside = class_map.numpy() != 65535
    assert inside.any()
    tolerance = max(1.0, 1.0 / ratio) + 0.5  # one pixel of the coarser grid; image values are rounded to integers
    row_image, column_image = rows_and_columns(image)
    assert np.abs(row_image - class_map.numpy() // 256)[inside].max() <= tolerance
    assert np.abs(column_image - class_map.numpy() % 256)[inside].max() <= tolerance


@pytest.mark.parametrize("ratio", [1 / 3, 0.5, 0.7, 1.5])
def test_a_resized_class_map_is_not_shifted_against_its_image(ratio: float) -> None:
    """A nearest rule that takes the upper left neighbour would be off by a pixel on average at a third of the size."""
    transform = transform_of(ignore_index=65535, crop_size=240, random_img_size_ratio_range=[ratio, ratio])
    image, class_map = transform(*coordinate_image(150, 150))
    inside = class_map.numpy() != 65535
    rows, columns = rows_and_columns(image)
    limit = 0.51 if ratio == 0.5 else 0.12  # at exactly one half, both neighbours are half a pixel away
    assert abs((class_map.numpy() // 256 - rows)[inside].mean()) <= limit
    assert abs((class_map.numpy() % 256 - columns)[inside].mean()) <= limit


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    crop=st.integers(1, 70),
    img_size=st.none() | st.integers(1, 100),
    classes=st.sets(st.sampled_from([0, 1, 7, 40, 200, 254, 255]), min_size=1),
    seed=st.integers(0, 10**6),
)
def test_masks_are_resized_by_nearest_only(
    height: int, width: int, crop: int, img_size: int | None, classes: set[int], seed: int
) -> None:
    values = np.random.default_rng(seed).choice(sorted(classes), size=(height, width)).astype(np.uint8)
    transform = transform_of(
        crop_size=crop,
        img_size=img_size,
        random_img_size_ratio_range=[0.5, 2.0],
        flip_prob=0.5,
        right_angle_rotations=True,
        max_class_share=0.75,
        photometric_distortion=True,
    )
    torch.manual_seed(seed)
    image, class_map = transform(grey_image(values), values)
    assert set(class_map.unique().tolist()) <= set(values.reshape(-1).tolist()) | {IGNORE}
    assert torch.isfinite(image).all()
    assert image.shape == (3, crop, crop) and class_map.shape == (crop, crop)


def test_sixteen_bit_class_indices_survive() -> None:
    values = np.array([[0, 256], [40000, 65535]], dtype=np.uint16)
    _, class_map = transform_of(ignore_index=65535, crop_size=[2, 3])(grey_image(values % 251), values)
    assert class_map.tolist() == [[0, 256, 65535], [40000, 65535, 65535]]
    _, doubled = transform_of(65535, crop_size=4, random_img_size_ratio_range=[2.0, 2.0])(grey_image(values), values)
    assert doubled[0].tolist() == [0, 0, 256, 256] and doubled[3].tolist() == [40000, 40000, 65535, 65535]


def test_a_small_image_is_padded_with_the_mean_colour_and_the_ignore_index() -> None:
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    transform = transform_of(crop_size=[4, 5], mean=0.25, std=0.5)
    image, class_map = transform(grey_image(values * 40), values)
    assert class_map[:2, :3].tolist() == values.tolist()
    assert (class_map[2:] == IGNORE).all() and (class_map[:, 3:] == IGNORE).all()
    expected = (torch.from_numpy(values) * 40 / 255 - 0.25) / 0.5
    torch.testing.assert_close(image[:, :2, :3], expected.expand(3, 2, 3))
    assert (image[:, 2:] == 0).all() and (image[:, :, 3:] == 0).all()


def test_an_image_of_the_crop_size_passes_through() -> None:
    values = np.arange(35, dtype=np.uint8).reshape(5, 7)
    image, class_map = transform_of(crop_size=[5, 7])(grey_image(values), values)
    assert class_map.tolist() == values.tolist()
    torch.testing.assert_close(image[0], torch.from_numpy(values) / 255)


@pytest.mark.parametrize(("img_size", "expected"), [(20, (20, 40)), (5, (5, 10)), (None, (10, 20))])
def test_img_size_sets_the_short_side(img_size: int | None, expected: tuple[int, int]) -> None:
    values = np.ones((10, 20), dtype=np.uint8)
    _, class_map = transform_of(crop_size=[60, 60], img_size=img_size)(grey_image(values), values)
    rows, columns = torch.nonzero(class_map != IGNORE, as_tuple=True)
    assert (int(rows.max()) + 1, int(columns.max()) + 1) == expected


def test_the_ratio_range_is_covered() -> None:
    values = np.ones((100, 100), dtype=np.uint8)
    transform = transform_of(crop_size=220, random_img_size_ratio_range=[0.5, 2.0])
    torch.manual_seed(0)
    sides = [int((transform(grey_image(values), values)[1][0] != IGNORE).sum()) for _ in range(60)]
    assert min(sides) >= 50 and max(sides) <= 200
    assert min(sides) < 65 and max(sides) > 185


@pytest.mark.parametrize("ratio", [0.53, 0.7, 1.37, 1.9, 2.0])
def test_an_image_larger_than_the_crop_needs_no_padding(ratio: float) -> None:
    values = np.ones((301, 403), dtype=np.uint8)
    transform = transform_of(crop_size=[97, 131], random_img_size_ratio_range=[ratio, ratio])
    assert (transform(grey_image(values), values)[1] == 1).all()


def test_flips_happen_with_their_probability() -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for horizontal, vertical in [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]:
        transform = transform_of(crop_size=[2, 3], flip_prob=horizontal, vertical_flip_prob=vertical)
        image, class_map = transform(grey_image(values), values)
        expected = values[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        assert class_map.tolist() == expected.tolist()
        assert torch.round(image[0] * 255).tolist() == expected.tolist()


def test_rotations_by_right_angles_keep_the_shape_of_the_crop() -> None:
    values = np.arange(9, dtype=np.uint8).reshape(3, 3)
    transform = transform_of(crop_size=[3, 3], right_angle_rotations=True)
    torch.manual_seed(1)
    seen = {tuple(transform(grey_image(values), values)[1].reshape(-1).tolist()) for _ in range(50)}
    assert seen == {tuple(np.rot90(values, turns).reshape(-1).tolist()) for turns in range(4)}

    large = np.ones((90, 110), dtype=np.uint8)
    upright = transform_of(crop_size=[20, 60], right_angle_rotations=True)
    assert all((upright(grey_image(large), large)[1] == 1).all() for _ in range(10))


def test_a_crop_dominated_by_one_class_is_drawn_anew() -> None:
    """Columns 0..179 hold class 0, the rest classes 0 and 1 by halves: few crops of a free draw are balanced."""
    values = np.zeros((20, 200), dtype=np.uint8)
    values[:10, 180:] = 1
    image = grey_image(values)

    def dominated(share: float) -> int:
        torch.manual_seed(0)
        transform = transform_of(crop_size=20, max_class_share=share)
        return sum(float((transform(image, values)[1] == 0).float().mean()) > 0.75 for _ in range(100))

    assert dominated(1.0) > 80
    assert dominated(0.75) < 60


def test_ignored_pixels_do_not_count_towards_the_class_share() -> None:
    """Left half: class 0 alone among ignored pixels, right half: classes 0 and 1. Ten tries find the right half."""
    values = np.full((10, 200), IGNORE, dtype=np.uint8)
    values[0, :100] = 0
    values[:5, 100:], values[5:, 100:] = 0, 1
    transform = transform_of(crop_size=10, max_class_share=0.9)
    torch.manual_seed(0)
    crops = [transform(grey_image(values), values)[1] for _ in range(40)]
    assert sum(bool((crop == 1).any()) for crop in crops) >= 38


def test_a_crop_without_a_valid_pixel_is_drawn_anew() -> None:
    values = np.full((10, 100), IGNORE, dtype=np.uint8)
    values[:5, 50:], values[5:, 50:] = 0, 1
    transform = transform_of(crop_size=10, max_class_share=0.9)
    torch.manual_seed(0)
    assert all((transform(grey_image(values), values)[1] != IGNORE).any() for _ in range(40))


def test_distortion_changes_colours_alone_and_keeps_the_channels_apart() -> None:
    values = np.random.default_rng(0).integers(0, 5, (40, 40)).astype(np.uint8)
    red = Image.fromarray(
        np.dstack([np.full((40, 40), 200), np.full((40, 40), 40), np.full((40, 40), 60)]).astype("u1")
    )
    transform = transform_of(crop_size=40, photometric_distortion=True)
    torch.manual_seed(0)
    images = []
    for _ in range(40):
        image, class_map = transform(red, values)
        assert class_map.tolist() == values.tolist()
        assert image.min() >= 0 and image.max() <= 1
        assert (image[0] > image[1]).all() and (image[0] > image[2]).all()
        images.append(tuple(image[:, 0, 0].tolist()))
    assert len(set(images)) > 20


def test_the_evaluation_transform_normalises_and_keeps_the_size() -> None:
    values = np.array([[0, 51, 102, 255]], dtype=np.uint8)
    transform = build_eval_transform(TransformsConfig(mean=[0.2, 0.4, 0.0], std=[0.5, 0.25, 1.0]))
    image, class_map = transform(grey_image(values), np.array([[3, 0, 1, 255]], dtype=np.uint8))
    torch.testing.assert_close(image[0, 0], torch.tensor([-0.4, 0.0, 0.4, 1.6]))
    torch.testing.assert_close(image[1, 0], torch.tensor([-1.6, -0.8, 0.0, 2.4]))
    torch.testing.assert_close(image[2, 0], torch.tensor([0.0, 0.2, 0.4, 1.0]))
    assert class_map.dtype == torch.int64 and class_map.tolist() == [[3, 0, 1, 255]]
    torch.testing.assert_close(transform.normalise(grey_image(values)), image)


@pytest.mark.parametrize(("value", "size"), [(512, (512, 512)), ([3, 4], (3, 4))])
def test_as_size(value: Any, size: tuple[int, int]) -> None:
    assert as_size(value) == size
