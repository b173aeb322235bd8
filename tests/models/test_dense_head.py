"""The dense head: every size, every parameter, and features where they belong."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from dinoseg.backbone import FeatureMap
from dinoseg.losses.pixel import PixelLoss
from dinoseg.models.dense_head import DenseHead, DenseOptions

WIDTHS = (8, 16, 16, 24)


def build(in_channels: tuple[int, ...] = (12, 12), **options: object) -> DenseHead:
    torch.manual_seed(0)
    return DenseHead(in_channels=in_channels, num_classes=3, options=DenseOptions(stem_widths=WIDTHS, **options))


def features(batch: int, *maps: tuple[int, int, int]) -> list[FeatureMap]:
    return [FeatureMap(torch.randn(batch, *shape), None) for shape in maps]


@pytest.mark.parametrize(("stride", "context"), [(1, ()), (2, (16, 8))])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (37, 61), (64, 40)])
def test_any_size_gets_a_score_a_pixel(size: tuple[int, int], stride: int, context: tuple[int, ...]) -> None:
    head = build(output_stride=stride, context_widths=context).eval()
    image = torch.randn(2, 3, *size)
    output = head(image, features(2, (12, 3, 5), (12, 3, 5)))
    assert output.auxiliary == ()
    assert head.semantic_logits(output, size).shape == (2, 3, *size)


@pytest.mark.parametrize(("stride", "context"), [(1, ()), (2, ()), (2, (16, 8))])
def test_every_parameter_learns_and_coarser_levels_are_supervised(stride: int, context: tuple[int, ...]) -> None:
    head = build(output_stride=stride, context_widths=context).train()
    output = head(torch.randn(2, 3, 45, 61), features(2, (12, 7, 9), (12, 7, 9)))
    assert [level.shape for level in output.auxiliary] == [(2, 3, 45, 61)] * 2
    terms = PixelLoss(ignore_index=255, diceloss_weight=1.0)(output, torch.randint(0, 3, (2, 45, 61)))
    assert set(terms) == {"loss_ce", "loss_dice", "loss_auxiliary"}
    sum(terms.values()).backward()
    assert [name for name, value in head.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_coarser_levels_without_weight_keep_several_processes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """DistributedDataParallel waits for a gradient of every parameter; alone, those levels have none."""
    head, loss = build().train(), PixelLoss(ignore_index=255, auxiliary_weight=0.0)
    image, seen, truth = (
        torch.randn(2, 3, 45, 61),
        features(2, (12, 7, 9), (12, 7, 9)),
        torch.randint(0, 3, (2, 45, 61)),
    )
    gradients = {}
    for processes in (1, 2):
        monkeypatch.setattr("dinoseg.losses.pixel.process_count", lambda count=processes: count)
        torch.manual_seed(0)
        head.zero_grad(set_to_none=True)
        torch.stack(list(loss(head(image, seen), truth).values())).sum().backward()
        gradients[processes] = {name: value.grad for name, value in head.named_parameters()}
    alone, together = gradients[1], gradients[2]
    unused = {name for name, gradient in alone.items() if gradient is None}
    assert unused == {f"classifiers.{level}.{part}" for level in (0, 1) for part in ("weight", "bias")}
    for name, gradient in together.items():
        assert torch.equal(gradient, torch.zeros_like(gradient) if name in unused else alone[name])


def test_layers_of_different_strides_are_taken_as_they_are() -> None:
    head = build((6, 12, 18)).eval()
    assert head(torch.randn(1, 3, 40, 40), features(1, (6, 10, 10), (12, 5, 5), (18, 2, 2))).logits.shape[-1] == 40


def test_ignored_pixels_have_no_gradient() -> None:
    head = build(dropout=0.0).train()
    seen, loss = features(1, (12, 4, 4), (12, 4, 4)), PixelLoss(ignore_index=255, diceloss_weight=1.0)
    output = head(torch.randn(1, 3, 32, 32), seen)
    class_map = torch.randint(0, 3, (1, 32, 32))
    class_map[:, :, 16:] = 255
    gradients = torch.autograd.grad(
        torch.stack(list(loss(output, class_map).values())).sum(), [output.logits, *output.auxiliary], retain_graph=True
    )
    assert all(not gradient[..., 16:].any() and gradient[..., :16].any() for gradient in gradients)
    nothing = loss(output, torch.full((1, 32, 32), 255))
    assert all(value == 0 for value in nothing.values())
    torch.stack(list(nothing.values())).sum().backward()
    assert all(not value.grad.any() for value in head.parameters() if value.grad is not None)


def test_features_meet_the_pixels_they_cover() -> None:
    """A bright cell of the features moves the scores around its own place most, at a size that wants padding, too."""
    head = build((1,), dropout=0.0).eval()
    for height, width in ((80, 80), (77, 93)):
        blank, image = torch.zeros(1, 1, 10, 10), torch.zeros(1, 3, height, width)
        lit = blank.clone()
        lit[0, 0, 7, 2] = 30.0
        with torch.no_grad():
            change = sum(
                (head(image, [FeatureMap(lit, None)]).logits - head(image, [FeatureMap(blank, None)]).logits).abs()[0]
            )
        smooth = functional.avg_pool2d(change[None, None], 9, stride=1, padding=4)[0, 0]
        row, column = divmod(int(smooth.argmax()), width)
        assert abs(row - 7.5 * height / 10) < 12 and abs(column - 2.5 * width / 10) < 12


def test_context_sees_further_and_draws_as_finely() -> None:
    """One changed pixel reaches scores at a distance through the levels below alone."""
    image, seen = torch.zeros(1, 3, 256, 16), [FeatureMap(torch.zeros(1, 1, 32, 2), None)]
    touched = image.clone()
    touched[0, :, 8, 8] = 50.0
    reach = {}
    for context in ((), (16, 16, 16)):
        head = build((1,), dropout=0.0, context_widths=context).eval()
        # Norms look at the whole map: without them, what is left is the reach of the convolutions.
        for name, module in list(head.named_modules()):
            if isinstance(module, nn.GroupNorm):
                head.set_submodule(name, nn.Identity())
        with torch.no_grad():
            change = (head(touched, seen).logits - head(image, seen).logits).abs().sum(dim=(0, 1, 3))
        reach[context] = int(change.nonzero().max())
        assert change[8] > 0
    assert reach[()] < 100 < 200 < reach[(16, 16, 16)]


@pytest.mark.parametrize("context", [(), (16, 16)])
def test_a_picture_is_learned_by_heart(context: tuple[int, ...]) -> None:
    head = build((4,), dropout=0.0, context_widths=context).train()
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(1, 3, 32, 32, generator=generator)
    truth = torch.randint(0, 3, (1, 8, 8), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    seen, loss = [FeatureMap(torch.randn(1, 4, 4, 4, generator=generator), None)], PixelLoss(ignore_index=255)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack(list(loss(head(image, seen), truth).values())).sum().backward()
        optimizer.step()
    assert (head(image, seen).logits.argmax(dim=1) == truth).float().mean() > 0.9


@pytest.mark.parametrize("widths", [(8, 16, 24), (8, 16, 24, 30), (0, 8, 8, 8)])
def test_widths_that_do_not_divide_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"decoder_head.stem_widths is .*; give four multiples of 8"):
        DenseHead(in_channels=(4,), num_classes=3, options=DenseOptions(stem_widths=widths))


@pytest.mark.parametrize("widths", [(8, 12), (8,) * 5, (0,)])
def test_context_that_does_not_divide_is_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"decoder_head.context_widths is .*; give up to four multiples of 8"):
        DenseHead(in_channels=(4,), num_classes=3, options=DenseOptions(context_widths=widths))


def test_some_crops_train_without_features_and_none_is_predicted_so() -> None:
    head = build(dropout=0.0, feature_dropout=0.5)
    image, seen = torch.randn(1, 3, 32, 32).expand(64, -1, -1, -1), features(1, (12, 4, 4), (12, 4, 4))
    repeated = [FeatureMap(feature.map.expand(64, -1, -1, -1), None) for feature in seen]
    with torch.no_grad():
        trained, predicted = head.train()(image, repeated).logits, head.eval()(image[:1], seen).logits
    as_predicted = torch.tensor([torch.allclose(scores, predicted[0], atol=1e-5) for scores in trained])
    # The others are alike: they all had the image alone.
    assert 16 < as_predicted.sum() < 48
    assert torch.allclose(trained[~as_predicted], trained[~as_predicted][:1], atol=1e-5)
