"""The sampling transform: image, labels and features move together, and nothing is invented beyond the border."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dinoseg.config import TrainTransformConfig
from dinoseg.config.loading import load_config
from dinoseg.data.affine import AffineTransform
from dinoseg.data.appearance import Blur
from dinoseg.data.placement import Placement, Window, sampled
from dinoseg.data.transforms import TrainTransform, build_train_transform

IGNORE = 255
EYE = torch.eye(2)
FLAT = dict(random_img_size_ratio_range=[1.0, 1.0], flip_prob=0.0, max_class_share=1.0, photometric_distortion=False)


def transform(crop: tuple[int, int], **options: object) -> AffineTransform:
    return AffineTransform(TrainTransformConfig(**(FLAT | options)), crop, IGNORE, v2.Identity())


@pytest.fixture
def picture() -> tuple[Image.Image, np.ndarray]:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(image), (image[..., 0] % 3).astype(np.uint8)


def test_a_plain_placement_is_a_crop(picture: tuple[Image.Image, np.ndarray]) -> None:
    image, labels = picture
    placement = Placement((20, 30), (8, 12), (6 + 4.0, 5 + 3.0), EYE)
    pixels, found = transform((8, 12)).at(placement, image, labels)
    assert (found.numpy() == labels[4:12, 4:16]).all()
    assert torch.allclose(pixels, torch.tensor(np.array(image)[4:12, 4:16]).permute(2, 0, 1) / 255, atol=1e-5)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_right_angles_and_flips_are_exact(picture: tuple[Image.Image, np.ndarray], turns: int) -> None:
    image, labels = picture
    square = image.crop((0, 0, 20, 20)), labels[:, :20]
    angle = turns * math.pi / 2
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for flip in (1.0, -1.0):
        matrix = turn @ torch.diag(torch.tensor([flip, 1.0]))
        pixels, found = transform((20, 20)).at(Placement((20, 20), (20, 20), (10.0, 10.0), matrix), *square)
        turned = np.rot90(square[1], turns)
        assert (found.numpy() == (turned[:, ::-1] if flip < 0 else turned)).all()
        expected = np.rot90(np.array(square[0]), turns)
        expected = expected[:, ::-1] if flip < 0 else expected
        assert torch.allclose(pixels, torch.tensor(expected.copy()).permute(2, 0, 1) / 255, atol=1e-4)


def test_beyond_the_border_nothing_is_known(picture: tuple[Image.Image, np.ndarray]) -> None:
    image, labels = picture
    pixels, found = transform((8, 8)).at(Placement((20, 30), (8, 8), (0.0, 0.0), EYE), image, labels)
    assert (found[:4] == IGNORE).all() and (found[:, :4] == IGNORE).all() and not pixels[:, :4].any()
    assert (found[4:, 4:].numpy() == labels[:4, :4]).all()
    outside, nothing = transform((8, 8)).at(Placement((20, 30), (8, 8), (90.0, 90.0), EYE), image, labels)
    assert not outside.any() and (nothing == IGNORE).all()


def test_a_window_gives_what_the_whole_map_gives() -> None:
    values = torch.randn(4, 9, 11)
    turned = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    positions = Placement((90, 110), (24, 32), (50.0, 40.0), turned).positions(6, 8)
    window = Window.around(positions, (9, 11))
    assert window is not None and window.bottom - window.top < 9
    part = values[:, window.top : window.bottom, window.left : window.right]
    assert torch.allclose(sampled(part, window.localised(positions, (9, 11))), sampled(values, positions), atol=1e-5)


def test_labels_and_pixels_stay_together_however_they_are_moved() -> None:
    """A picture whose colour is its label keeps that, but for the seams between two labels."""
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 1
    image = Image.fromarray(np.repeat(labels[..., None] * 200, 3, axis=2))
    moving = transform(
        (40, 40), rotation=180, shear=20, elastic=3, flip_prob=0.5, random_img_size_ratio_range=[0.5, 2.0]
    )
    for seed in range(20):
        torch.manual_seed(seed)
        pixels, found = moving(image, labels)
        counted = found != IGNORE
        agrees = (pixels[0] > 100 / 255) == (found == 1)
        assert agrees[counted].float().mean() > 0.97


def test_foreground_is_found_where_it_is_rare() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[3, 190] = 2
    image = Image.fromarray(np.zeros((200, 200, 3), np.uint8))
    assert all((transform((16, 16), foreground_share=1.0)(image, labels)[1] == 2).any() for _ in range(5))
    # Nothing but one class, and nothing that counts: any crop will do.
    for flat in (np.zeros((50, 50), np.uint8), np.full((50, 50), IGNORE, np.uint8)):
        assert transform((16, 16), foreground_share=1.0)(image, flat)[1].shape == (16, 16)


def test_options_choose_the_transform() -> None:
    plain = load_config([]).transforms
    assert isinstance(build_train_transform(plain, IGNORE), TrainTransform)
    assert isinstance(build_train_transform(plain, IGNORE, samples_features=True), AffineTransform)
    for option in ("rotation=30", "shear=5", "elastic=4", "foreground_share=0.5"):
        moved = load_config([f"transforms.train.{option}"]).transforms
        assert isinstance(build_train_transform(moved, IGNORE), AffineTransform)


@pytest.mark.parametrize("option", ["gamma=0.5", "noise=0.1", "blur=2", "low_resolution=4", "cutout=0.3"])
@pytest.mark.parametrize("samples_features", [False, True])
def test_degradations_change_the_image_and_never_the_labels(
    picture: tuple[Image.Image, np.ndarray], option: str, samples_features: bool
) -> None:
    given = ["transforms.train.crop_size=16", "transforms.train.photometric_distortion=false"]
    found = []
    for more in ([], [f"transforms.train.{option}"]):
        built = build_train_transform(load_config(given + more).transforms, IGNORE, samples_features)
        samples = []
        for seed in range(8):
            torch.manual_seed(seed)
            samples.append(built(*picture))
        found.append(samples)
    assert all(torch.equal(one[1], other[1]) for one, other in zip(*found, strict=True))
    assert any(not torch.allclose(one[0], other[0], atol=1e-3) for one, other in zip(*found, strict=True))
    assert all(sample[0].isfinite().all() for sample in found[1])


@pytest.mark.parametrize("most", [0.02, 3.0, 100.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (16, 16)])
def test_any_blur_fits_any_image(most: float, size: tuple[int, int]) -> None:
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    for seed in range(5):
        torch.manual_seed(seed)
        blurred = Blur(most)(image)
        assert blurred.shape == image.shape and blurred.isfinite().all()
        # Weights are positive and sum to one.
        assert blurred.min() >= image.min() - 1e-5 and blurred.max() <= image.max() + 1e-5


def test_an_elastic_deformation_that_leaves_little_of_a_crop_is_refused() -> None:
    assert load_config(["transforms.train.elastic=12", "transforms.train.crop_size=48"])
    with pytest.raises(ValueError, match=r"elastic=13 moves points by more than a quarter of a crop of 48 px.*most 12"):
        load_config(["transforms.train.elastic=13", "transforms.train.crop_size=[64,48]"])
