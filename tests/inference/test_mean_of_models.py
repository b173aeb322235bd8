"""The mean of several models in the window engine: stripes and memory change nothing, and no model is held whole."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dinoseg.inference import judged_rows
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.tta import TtaPolicy
from dinoseg.inference.windows import Sight, mean_class_map, mean_scores, predict_class_map
from dinoseg.models.head import class_probabilities

CPU = torch.device("cpu")


class ColourModel:
    """Scores that depend on the colour and, a little, on the place in the window."""

    def __init__(self, seed: int, scores_are_probabilities: bool = False) -> None:
        self.num_classes = 4
        self.scores_are_probabilities = scores_are_probabilities
        self._weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))

    def semantic_logits(self, image: Tensor) -> Tensor:
        scores = torch.einsum("kc,bchw->bkhw", self._weights, image)
        scores = scores + torch.linspace(0, 0.4, image.shape[-1]) + torch.linspace(0, 0.2, image.shape[-2])[:, None]
        return scores.sigmoid() if self.scores_are_probabilities else scores


def _sights(height: int = 70, width: int = 50) -> list[Sight]:
    """Raw scores in windows, sums of probabilities of the resized whole, and views of a raw one."""
    image = torch.randn(3, height, width, generator=torch.Generator().manual_seed(9))
    slide = WindowPolicy(crop=(32, 24), stride=(20, 15), blend="hann", batch_size=2)
    views = WindowPolicy(crop=(24, 24), stride=(16, 16), batch_size=2, tta=TtaPolicy(scales=(0.7, 1.0)))
    return [
        Sight(ColourModel(1), image, slide),
        Sight(ColourModel(2, True), 2 * image - 1, WindowPolicy(mode="whole", img_size=64)),
        Sight(ColourModel(3), image, views),
    ]


def _alone(sight: Sight) -> Tensor:
    return mean_scores([sight], CPU)


def test_scores_become_probabilities_by_what_the_head_says_they_are() -> None:
    scores = torch.tensor([[[1.0, 0.5, 0.0]], [[3.0, 0.5, 0.0]]])
    torch.testing.assert_close(class_probabilities(scores, True), torch.tensor([[[0.25, 0.5, 0]], [[0.75, 0.5, 0]]]))
    torch.testing.assert_close(class_probabilities(scores, False), scores.softmax(dim=0))


def test_each_model_says_in_the_mean_what_it_says_alone() -> None:
    sights = _sights()
    raw, sums, views = map(_alone, sights)
    torch.testing.assert_close(views.sum(dim=0), torch.ones(70, 50))
    assert (sums.sum(dim=0) - 1).abs().max() > 0.1
    expected = (raw.softmax(dim=0) + sums / sums.sum(dim=0) + views) / 3
    torch.testing.assert_close(mean_scores(sights, CPU), expected)
    assert torch.equal(mean_class_map(sights, CPU).long(), mean_scores(sights, CPU).argmax(dim=0))
    torch.testing.assert_close(mean_scores(sights[::-1], CPU), expected)


def test_one_model_keeps_its_scores() -> None:
    sight = _sights()[0]
    found = predict_class_map(sight.model, sight.image, sight.policy, device="cpu")
    assert torch.equal(mean_class_map([sight], CPU), found)
    assert _alone(sight).min() < 0


@pytest.mark.parametrize("held_bytes", [1, 1 << 30])
@pytest.mark.parametrize("rows", [1, 13, 70])
def test_stripes_do_not_change_the_mean(rows: int, held_bytes: int) -> None:
    sights = _sights()
    expected = mean_class_map(sights, CPU, stripe_rows=70)
    assert torch.equal(mean_class_map(sights, CPU, stripe_rows=rows, held_bytes=held_bytes), expected)
    resized = mean_class_map(sights, CPU, (35, 90), stripe_rows=rows, held_bytes=held_bytes)
    assert torch.equal(resized.long(), mean_scores(sights, CPU, (35, 90)).argmax(dim=0))


@pytest.mark.parametrize("keep", [True, False])
def test_memory_holds_rows_of_each_model_and_a_stripe_of_the_mean(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[int, ...]] = []
    stripes: list[int] = []
    empty, probabilities = torch.empty, judged_rows.class_probabilities

    def measured(*size: Any, **options: Any) -> Tensor:
        result = empty(*size, **options)
        held.extend([tuple(result.shape)] if result.ndim == 3 else [])
        return result

    def counted(scores: Tensor, *more: Any) -> Tensor:
        stripes.append(scores.shape[1])
        return probabilities(scores, *more)

    sights = [sight for sight in _sights(2000, 40) if sight.policy.mode == "slide"]
    _refuse_large_results(monkeypatch, 2000)
    monkeypatch.setattr(torch, "empty", measured)
    monkeypatch.setattr(judged_rows, "class_probabilities", counted)
    mean_class_map(sights, CPU, stripe_rows=8, held_bytes=1 << 30 if keep else 1)
    # Rings of rows, one for each scale of each model, whatever the height; then stripes of the mean.
    assert [shape[0] for shape in held] == [4, 4, 4]
    assert max(shape[1] for shape in held) <= (32 + 8 + 2 if keep else 8 + 2)
    assert max(stripes) == 8 and len(stripes) == 2 * 250


def _refuse_large_results(monkeypatch: pytest.MonkeyPatch, height: int) -> None:
    """No operation that adds up or divides may see scores of the whole image."""
    for name in ("add_", "div_"):
        original: Callable[..., Tensor] = getattr(Tensor, name)

        def checked(self: Tensor, *more: Any, original: Callable[..., Tensor] = original) -> Tensor:
            assert self.ndim < 3 or self.shape[-2] < height
            return original(self, *more)

        monkeypatch.setattr(Tensor, name, checked)
