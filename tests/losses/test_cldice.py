"""The clDice loss: gaps cost, width does not, ignored pixels belong to nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from dinoseg.config.loading import load_config
from dinoseg.labels import LabelSpace
from dinoseg.losses.cldice import SoftClDice, soft_skeleton
from dinoseg.losses.criterion import build_criterion
from dinoseg.losses.pixel import dice
from dinoseg.models.head import PixelOutput

SIZE = (24, 40)
IGNORED = 255


def line(top: int, bottom: int, gap: tuple[int, int] | None = None) -> Tensor:
    """A class map with a bar of class 1 from left to right."""
    class_map = torch.zeros(1, *SIZE, dtype=torch.long)
    class_map[:, top:bottom, 4:36] = 1
    if gap:
        class_map[:, :, gap[0] : gap[1]] = 0
    return class_map


def sure(class_map: Tensor, classes: int = 2) -> Tensor:
    """Scores that say this class map."""
    return 40.0 * torch.nn.functional.one_hot(class_map, classes).permute(0, 3, 1, 2).float()


def test_a_perfect_map_costs_nothing_and_a_wider_one_hardly_anything() -> None:
    loss, truth = SoftClDice((1,), IGNORED), line(10, 13)
    assert loss(sure(truth), truth).item() == pytest.approx(0, abs=1e-4)
    assert loss(sure(line(9, 14)), truth).item() < 0.05
    assert loss(sure(line(10, 13, gap=(15, 25))), truth).item() > 0.12
    assert loss(sure(torch.zeros_like(truth)), truth).item() > 0.9


def test_the_skeleton_is_that_of_an_independent_implementation() -> None:
    values = np.random.default_rng(0).random((20, 30))
    cross = ndimage.generate_binary_structure(2, 1)

    def eroded(image: np.ndarray) -> np.ndarray:
        found: np.ndarray = ndimage.grey_erosion(image, footprint=cross, mode="nearest")
        return found

    def ridges(image: np.ndarray) -> np.ndarray:
        opened = ndimage.grey_dilation(eroded(image), size=3, mode="nearest")
        return np.maximum(image - opened, 0)

    expected, image = ridges(values), values
    for _ in range(6):
        image = eroded(image)
        expected = expected + (1 - expected) * ridges(image)
    found = soft_skeleton(torch.from_numpy(values)[None, None].float())
    assert np.allclose(found[0, 0].numpy(), expected, atol=1e-5)


def test_the_skeleton_of_a_bar_is_its_middle_row() -> None:
    skeleton = soft_skeleton(sure(line(10, 13))[:, 1:] / 40)[0, 0]
    assert skeleton[11, 6:34].min() == 1
    assert skeleton[[9, 10, 12, 13], 6:34].max() == 0


def test_what_is_said_of_ignored_pixels_changes_nothing() -> None:
    loss, truth = SoftClDice((1,), IGNORED), line(10, 13)
    truth[:, :, 20:] = IGNORED
    one, other = sure(line(10, 13)), sure(line(10, 13))
    other[:, :, :, 20:] = other[:, :, :, 20:].flip(1)
    assert loss(one, truth) == loss(other, truth)
    scores = torch.randn(1, 2, *SIZE, requires_grad=True)
    loss(scores, truth).backward()
    assert scores.grad is not None
    assert not scores.grad[..., 20:].any() and scores.grad[..., :20].any()


def test_an_ignored_crop_and_one_without_the_class_give_zero() -> None:
    loss, scores = SoftClDice((1,), IGNORED), torch.randn(1, 2, *SIZE, requires_grad=True)
    for truth in (torch.full((1, *SIZE), IGNORED), torch.zeros(1, *SIZE, dtype=torch.long)):
        found = loss(scores, truth)
        found.backward()
        assert found.item() == 0
        assert scores.grad is not None and not scores.grad.any()


SPACE = LabelSpace.build({0: "back", 1: "artery", 2: "vein"}, None, None, found_ids=[0, 1, 2])


def test_it_is_of_the_named_classes_or_of_all_but_the_most_frequent() -> None:
    pixels, settings = [10, 2000, 30], ["decoder_head.type=dense", "train.cldice_weight=0.5"]
    truth = line(10, 13)
    terms = build_criterion(load_config(settings), SPACE, pixels)(PixelOutput(sure(truth, 3)), truth)
    assert "loss_cldice" in terms
    # Class 1 is the most frequent here: that it is missed costs nothing.
    missed = sure(torch.zeros_like(truth), 3)
    assert build_criterion(load_config(settings), SPACE, pixels)(PixelOutput(missed), truth)["loss_cldice"] == 0
    named = build_criterion(load_config([*settings, "train.cldice_classes=[artery]"]), SPACE, pixels)
    assert named(PixelOutput(missed), truth)["loss_cldice"].item() == pytest.approx(0.5, abs=0.05)
    assert "loss_cldice" not in build_criterion(load_config(settings[:1]), SPACE, pixels)(PixelOutput(missed), truth)
    twice = build_criterion(load_config([*settings, "train.cldice_classes=[artery,artery]"]), SPACE, pixels)
    assert twice(PixelOutput(missed), truth)["loss_cldice"] == named(PixelOutput(missed), truth)["loss_cldice"]
    with pytest.raises(ValueError, match=r"train\.cldice_classes is empty; name the thin classes, or leave it out"):
        build_criterion(load_config([*settings, "train.cldice_classes=[]"]), SPACE, pixels)
    with pytest.raises(ValueError, match=r"train\.cldice_weight=0\.5 is for heads that score pixels"):
        load_config(["decoder_head.type=m2f", "train.cldice_weight=0.5"])
    # A wrong name is wrong without a weight, too.
    with pytest.raises(ValueError, match=r"names 'nerve'"):
        build_criterion(load_config(["train.cldice_classes=[nerve]"]), SPACE, pixels)
    with pytest.raises(ValueError, match=r"train\.cldice_classes names 'nerve', which is no class; use some of back"):
        build_criterion(load_config([*settings, "train.cldice_classes=[nerve]"]), SPACE, pixels)


@pytest.mark.parametrize("loss", [lambda scores, truth: dice(scores, truth, IGNORED), SoftClDice((1,), IGNORED)])
def test_a_class_that_one_of_two_processes_holds_weighs_as_in_one(
    loss: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = torch.cat([line(10, 13), torch.full((1, *SIZE), IGNORED)])
    scores = torch.randn(2, 2, *SIZE, requires_grad=True, generator=torch.Generator().manual_seed(0))
    (whole,) = torch.autograd.grad(loss(scores, truth), scores)

    def halved(value: Tensor) -> Tensor:
        return value.float() / 2  # what the other process counts is zero

    for module in ("pixel", "cldice"):
        monkeypatch.setattr(f"dinoseg.losses.{module}.mean_over_processes", halved)
    # The gradients of the two processes are averaged.
    (part,) = torch.autograd.grad(loss(scores[:1], truth[:1]) / 2, scores)
    assert torch.allclose(part[:1], whole[:1], rtol=1e-4) and whole[:1].any()
