from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.backbone import FeatureMap
from dinoseg.config.loading import load_config
from dinoseg.data.window_axis import window_starts
from dinoseg.inference.accumulator import WindowGrid
from dinoseg.inference.blending import pixel_weights, total_weights
from dinoseg.inference.policy import WindowPolicy, window_policy
from dinoseg.inference.tta import TtaPolicy
from dinoseg.inference.windows import infer_scores, predict_class_map

BLENDS = ("uniform", "gaussian", "hann")


@pytest.fixture(scope="module", autouse=True)
def uninitialised_memory_is_nan() -> Iterator[None]:
    """A score that no window gave would show."""
    torch.use_deterministic_algorithms(True)  # among other things it fills what torch.empty gives with NaN
    yield
    torch.use_deterministic_algorithms(False)


class PixelModel(nn.Module):
    """Scores that depend on the pixel alone: windows must not matter."""

    scores_are_probabilities = False

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.weights = nn.Parameter(torch.randn(num_classes, 3, generator=torch.Generator().manual_seed(0)))
        self.windows_seen: list[tuple[int, ...]] = []

    def semantic_logits(self, image: Tensor) -> Tensor:
        self.windows_seen.append(tuple(image.shape))
        return torch.einsum("kc,bchw->bkhw", self.weights, image)


