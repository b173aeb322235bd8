"""The mask-classification loss equals a naive one; ignored pixels, empty images and other processes change nothing."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from helpers.two_processes import in_two_processes
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from dinoseg.config import Mask2FormerTrainConfig
from dinoseg.losses.mask_classification import MaskClassificationLoss
from dinoseg.losses.points import PointSettings, SampledPoints, sample_points
from dinoseg.models.mask_output import MaskOutput

IGNORE, CLASSES = 255, 5
STAGES, QUERIES, DIM, SIZE = 3, 7, 8, 32
NAMES = ("class_logits", "mask_embeddings", "mask_biases", "mask_features")


def make_output(batch: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> MaskOutput:
    generator = torch.Generator().manual_seed(seed)
    staged = (STAGES, batch, QUERIES)
    shapes = [(*staged, CLASSES + 1), (*staged, DIM), staged, (batch, DIM, SIZE // 4, SIZE // 4)]
    return MaskOutput(*[torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes])


def make_class_map(batch: int, seed: int = 0) -> Tensor:
    """Blobs of classes of which no image holds all, a quarter of the pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, CLASSES - 1, (batch, 1, 4, 4), generator=generator).float()
    class_map = functional.interpolate(coarse, size=(SIZE, SIZE), mode="nearest")[:, 0].long()
    class_map[torch.rand(class_map.shape, generator=generator) < 0.25] = IGNORE
    return class_map


def make_criterion(num_points: int = 200, class_weights: Tensor | None = None) -> MaskClassificationLoss:
    return MaskClassificationLoss(
        num_classes=CLASSES,
        ignore_index=IGNORE,
        settings=Mask2FormerTrainConfig(num_points=num_points),
        class_weights=class_weights,
    )


def draw(class_map: Tensor, num_points: int = 200, seed: int = 0) -> SampledPoints:
    torch.manual_seed(seed)
    return sample_points(class_map != IGNORE, PointSettings(num_points))


def gradients(terms: dict[str, Tensor], output: MaskOutput) -> list[Tensor]:
    return list(torch.autograd.grad(sum(terms.values()), [getattr(output, name) for name in NAMES]))


def rows(record: MaskOutput | SampledPoints, images: slice) -> dict[str, Tensor]:
    """The fields of a record for some images of the batch."""
    staged = ("class_logits", "mask_embeddings", "mask_biases")
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value[:, images] if name in staged else value[images] for name, value in values.items()}


def naive_loss(
    output: MaskOutput, class_map: Tensor, points: SampledPoints, weights: Tensor, num_points: int
) -> dict[str, Tensor]:
    """Stage by stage, image by image, mask by mask, on whole masks at full resolution, from the formulas."""
    class_loss = mask_loss = dice_loss = torch.zeros(())
    masks = sum(len(image[image != IGNORE].unique()) for image in class_map)
    for stage in range(STAGES):
        products = torch.einsum("bqd,bdhw->bqhw", output.mask_embeddings[stage], output.mask_features)
        masks_quarter = products + output.mask_biases[stage, :, :, None, None]
        masks_full = functional.interpolate(masks_quarter, size=class_map.shape[1:], mode="bilinear").flatten(2)
        targets = torch.full((len(class_map), QUERIES), CLASSES)
        for b, truth in enumerate(class_map.flatten(1)):
            present = truth[truth != IGNORE].unique()
            at = points.matching[b]
            cost = torch.zeros(QUERIES, len(present))
            for q in range(QUERIES):
                for t, label in enumerate(present):
                    x, y = masks_full[b, q, at], (truth[at] == label).float()
                    bce = functional.binary_cross_entropy_with_logits(x, y)
                    probability = output.class_logits[stage, b, q].softmax(0)[label]
                    cost[q, t] = 5 * bce + 5 * naive_dice(x, y) - 2 * probability
            for q, t in zip(*linear_sum_assignment(cost.detach().numpy()), strict=True):
                targets[b, q] = present[t]
                candidates = masks_full[b, q, points.candidates[b]].abs()
                hardest = points.candidates[b][candidates.argsort()[: int(0.75 * num_points)]]
                at = torch.cat([hardest, points.remainder[b]])
                x, y = masks_full[b, q, at], (truth[at] == present[t]).float()
                mask_loss = mask_loss + functional.binary_cross_entropy_with_logits(x, y) / masks
                dice_loss = dice_loss + naive_dice(x, y) / masks
        class_loss = class_loss + functional.cross_entropy(
            output.class_logits[stage].flatten(0, 1), targets.flatten(), weight=weights
        )
    return {"loss_class": 2 * class_loss, "loss_mask": 5 * mask_loss, "loss_dice": 5 * dice_loss}


