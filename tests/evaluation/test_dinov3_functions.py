import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dinoseg.evaluation.dinov3_functions import (
    calculate_intersect_and_union,
    calculate_segmentation_metrics,
    evaluate_segmentation_model,
    make_inference,
)


class PixelModel(nn.Module):
    scores_are_probabilities = False
    num_classes = 3

    def semantic_logits(self, image: Tensor) -> Tensor:
        assert not self.training
        return image * torch.linspace(0.5, 1.5, image.shape[-1])  # the three channels are the three classes


def random_maps(num_classes: int, height: int, width: int, seed: int, highest: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, num_classes, (height, width), generator=generator)
    label = torch.randint(0, highest + 1, (height, width), generator=generator)
    return prediction, torch.where(torch.rand(height, width, generator=generator) < 0.2, 255, label)


def areas_by_sets(prediction: Tensor, label: Tensor, num_classes: int, shift: bool) -> list[list[int]]:
    """Intersection, union, prediction, label: sizes of sets of pixels."""
    pairs = enumerate(zip(prediction.flatten().tolist(), label.flatten().tolist(), strict=True))
    pixels = [(i, p, t - 1 if shift else t) for i, (p, t) in pairs if t != 255 and not (shift and t == 0)]
    rows = []
    for c in range(num_classes):
        predicted, true = {i for i, p, _ in pixels if p == c}, {i for i, _, t in pixels if t == c}
        rows.append([len(predicted & true), len(predicted | true), len(predicted), len(true)])
    return [list(column) for column in zip(*rows, strict=True)]


def share(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return share(sum(defined), len(defined))


maps = st.tuples(st.integers(1, 9), st.integers(1, 14), st.integers(1, 14), st.integers(0, 10_000))


@settings(max_examples=60, deadline=None)
@given(maps, st.booleans(), st.sampled_from([torch.uint8, torch.int64, torch.int32]))
def test_areas_are_sizes_of_sets_of_pixels(case: tuple[int, int, int, int], shift: bool, dtype: torch.dtype) -> None:
    prediction, label = random_maps(*case, highest=case[0] if shift else case[0] - 1)
    before = label.clone()
    areas = calculate_intersect_and_union(prediction.to(dtype), label.to(dtype), case[0], reduce_zero_label=shift)
    assert [area.tolist() for area in areas] == areas_by_sets(prediction, label, case[0], shift)
    assert torch.equal(label, before)


@settings(max_examples=60, deadline=None)
@given(st.lists(maps, min_size=1, max_size=4), st.integers(1, 9), st.sampled_from([0.5, 1.0, 2.0]))
def test_metrics_are_shares_of_summed_areas(cases: list[tuple], classes: int, beta: float) -> None:
    samples = [random_maps(classes, *case[1:], highest=classes - 1) for case in cases]
    results = [calculate_intersect_and_union(*sample, classes) for sample in samples]
    found = calculate_segmentation_metrics(results, ("mIoU", "dice", "fscore"), beta)
    by_sample = [areas_by_sets(*sample, classes, False) for sample in samples]
    both, union, predicted, true = ([sum(s[k][c] for s in by_sample) for c in range(classes)] for k in range(4))
    expected = {
        "IoU": [share(b, u) for b, u in zip(both, union, strict=True)],
        "Acc": [share(b, t) for b, t in zip(both, true, strict=True)],
        "Dice": [share(2 * b, p + t) for b, p, t in zip(both, predicted, true, strict=True)],
        "Precision": [share(b, p) for b, p in zip(both, predicted, strict=True)],
        "Recall": [share(b, t) for b, t in zip(both, true, strict=True)],
    }
    for name, values in expected.items():
        assert found[name].tolist() == pytest.approx(values, nan_ok=True)
        assert float(found[f"m{name}"]) == pytest.approx(mean(values), nan_ok=True)
    for c in range(classes):
        precision, recall = expected["Precision"][c], expected["Recall"][c]
        if precision > 0 and recall > 0:
            fscore = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
            assert float(found["Fscore"][c]) == pytest.approx(fscore)
        else:
            assert float(found["Fscore"][c]) == 0 or union[c] == 0
    assert float(found["aAcc"]) == pytest.approx(share(sum(both), sum(true)), nan_ok=True)


def test_predictions_outside_the_classes_count_for_no_class() -> None:
    areas = calculate_intersect_and_union(torch.tensor([0, 7, 1]), torch.tensor([0, 1, 1]), 2)
    assert areas.tolist() == [[1, 1], [1, 2], [1, 1], [1, 2]]


def test_only_the_metrics_asked_for_are_there() -> None:
    areas = [calculate_intersect_and_union(torch.tensor([0, 1]), torch.tensor([0, 1]), 2)]
    assert set(calculate_segmentation_metrics(areas)) == {"aAcc", "IoU", "Acc", "mIoU", "mAcc"}
    with pytest.raises(ValueError, match=r"metrics \['miou'\] are unknown; choose from \['mIoU', 'dice', 'fscore'\]"):
        calculate_segmentation_metrics(areas, ("miou",))
    with pytest.raises(ValueError, match="no sample"):
        calculate_segmentation_metrics([])


def test_inference_rescales_flips_back_and_activates() -> None:
    model, image = PixelModel().eval(), torch.rand(2, 3, 20, 30)
    scores = make_inference(image, model, rescale_to=(20, 30), n_output_channels=3)
    torch.testing.assert_close(scores, model.semantic_logits(image))
    assert make_inference(image, model, rescale_to=(41, 17), n_output_channels=3).shape == (2, 3, 41, 17)
    flipped = make_inference(
        image,
        model,
        rescale_to=(20, 30),
        n_output_channels=3,
        apply_horizontal_flip=True,
        output_activation=lambda s: s.softmax(1),
    )
    torch.testing.assert_close(flipped, model.semantic_logits(image).flip(-1).softmax(1))


def test_inference_slides_by_crop_and_stride() -> None:
    model, image = PixelModel().eval(), torch.rand(1, 3, 20, 30)
    scores = make_inference(image, model, "slide", "m2f", (20, 30), 3, crop_size=(20, 20), stride=(20, 10))
    left, right = (model.semantic_logits(image[..., start : start + 20]) for start in (0, 10))
    torch.testing.assert_close(scores[..., :10], left[..., :10])
    torch.testing.assert_close(scores[..., 10:20], (left[..., 10:] + right[..., :10]) / 2)


def test_a_wrong_number_of_output_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="n_output_channels is 150, but the model scores 3 classes"):
        make_inference(torch.rand(1, 3, 8, 8), PixelModel())