class PatchModel(PixelModel):
    """Scores that depend on the patch and on its place in the window, channels last: as of a ViT."""

    def __init__(self, num_classes: int = 4, patch: int = 16) -> None:
        super().__init__(num_classes)
        self.patch = patch

    def semantic_logits(self, image: Tensor) -> Tensor:
        height, width = (-(-side // self.patch) * self.patch for side in image.shape[-2:])
        resized = functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
        patches = functional.avg_pool2d(resized, self.patch)
        patches = (
            patches + torch.linspace(0, 0.3, patches.shape[-1]) + torch.linspace(0, 0.5, patches.shape[-2])[:, None]
        )
        scores = super().semantic_logits(patches).contiguous(memory_format=torch.channels_last)
        return functional.interpolate(scores, image.shape[-2:], mode="bilinear", align_corners=False)


def picture(height: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 400), st.integers(1, 150), st.data())
def test_windows_cover_every_pixel_and_stay_inside(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    starts = window_starts(length, window, stride)
    counts = [sum(start <= pixel < start + window for start in starts) for pixel in range(length)]
    assert min(counts) >= 1
    assert starts == (0,) if length <= window else starts[-1] + window == length
    assert all(0 < after - before <= stride for before, after in pairwise(starts))
    assert total_weights(length, starts, pixel_weights(window, "uniform")).tolist() == counts


@pytest.mark.parametrize(("size", "batch_size", "sizes"), [((90, 300), 4, [4, 2, 4, 2]), ((90, 100), 4, [4])])
def test_batches_stay_within_a_row_of_windows_that_fills_one(
    size: tuple[int, int], batch_size: int, sizes: list[int]
) -> None:
    grid = WindowGrid.over(size, (64, 64), (48, 48), batch_size)
    assert [len(batch) for batch in grid.batches] == sizes
    assert [place for batch in grid.batches for place in batch] == [(t, x) for t in grid.tops for x in grid.lefts]


@pytest.mark.parametrize("blend", BLENDS)
def test_pixel_weights_are_symmetric_positive_and_largest_in_the_middle(blend: str) -> None:
    weights = pixel_weights(9, blend)
    assert torch.equal(weights, weights.flip(0))
    assert weights.min() > 0 and weights.max() == weights[4] == 1


@pytest.mark.parametrize("size", [(37, 53), (500, 333), (17, 1200)])
@pytest.mark.parametrize("crop", [(126, 98), (128, 96)])  # multiples of patch 14 and of patch 16
@pytest.mark.parametrize("blend", BLENDS)
def test_slide_equals_whole_for_a_per_pixel_model(size: tuple[int, int], crop: tuple[int, int], blend: str) -> None:
    model, image = PixelModel(), picture(*size)
    whole = infer_scores(model, image, WindowPolicy(mode="whole"))
    torch.testing.assert_close(whole, model.semantic_logits(image[None])[0], rtol=0, atol=0)
    policy = WindowPolicy(crop=crop, stride=(85, 61), blend=blend)
    torch.testing.assert_close(infer_scores(model, image, policy), whole, rtol=1e-5, atol=1e-5)
    assert predict_class_map(model, image, policy).shape == size


def test_a_short_side_is_padded_with_zeros_to_the_crop_and_cut_off_again() -> None:
    model = PatchModel()
    image = picture(20, 100)
    padded = torch.zeros(3, 64, 64)
    padded[:, :20] = image[:, :, :64]
    scores = infer_scores(model, image[:, :, :64], WindowPolicy(crop=(64, 64), stride=(64, 64)))
    assert model.windows_seen[-1][-2:] == (4, 4)  # 64 x 64 pixels in patches of 16
    torch.testing.assert_close(scores, model.semantic_logits(padded[None])[0][:, :20], rtol=0, atol=0)


def test_overlapping_windows_are_averaged_by_their_weights() -> None:
    model, image = PatchModel(), picture(32, 48)
    left, right = (model.semantic_logits(image[None, :, :, start : start + 32])[0] for start in (0, 16))
    scores = infer_scores(model, image, WindowPolicy(crop=(32, 32), stride=(16, 16)))
    torch.testing.assert_close(scores[:, :, :16], left[:, :, :16])
    torch.testing.assert_close(scores[:, :, 16:32], (left[:, :, 16:] + right[:, :, :16]) / 2)
    weights = pixel_weights(32, "hann")
    expected = (left[:, :, 16:] * weights[16:] + right[:, :, :16] * weights[:16]) / (weights[16:] + weights[:16])
    scores = infer_scores(model, image, WindowPolicy(crop=(32, 32), stride=(16, 16), blend="hann"))
    torch.testing.assert_close(scores[:, :, 16:32], expected)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(5, 150),
    width=st.integers(5, 150),
    native=st.none() | st.tuples(st.integers(5, 200), st.integers(5, 200)),
    img_size=st.none() | st.integers(20, 90),
    scales=st.none() | st.just((0.7, 1.0)),
    blend=st.sampled_from(BLENDS),
    batch_size=st.integers(1, 5),
    stripe_rows=st.integers(1, 60),
    held_bytes=st.sampled_from([1, 1 << 30]),
)
def test_stripes_do_not_change_a_single_bit(
    height, width, native, img_size, scales, blend, batch_size, stripe_rows, held_bytes
) -> None:
    model, image = PatchModel(), picture(height, width)
    tta = None if scales is None else TtaPolicy(scales, right_angle_rotations=True)
    policy = WindowPolicy("slide", (48, 32), (29, 32), batch_size, blend, img_size, tta)
    scores = infer_scores(model, image, policy, native)
    assert scores.isfinite().all()
    unstriped = scores.argmax(dim=0)
    striped = predict_class_map(model, image, policy, native, stripe_rows=stripe_rows, held_bytes=held_bytes)
    assert torch.equal(striped.long(), unstriped)


def test_each_window_is_scored_once_unless_memory_forbids_to_keep_it() -> None:
    image, policy = picture(200, 90), WindowPolicy(crop=(64, 64), stride=(40, 40), batch_size=1)
    model = PixelModel()
    kept = predict_class_map(model, image, policy, stripe_rows=20)
    assert len(model.windows_seen) == len(window_starts(200, 64, 40)) * len(window_starts(90, 64, 40))
    model.windows_seen.clear()
    assert torch.equal(predict_class_map(model, image, policy, stripe_rows=20, held_bytes=1), kept)
    assert len(model.windows_seen) > 20


@pytest.mark.parametrize(
    "policy", [WindowPolicy(mode="whole"), WindowPolicy(crop=(200, 90), stride=(20, 20), blend="hann")]
)
def test_an_image_in_one_window_is_scored_once_whatever_the_memory(policy: WindowPolicy) -> None:
    model, image = PixelModel(), picture(200, 90)
    class_map = predict_class_map(model, image, policy, stripe_rows=20, held_bytes=1)
    assert len(model.windows_seen) == 1
    assert torch.equal(class_map.long(), model.semantic_logits(image[None])[0].argmax(dim=0))


@pytest.mark.parametrize("keep", [True, False])
def test_memory_holds_a_row_of_windows_of_a_tall_image_not_all_of_it(
    keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0
    empty = torch.empty

    def measured(*size, **options):
        nonlocal largest
        result = empty(*size, **options)
        if result.ndim == 3:  # rows of scores
            largest = max(largest, result.shape[1])
        return result

    monkeypatch.setattr(torch, "empty", measured)
    policy = WindowPolicy(crop=(32, 32), stride=(20, 20), batch_size=2)
    predict_class_map(
        PixelModel(), picture(2000, 40), policy, stripe_rows=8, held_bytes=1 << 30 if keep else 1, device="cpu"
    )
    assert largest == (32 + 8 if keep else 8)


def test_img_size_resizes_the_short_side_and_scores_come_back_at_native_size() -> None:
    model, image = PatchModel(), picture(60, 90)
    scores = infer_scores(model, image, WindowPolicy(mode="whole", img_size=120))
    assert model.windows_seen[-1][-2:] == (8, 12)  # patches of 16 in 120 x 180
    view = functional.interpolate(image[None], (120, 180), mode="bilinear", antialias=True)
    expected = functional.interpolate(model.semantic_logits(view), (60, 90), mode="bilinear")[0]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    assert infer_scores(model, image, WindowPolicy(mode="whole"), native_size=(31, 77)).shape == (4, 31, 77)


@pytest.mark.parametrize(("rotations", "views"), [(False, 2), (True, 8)])
def test_augmentation_averages_probabilities_over_orientations(rotations: bool, views: int) -> None:
    model, image = PatchModel(), picture(48, 32)
    policy = WindowPolicy(mode="whole", tta=TtaPolicy(right_angle_rotations=rotations))
    probabilities = []
    for turns in range(4 if rotations else 1):
        for flipped in (False, True):
            view = torch.rot90(image, turns, (1, 2))
            scores = model.semantic_logits((view.flip(2) if flipped else view)[None])[0].softmax(dim=0)
            probabilities.append(torch.rot90(scores.flip(2) if flipped else scores, -turns, (1, 2)))
    model.windows_seen.clear()
    torch.testing.assert_close(infer_scores(model, image, policy), torch.stack(probabilities).mean(dim=0))
    assert len(model.windows_seen) == views


class TwoParts(PixelModel):
    """Scores of a pixel from the image and from features that say where the backbone stood."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def features(self, image: Tensor) -> list[FeatureMap]:
        self.calls += 1
        rows = torch.arange(image.shape[-2]).float()[None, None, :, None].expand(len(image), 4, -1, image.shape[-1])
        return [FeatureMap(rows / 10, None)]

    def semantic_logits(self, image: Tensor, features: list[FeatureMap] | None = None) -> Tensor:
        known = self.features(image) if features is None else features
        return super().semantic_logits(image) * known[0].map


def test_a_backbone_that_sees_once_has_its_features_turned_along() -> None:
    model, image = TwoParts(), picture(24, 16)
    upright = model.features(image[None])[0].map
    expected = (PixelModel.semantic_logits(model, image[None]) * upright).softmax(dim=1)[0]
    model.calls = 0
    tta = TtaPolicy(right_angle_rotations=True, backbone_once=True)
    # Turned together and turned back, a model of single pixels says the same in every orientation.
    torch.testing.assert_close(infer_scores(model, image, WindowPolicy(mode="whole", tta=tta)), expected)
    assert model.calls == 1
    each = infer_scores(model, image, WindowPolicy(mode="whole", tta=TtaPolicy(right_angle_rotations=True)))
    assert model.calls == 9 and not torch.allclose(each, expected, atol=0.01)


def test_the_backbone_sees_once_where_training_turned_its_features() -> None:
    def once(*settings: str) -> bool:
        policy = window_policy(load_config(["datasets.root=.", "eval.use_tta=true", *settings]))
        assert policy.tta is not None
        return policy.tta.backbone_once

    dense, cached = "decoder_head.type=dense", "train.cache_features=true"
    assert once(dense, cached)
    assert not once(dense) and not once(dense, "train.cache_features=false") and not once(cached)
    assert once("transforms.eval.tta_backbone=once") and not once(dense, cached, "transforms.eval.tta_backbone=each")


def test_augmentation_averages_scales_at_native_size() -> None:
    model, image = PatchModel(), picture(64, 96)
    policy = WindowPolicy(mode="whole", tta=TtaPolicy((0.5, 1.0), horizontal_flip=False))
    half = functional.interpolate(image[None], (32, 48), mode="bilinear", antialias=True)
    parts = [model.semantic_logits(view).softmax(dim=1) for view in (half, image[None])]
    parts[0] = functional.interpolate(parts[0], (64, 96), mode="bilinear")
    expected = (parts[0] + parts[1])[0] / 2
    torch.testing.assert_close(infer_scores(model, image, policy), expected, rtol=1e-5, atol=1e-5)


def test_probabilities_of_the_model_are_averaged_as_they_are() -> None:
    model, image = PixelModel(), picture(20, 20).abs()
    model.scores_are_probabilities = True
    scores = infer_scores(model, image, WindowPolicy(mode="whole", tta=TtaPolicy()))
    torch.testing.assert_close(scores, model.semantic_logits(image[None])[0])


def test_the_image_and_a_buffer_of_the_model_are_left_unchanged() -> None:
    class Identity:
        num_classes = 3
        scores_are_probabilities = True

        def semantic_logits(self, image: Tensor) -> Tensor:
            return image

    image = picture(40, 50)
    before = image.clone()
    for policy in (
        WindowPolicy(mode="whole", tta=TtaPolicy()),
        WindowPolicy(crop=(30, 30), stride=(20, 20), blend="hann"),
    ):
        predict_class_map(Identity(), image, policy, stripe_rows=7)
        assert torch.equal(image, before)


def test_autocast_runs_the_model_in_half_precision_and_accumulates_in_single() -> None:
    class Recorder(PixelModel):
        def semantic_logits(self, image: Tensor) -> Tensor:
            scores = super().semantic_logits(image)
            assert scores.dtype == torch.bfloat16
            return scores

    scores = infer_scores(Recorder(), picture(20, 20), WindowPolicy(), autocast_dtype=torch.bfloat16)
    assert scores.dtype == torch.float32 and not scores.requires_grad


def test_scores_of_another_shape_are_refused() -> None:
    class Coarse(PixelModel):
        def semantic_logits(self, image: Tensor) -> Tensor:
            return super().semantic_logits(image)[..., ::2, ::2]

    with pytest.raises(ValueError, match=r"semantic_logits gave \(1, 4, 10, 10\) .* \(1, 4, 20, 20\)"):
        predict_class_map(Coarse(), picture(20, 20), WindowPolicy(mode="whole"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "tile"}, r"eval.mode is 'tile'; choose one of whole, slide"),
        ({"blend": "linear"}, r"eval.blend is 'linear'; choose one of uniform, gaussian, hann"),
        ({"crop": (0, 512)}, r"eval.crop_size is \[0, 512\]"),
        ({"stride": (341, -1)}, r"eval.stride is \[341, -1\]"),
        ({"batch_size": 0}, r"eval.batch_size is 0"),
        ({"img_size": 0}, r"transforms.eval.img_size is 0"),
        ({"crop": (256, 256)}, r"eval.stride \[341, 341\] exceeds eval.crop_size \[256, 256\].*no score"),
    ],
)
def test_a_wrong_policy_names_its_key(options: dict, message: str) -> None:
    if "mode" in options or "blend" in options:
        # Past the run-time type check of the tests, as a config value would come.
        policy = object.__new__(WindowPolicy)
        for name in ("mode", "crop", "stride", "batch_size", "blend", "img_size", "tta"):
            object.__setattr__(policy, name, options.get(name, getattr(WindowPolicy(), name)))
        with pytest.raises(ValueError, match=message):
            policy.__post_init__()
    else:
        with pytest.raises(ValueError, match=message):
            WindowPolicy(**options)


def test_right_angles_are_an_option_of_test_time_augmentation() -> None:
    rotations = ["datasets.root=.", "transforms.eval.tta_right_angle_rotations=true"]
    policy = window_policy(load_config([*rotations, "eval.use_tta=true"]))
    assert policy.tta is not None and len(policy.tta.orientations) == 8
    with pytest.raises(ValueError, match=r"rotations=true has no effect without eval.use_tta=true"):
        window_policy(load_config(rotations))


@pytest.mark.parametrize("scales", [(), (1.0, 0.0)])
def test_scales_must_be_positive(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"transforms.eval.tta_ratios is .*above 0"):
        TtaPolicy(scales)


def test_the_description_has_only_what_applies() -> None:
    assert WindowPolicy(mode="whole").describe() == {"mode": "whole", "img_size": None, "tta": None}
    description = WindowPolicy(tta=TtaPolicy((1.0, 1.5))).describe()
    assert description["crop"] == [512, 512] and description["blend"] == "uniform"
    orientations = {"horizontal_flip": True, "right_angle_rotations": False, "backbone_once": False}
    assert description["tta"] == {"scales": [1.0, 1.5], **orientations}


@pytest.mark.gpu
@pytest.mark.parametrize("blend", BLENDS)
def test_the_gpu_gives_the_same_scores(blend: str) -> None:
    model, image = PixelModel(), picture(100, 150)
    policy = WindowPolicy(crop=(64, 64), stride=(40, 40), blend=blend, tta=TtaPolicy((0.5, 1.0)))
    on_cpu = infer_scores(model, image, policy)
    torch.testing.assert_close(infer_scores(model.cuda(), image, policy).cpu(), on_cpu, rtol=1e-4, atol=1e-4)
    assert predict_class_map(model, image, policy).device.type == "cpu"