def naive_dice(x: Tensor, y: Tensor) -> Tensor:
    return 1 - (2 * (x.sigmoid() * y).sum() + 1) / (x.sigmoid().sum() + y.sum() + 1)


@pytest.mark.parametrize("class_weights", [None, torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1])])
def test_equals_a_naive_loss_with_its_gradients(class_weights: Tensor | None) -> None:
    output, class_map = make_output(2), make_class_map(2)
    points = draw(class_map)
    weights = torch.cat([torch.ones(CLASSES) if class_weights is None else class_weights, torch.tensor([0.1])])
    found = make_criterion(class_weights=class_weights)(output, class_map, points)
    expected = naive_loss(output, class_map, points, weights, 200)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=0)
    for ours, theirs in zip(gradients(found, output), gradients(expected, output), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def with_ignored_logits_changed(class_map: Tensor) -> tuple[MaskOutput, MaskOutput]:
    """Two full-resolution predictions that differ on ignored pixels, and there by a lot."""
    generator = torch.Generator().manual_seed(3)
    output = make_output(len(class_map))
    features = torch.randn(len(class_map), DIM, SIZE, SIZE, generator=generator)
    noise = 50 * torch.randn(features.shape, generator=generator)
    changed = torch.where((class_map == IGNORE)[:, None], noise, features)
    pair = [replace(output, mask_features=value.requires_grad_()) for value in (features, changed)]
    return pair[0], pair[1]


def test_a_prediction_on_ignored_pixels_changes_no_term_no_match_no_gradient() -> None:
    class_map = make_class_map(2)
    before, after = with_ignored_logits_changed(class_map)
    criterion, found = make_criterion(), []
    for output in (before, after):
        torch.manual_seed(0)
        found.append(criterion(output, class_map))
    for name, value in found[0].items():
        assert torch.equal(found[1][name], value)
    points, classes = draw(class_map), criterion.present_classes(class_map, QUERIES)
    matches = [criterion.match([output], class_map, classes, points)[0] for output in (before, after)]
    assert all(torch.equal(*pair) for pair in zip(*matches, strict=True))
    for old, new in zip(gradients(found[0], before), gradients(found[1], after), strict=True):
        assert torch.equal(old, new)
        assert old.abs().max() > 0


def test_features_behind_ignored_pixels_only_get_no_gradient() -> None:
    output, class_map = make_output(1), make_class_map(1)
    class_map[:, :, 12:] = IGNORE
    # Column 2 of the features takes part in pixels up to 12; from column 4 on, only in pixels from 14 on.
    gradient = gradients(make_criterion()(output, class_map), output)[-1]
    assert (gradient[..., 4:] == 0).all()
    assert (gradient[..., :3] != 0).any(dim=1).all()


@pytest.mark.parametrize("empty", [1, 2])
def test_images_without_a_valid_pixel_train_nothing(empty: int) -> None:
    output, class_map = make_output(2), make_class_map(2)
    class_map[2 - empty :] = IGNORE
    points = draw(class_map)
    terms = make_criterion()(output, class_map, points)
    found = gradients(terms, output)
    assert all(torch.isfinite(gradient).all() for gradient in found)
    for gradient, image_axis in zip(found, (1, 1, 1, 0), strict=True):
        assert (gradient.movedim(image_axis, 0)[2 - empty :] == 0).all()
    if empty == 2:
        assert all(value == 0 for value in terms.values())
    else:
        # Not even by the divisors: the loss is that of the other image alone.
        alone = MaskOutput(**rows(output, slice(0, 1)))
        expected = make_criterion()(alone, class_map[:1], SampledPoints(**rows(points, slice(0, 1))))
        for name, value in terms.items():
            torch.testing.assert_close(value, expected[name])


def test_more_classes_than_queries_is_an_error() -> None:
    output = make_output(1)
    few = replace(output, **{name: getattr(output, name)[:, :, :2] for name in NAMES[:-1]})
    class_map = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    class_map[:, 4:] = 1
    class_map[:, 8:] = 3
    with pytest.raises(
        ValueError, match=r"holds 3 classes, but the head has 2 queries; give decoder_head.num_queries=3"
    ):
        make_criterion()(few, class_map)


def test_batch_mates_act_through_the_divisors_only() -> None:
    output, class_map = make_output(2), make_class_map(2)
    points, criterion = draw(class_map), make_criterion()
    counts = [len(image[image != IGNORE].unique()) for image in class_map]
    weights = [count + 0.1 * (QUERIES - count) for count in counts]
    whole, parts = criterion(output, class_map, points), []
    for image in (slice(0, 1), slice(1, 2)):
        alone = MaskOutput(**rows(output, image))
        parts.append(criterion(alone, class_map[image], SampledPoints(**rows(points, image))))
    for name, shares in [("loss_class", weights), ("loss_mask", counts), ("loss_dice", counts)]:
        mean = sum(part[name] * share for part, share in zip(parts, shares, strict=True)) / sum(shares)
        torch.testing.assert_close(whole[name], mean)


def test_class_weights_act_on_the_class_term_alone() -> None:
    output, class_map = make_output(2), make_class_map(2)
    points = draw(class_map)
    equal = make_criterion()(output, class_map, points)
    weighted = make_criterion(class_weights=torch.tensor([9.0, 1.0, 1.0, 1.0, 1.0]))(output, class_map, points)
    assert not torch.isclose(equal["loss_class"], weighted["loss_class"], rtol=1e-3)
    assert torch.equal(equal["loss_mask"], weighted["loss_mask"])
    assert torch.equal(equal["loss_dice"], weighted["loss_dice"])


def test_class_weights_of_another_length_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"class weights of shape \(3,\) for 5 classes"):
        make_criterion(class_weights=torch.ones(3))


