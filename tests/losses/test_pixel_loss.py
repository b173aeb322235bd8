"""Cross-entropy and Dice: values by hand, ignored pixels that are ignored, nothing valid means zero."""

import math

import pytest
import torch
from torch.nn import functional

from dinoseg.labels import LabelSpace
from dinoseg.losses.criterion import class_weights
from dinoseg.losses.pixel import PixelLoss, cross_entropy, dice
from dinoseg.models.head import PixelOutput

IGNORE = 255


def test_cross_entropy_by_hand() -> None:
    # Two valid pixels with probabilities 3/4 and 1/2 of the truth, one ignored pixel.
    logits = torch.tensor([[[[math.log(3.0), 0.0, 9.0]], [[0.0, 0.0, -9.0]]]])
    class_map = torch.tensor([[[0, 1, IGNORE]]])
    expected = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    assert cross_entropy(logits, class_map, IGNORE).item() == pytest.approx(expected, rel=1e-6)


def test_class_weights_weigh_and_normalise() -> None:
    logits = torch.tensor([[[[math.log(3.0), 0.0]], [[0.0, 0.0]]]])
    class_map = torch.tensor([[[0, 1]]])
    expected = -(1 * math.log(3 / 4) + 3 * math.log(1 / 2)) / 4
    assert cross_entropy(logits, class_map, IGNORE, torch.tensor([1.0, 3.0])).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_agrees_with_torch_on_random_maps() -> None:
    torch.manual_seed(0)
    logits, weights = torch.randn(2, 5, 7, 9), torch.rand(5) + 0.1
    class_map = torch.randint(0, 5, (2, 7, 9))
    class_map[torch.rand(2, 7, 9) < 0.3] = IGNORE
    for weight in (None, weights):
        expected = functional.cross_entropy(logits, class_map, weight=weight, ignore_index=IGNORE)
        torch.testing.assert_close(cross_entropy(logits, class_map, IGNORE, weight), expected)


def test_dice_by_hand() -> None:
    # Probabilities of class 1: 0.5, 0.5, ignored. Truth: class 0 at the first, class 1 at the second pixel.
    logits = torch.zeros(1, 2, 1, 3)
    class_map = torch.tensor([[[0, 1, IGNORE]]])
    # Each class: overlap 0.5, total 1 + 1.
    assert dice(logits, class_map, IGNORE).item() == pytest.approx(0.5)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0])])
def test_ignored_pixels_change_nothing(weights: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    class_map = torch.randint(0, 3, (1, 4, 4))
    class_map[0, :2] = IGNORE
    criterion = PixelLoss(ignore_index=IGNORE, celoss_weight=1.0, diceloss_weight=1.0, class_weights=weights)
    logits = torch.randn(1, 3, 4, 4)
    changed = logits.clone()
    changed[:, :, :2] += 100 * torch.randn(1, 3, 2, 4)
    changed.requires_grad_()
    before, after = criterion(PixelOutput(logits), class_map), criterion(PixelOutput(changed), class_map)
    assert {name: value.item() for name, value in before.items()} == {
        name: value.item() for name, value in after.items()
    }
    sum(after.values()).backward()
    assert changed.grad is not None
    assert changed.grad[:, :, :2].abs().max() == 0
    assert changed.grad[:, :, 2:].abs().max() > 0


def test_nothing_valid_gives_zero_and_zero_gradients() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    terms = PixelLoss(ignore_index=IGNORE, celoss_weight=1.0, diceloss_weight=1.0)(
        PixelOutput(logits), torch.full((1, 8, 8), IGNORE)
    )
    assert [term.item() for term in terms.values()] == [0.0, 0.0]
    sum(terms.values()).backward()
    assert logits.grad is not None and logits.grad.abs().max() == 0


def _space() -> LabelSpace:
    return LabelSpace.build({0: "background", 1: "artery", 2: "vein"}, None, None, found_ids=[0, 1, 2])


def test_auto_weights_are_inverse_square_roots_with_mean_one() -> None:
    weights = class_weights("auto", _space(), [900, 100, 0])
    assert weights is not None
    ratio = (weights[1] / weights[0]).item()
    assert ratio == pytest.approx(3.0)
    assert weights[:2].mean().item() == pytest.approx(1.0)
    assert weights[2].item() == 1.0


def test_named_weights_and_unknown_names() -> None:
    weights = class_weights({"vein": 2}, _space(), [1, 1, 1])
    assert weights is not None and weights.tolist() == [1.0, 1.0, 2.0]
    with pytest.raises(ValueError, match=r"train\.class_weights names 'vain'.*background, artery, vein"):
        class_weights({"vain": 2}, _space(), [1, 1, 1])
    with pytest.raises(ValueError, match=r"train.class_weights.vein='x'"):
        class_weights({"vein": "x"}, _space(), [1, 1, 1])