def test_evaluation_of_a_loader() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = []
    for size in ((24, 31), (17, 40), (33, 20)):
        image = torch.rand(1, 3, *size, generator=generator)
        label = image.argmax(dim=1)  # what the model gives: its factor along the width is the same for each class
        label[:, :, :4] = 255
        samples.append((image, label))
    wrong = (samples[0][0], (samples[0][1] + 1).clamp(max=2))
    figures = evaluate_segmentation_model(PixelModel().train(), samples, "cpu", 16, 11, num_classes=3)
    assert float(figures["mIoU"]) == float(figures["aAcc"]) == float(figures["mFscore"]) == 1
    options = {"num_classes": 3, "eval_mode": "whole"}
    both = evaluate_segmentation_model(PixelModel(), [*samples, wrong], "cpu", 16, 11, **options)
    assert float(both["aAcc"]) < 1
    first = evaluate_segmentation_model(PixelModel(), [*samples, wrong], "cpu", 16, 11, **options, max_samples=3)
    assert float(first["aAcc"]) == 1


def test_evaluation_averages_listed_views_and_mirrors_the_second_half_back() -> None:
    image = torch.rand(1, 3, 24, 31, generator=torch.Generator().manual_seed(0))
    label = image.argmax(dim=1)
    views = [image, image.flip(-1)]
    options = {"num_classes": 3, "eval_mode": "whole"}
    figures = evaluate_segmentation_model(PixelModel(), [(views, label)], "cpu", 16, 11, **options, use_tta=True)
    assert float(figures["aAcc"]) == 1
    unmirrored = evaluate_segmentation_model(PixelModel(), [(views, label)], "cpu", 16, 11, **options)
    assert float(unmirrored["aAcc"]) < 1


def test_evaluation_runs_the_model_under_autocast() -> None:
    class Recorder(PixelModel):
        def semantic_logits(self, image: Tensor) -> Tensor:
            assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
            return super().semantic_logits(image)

    sample = (torch.rand(1, 3, 20, 20), torch.zeros(1, 20, 20, dtype=torch.int64))
    figures = evaluate_segmentation_model(
        Recorder(), [sample], "cpu", 16, 11, num_classes=3, autocast_dtype=torch.bfloat16
    )
    assert 0 <= float(figures["aAcc"]) <= 1
