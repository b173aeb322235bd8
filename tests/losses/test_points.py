"""Points lie on valid pixels, uniformly; maps are sampled as resizing would; the least certain candidates are found."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dinoseg.losses.points import (
    PointSettings,
    most_uncertain,
    pixel_coordinates,
    sample_maps,
    sample_points,
    sample_valid_pixels,
)


@given(height=st.integers(1, 9), width=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_point_lies_on_a_valid_pixel(height: int, width: int, share: float, seed: int) -> None:
    torch.manual_seed(seed)
    valid = torch.rand(2, height, width) < share
    pixels = sample_valid_pixels(valid, 50)
    assert pixels.min() >= 0 and pixels.max() < height * width
    for image in range(2):
        if valid[image].any():
            assert valid[image].flatten()[pixels[image]].all()


def test_points_are_uniform_over_valid_pixels() -> None:
    torch.manual_seed(0)
    valid = torch.tensor([[[True, False, True], [False, True, True]]])
    counts = torch.bincount(sample_valid_pixels(valid, 40_000)[0], minlength=6)
    assert counts[[1, 3]].sum() == 0
    # Five standard deviations of a binomial count.
    assert (counts[[0, 2, 4, 5]] - 10_000).abs().max() < 5 * (40_000 * 0.25 * 0.75) ** 0.5


def test_a_batch_mates_mask_shifts_no_point() -> None:
    valid = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    torch.manual_seed(0)
    before = sample_points(valid, PointSettings(20))
    valid[1] = ~valid[1]
    torch.manual_seed(0)
    after = sample_points(valid, PointSettings(20))
    for name in ("matching", "candidates", "remainder"):
        assert torch.equal(getattr(before, name)[0], getattr(after, name)[0])


def test_numbers_of_points() -> None:
    points = sample_points(torch.ones(3, 4, 4, dtype=torch.bool), PointSettings(100, 2.5, 0.75))
    assert points.matching.shape == (3, 100)
    assert points.candidates.shape == (3, 250)
    assert points.remainder.shape == (3, 25)


@pytest.mark.parametrize(("map_size", "size"), [((8, 8), (32, 32)), ((5, 7), (18, 27)), ((3, 3), (3, 3))])
def test_samples_are_the_resized_map(map_size: tuple[int, int], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, *map_size)
    resized = functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0].flatten(1)
    pixels = torch.randint(size[0] * size[1], (4, 30))
    torch.testing.assert_close(sample_maps(maps, pixel_coordinates(pixels, size)), resized.gather(1, pixels))
    shared = sample_maps(maps, pixel_coordinates(pixels[:1], size))
    torch.testing.assert_close(shared, resized[:, pixels[0]])


def test_most_uncertain_are_nearest_to_zero() -> None:
    logits = torch.tensor([[3.0, -0.1, 0.5, -2.0], [-9.0, 8.0, -7.0, 6.0]])
    assert most_uncertain(logits, 2).sort(dim=1).values.tolist() == [[1, 2], [2, 3]]