def test_low_precision_inputs_are_computed_in_fp32() -> None:
    class_map = make_class_map(2)
    points, low = draw(class_map), make_output(2, dtype=torch.bfloat16)
    high = MaskOutput(*[getattr(low, name).detach().float().requires_grad_() for name in NAMES])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = make_criterion()(low, class_map, points)
    expected = make_criterion()(high, class_map, points)
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], value)
    for ours, theirs in zip(gradients(found, low), gradients(expected, high), strict=True):
        assert torch.equal(ours, theirs.bfloat16())


def test_a_seed_gives_the_loss_and_another_seed_another() -> None:
    output, class_map = make_output(1), make_class_map(1)
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(make_criterion(50)(output, class_map)["loss_mask"].item())
    assert values[0] == values[1] != values[2]


def test_a_good_prediction_costs_less_than_a_bad_one() -> None:
    """One-hot features: query c draws class c exactly, with logits 20 inside and -20 outside."""
    class_map = torch.arange(4).repeat_interleave(SIZE // 4).expand(1, SIZE, SIZE).contiguous()
    features = 40.0 * functional.one_hot(class_map, DIM).permute(0, 3, 1, 2)
    biases = torch.full((STAGES, 1, QUERIES), -20.0)
    embeddings = torch.zeros(STAGES, 1, QUERIES, DIM)
    logits = torch.zeros(STAGES, 1, QUERIES, CLASSES + 1)
    for query in range(QUERIES):
        label = query if query < 4 else CLASSES
        logits[:, :, query, label] = 30
        if query < 4:
            embeddings[:, :, query, query] = 1
    good = make_criterion()(MaskOutput(logits, embeddings, biases, features), class_map)
    assert max(value.item() for value in good.values()) < 1e-5
    bad = make_criterion()(MaskOutput(logits, embeddings.roll(1, dims=2), biases, features), class_map)
    assert sum(bad.values()) > 10


def _in_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    output, class_map = make_output(2), make_class_map(2)
    for case in ("both", "one"):
        if case == "one":
            class_map = _nearly_empty(class_map)
        half = slice(rank, rank + 1)
        points = SampledPoints(**rows(draw(class_map), half))
        terms = make_criterion()(MaskOutput(**rows(output, half)), class_map[half], points)
        torch.save((terms, gradients(terms, output)), f"{folder}/{case}{rank}.pt")
    torch.distributed.destroy_process_group()


def _nearly_empty(class_map: Tensor) -> Tensor:
    """One mask in the whole batch: fewer than there are processes."""
    class_map = torch.full_like(class_map, IGNORE)
    class_map[0, :9] = 2
    return class_map


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path: Path) -> None:
    in_two_processes(_in_process, str(tmp_path))
    output, class_map = make_output(2), make_class_map(2)
    for case, truth in (("both", class_map), ("one", _nearly_empty(class_map))):
        expected = make_criterion()(output, truth, draw(truth))
        halves = [torch.load(tmp_path / f"{case}{rank}.pt") for rank in (0, 1)]
        for name, value in expected.items():
            torch.testing.assert_close((halves[0][0][name] + halves[1][0][name]) / 2, value)
        for index, gradient in enumerate(gradients(expected, output)):
            torch.testing.assert_close((halves[0][1][index] + halves[1][1][index]) / 2, gradient)
