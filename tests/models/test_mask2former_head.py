"""The Mask2Former head: equal to DINOv3's on its weights, at any size, trainable throughout, lean."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from dinoseg.backbone import FeatureMap
from dinoseg.models import mask_output
from dinoseg.models.dinov3_state import dinov3_state, load_dinov3_state
from dinoseg.models.mask2former_head import Mask2FormerHead, Mask2FormerOptions
from dinoseg.models.mask_decoder import attention_mask
from dinoseg.models.mask_output import MaskOutput

FIXTURE = Path(__file__).parents[1] / "data" / "meta_m2f_tiny.safetensors"
WEIGHTS = "segmentation_model."


def features_of(maps: list[Tensor]) -> list[FeatureMap]:
    return [FeatureMap(level, level.mean(dim=(2, 3))) for level in maps]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(FIXTURE).items()
    }


def fixture_head(num_classes: int = 7) -> Mask2FormerHead:
    """Sizes of the fixture, as in its metadata."""
    torch.manual_seed(0)
    options = Mask2FormerOptions(
        hidden_dim=64, num_heads=16, num_queries=20, encoder_ffn_dim=64, decoder_ffn_dim=64, adapter_inplane=16
    )
    return Mask2FormerHead(in_channels=(32,) * 4, num_classes=num_classes, options=options)


def weights_of(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in golden.items() if name.startswith(WEIGHTS)}


SMALL = Mask2FormerOptions(
    hidden_dim=64,
    num_heads=4,
    num_queries=5,
    encoder_layers=2,
    decoder_layers=4,
    encoder_ffn_dim=16,
    decoder_ffn_dim=16,
    adapter_inplane=4,
    adapter_drop_path=0.0,
)


def small_head(num_classes: int = 3, **options: Any) -> Mask2FormerHead:
    torch.manual_seed(0)
    return Mask2FormerHead(in_channels=(32,) * 4, num_classes=num_classes, options=replace(SMALL, **options))


def small_inputs(size: tuple[int, int] = (64, 96), patch: int = 16) -> tuple[Tensor, list[FeatureMap]]:
    generator = torch.Generator().manual_seed(1)
    grid = (-(-size[0] // patch), -(-size[1] // patch))
    image = torch.randn(2, 3, *size, generator=generator)
    return image, features_of([torch.randn(2, 32, *grid, generator=generator) for _ in range(4)])


def stand_in_loss(output: MaskOutput) -> Tensor:
    masks = torch.stack([output.mask_logits(stage) for stage in range(len(output.mask_embeddings))])
    return (masks * masks.detach().cos()).mean() + (output.class_logits * output.class_logits.detach().sin()).mean()


def test_reproduces_dinov3(golden: dict[str, Tensor]) -> None:
    head = fixture_head().eval()
    load_dinov3_state(head, weights_of(golden))
    maps = [golden[f"input.tokens.{layer}"].transpose(1, 2).unflatten(2, (4, 6)) for layer in range(4)]
    with torch.no_grad():
        assert head.adapter is not None
        pyramid = head.adapter(golden["input.image"], maps)
        output = head(golden["input.image"], features_of(maps))
    close = {"rtol": 0, "atol": 1e-4}
    for level in range(4):
        torch.testing.assert_close(pyramid[level], golden[f"expect.adapter.{level + 1}"], **close)
    for stage in range(9):
        torch.testing.assert_close(output.class_logits[stage], golden[f"expect.aux.{stage}.pred_logits"], **close)
    torch.testing.assert_close(output.mask_logits(4), golden["expect.aux.4.pred_masks"], **close)
    torch.testing.assert_close(output.class_logits[-1], golden["expect.pred_logits"], **close)
    torch.testing.assert_close(output.mask_logits(-1), golden["expect.pred_masks"], **close)
    assert len(output.class_logits) == len(output.mask_embeddings) == 10


def test_saved_state_has_dinov3_names_and_loads_back(golden: dict[str, Tensor]) -> None:
    head, other = fixture_head(), fixture_head()
    with torch.no_grad():
        for tensor in head.state_dict().values():
            tensor.add_(1)
    saved = dinov3_state(head)
    assert {name: tensor.shape for name, tensor in saved.items()} == {
        name: tensor.shape for name, tensor in weights_of(golden).items()
    }
    report = load_dinov3_state(other, saved)
    assert (report.loaded, report.ignored, report.reinitialised) == (len(saved), 0, ())
    for name, tensor in head.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("prefix", ["module.segmentation_model.", "segmentation_model.module.", "module.", ""])
def test_prefixes_and_backbone_of_a_state_do_not_matter(golden: dict[str, Tensor], prefix: str) -> None:
    state = {prefix + name.removeprefix(WEIGHTS): tensor for name, tensor in weights_of(golden).items()}
    state[prefix + "0.backbone.blocks.0.attn.qkv.weight"] = torch.zeros(3)
    head = fixture_head()
    report = load_dinov3_state(head, state)
    assert report.ignored == 1
    for name, tensor in dinov3_state(head).items():
        assert torch.equal(tensor, golden[name]), name


def test_another_number_of_classes_starts_the_class_layer_anew_and_keeps_the_rest(golden: dict[str, Tensor]) -> None:
    head = fixture_head(num_classes=3)
    report = load_dinov3_state(head, weights_of(golden))
    assert report.reinitialised == ("predictor.class_embed.weight", "predictor.class_embed.bias")
    assert "class layer starts anew (7 classes in the file, 3 in the model)" in str(report)
    for name, tensor in dinov3_state(head).items():
        if "class_embed" not in name:
            assert torch.equal(tensor, golden[name]), name


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(golden: dict[str, Tensor]) -> None:
    head = fixture_head()
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    state = weights_of(golden)
    state["segmentation_model.1.predictor.extra"] = torch.zeros(1)
    del state["segmentation_model.0.level_embed"]
    state["segmentation_model.1.predictor.query_feat.weight"] = torch.zeros(21, 64)
    with pytest.raises(ValueError) as caught:
        load_dinov3_state(head, state)
    for part in (
        "1 missing (first: adapter.level_embed)",
        "1 not of this head (first: predictor.extra)",
        "predictor.query_feat.weight [21, 64] in place of [20, 64]",
    ):
        assert part in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())


def test_a_class_layer_of_another_width_is_refused(golden: dict[str, Tensor]) -> None:
    state = weights_of(golden) | {"segmentation_model.1.predictor.class_embed.weight": torch.zeros(4, 32)}
    with pytest.raises(ValueError, match=r"class_embed.weight \[4, 32\] in place of \[8, 64\]"):
        load_dinov3_state(fixture_head(), state)


@pytest.mark.parametrize(("size", "patch"), [((37, 53), 16), ((70, 98), 14), ((33, 31), 14), ((5, 7), 16)])
def test_any_size_and_patch_works(size: tuple[int, int], patch: int) -> None:
    head = small_head().eval()
    image, features = small_inputs(size, patch)
    with torch.no_grad():
        output = head(image, features)
        scores = head.semantic_logits(output, size)
    assert output.mask_features.shape[-2:] == tuple(-(-side // 32) * 8 for side in size)
    assert scores.shape == (2, 3, *size)
    assert scores.isfinite().all()


def test_a_convnext_pyramid_needs_no_adapter() -> None:
    torch.manual_seed(0)
    options = Mask2FormerOptions(hidden_dim=64, num_heads=4, num_queries=5, encoder_layers=1, decoder_layers=2)
    head = Mask2FormerHead(in_channels=(8, 16, 24, 32), num_classes=3, is_pyramid=True, options=options)
    maps = [torch.randn(2, 8 * number, 32 >> number, 48 >> number) for number in range(1, 5)]
    output = head(torch.randn(2, 3, 64, 96), features_of(maps))
    assert head.adapter is None
    assert output.mask_features.shape == (2, 64, 16, 24)


def test_gradients_reach_every_parameter() -> None:
    # In eval mode: a batch norm in training removes any constant, so biases before it have no effect by design.
    head = small_head().eval()
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    without: list[set[str]] = []
    for _ in range(2):
        optimiser.zero_grad()
        stand_in_loss(head(*small_inputs())).backward()
        optimiser.step()
        gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
        without.append({name for name, gradient in gradients.items() if not gradient.any()})
    # The published start (all attention parameters of a query at zero) makes the first step blind to the queries.
    assert without[0] == {name for name in gradients if ".query_norm." in name or name.endswith(".level_encoding")}
    assert without[1] == set()


def test_activation_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        head = small_head(activation_checkpointing=checkpointing, adapter_drop_path=0.5)
        torch.manual_seed(2)
        stand_in_loss(head(*small_inputs())).backward()
        gradients.append([parameter.grad for parameter in head.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=0, atol=0)


def test_bf16_autocast_stays_close_to_fp32() -> None:
    head = small_head().eval()
    image, features = small_inputs()
    with torch.no_grad():
        exact = head(image, features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = head(image, features)
            scores = head.semantic_logits(rounded, (64, 96))
    assert scores.dtype == torch.float32
    # Before the first layer no attention mask can flip.
    torch.testing.assert_close(rounded.class_logits[0].float(), exact.class_logits[0], rtol=0.05, atol=0.05)
    error = (rounded.mask_features.float() - exact.mask_features).norm() / exact.mask_features.norm()
    assert error < 0.05


def test_attention_is_where_the_resized_mask_is_positive_or_everywhere() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 6, 4, generator=generator, dtype=torch.float32)
    features = torch.randn(2, 4, 8, 12, generator=generator)
    # A query whose mask is negative on every cell.
    features[:, 0] = features[:, 0].abs() + 0.1
    embeddings[:, 2] = torch.tensor([-1.0, 0.0, 0.0, 0.0])
    resized = functional.interpolate(features, size=(4, 6), mode="bilinear")
    biases = torch.randn(2, 6, generator=generator)
    biases[:, 2] = 0
    attend = attention_mask(embeddings, biases, resized.flatten(2))
    masks = torch.einsum("bqd,bdhw->bqhw", embeddings, features) + biases[:, :, None, None]
    expected = functional.interpolate(masks, size=(4, 6), mode="bilinear").sigmoid().flatten(2) >= 0.5
    assert not expected[:, 2].any()
    expected[~expected.any(dim=-1)] = True
    assert torch.equal(attend, expected)


def random_output(queries: int = 7, classes: int = 4, map_size: tuple[int, int] = (9, 13)) -> MaskOutput:
    generator = torch.Generator().manual_seed(0)
    return MaskOutput(
        class_logits=torch.randn(2, 2, queries, classes + 1, generator=generator),
        mask_embeddings=torch.randn(2, 2, queries, 8, generator=generator),
        mask_biases=torch.randn(2, 2, queries, generator=generator),
        mask_features=torch.randn(2, 8, *map_size, generator=generator),
    )


@pytest.mark.parametrize("size", [(36, 52), (27, 39), (37, 53), (9, 13), (6, 200), (1, 1)])
@pytest.mark.parametrize("stripe", [1, 1500, 1 << 22])
def test_semantic_scores_equal_the_whole_computation_in_stripes_of_any_height(
    size: tuple[int, int], stripe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_output, "_STRIPE_LOGITS", stripe)
    output = random_output()
    scores = small_head(num_classes=4).semantic_logits(output, size)
    masks = functional.interpolate(output.mask_logits(-1), size=size, mode="bilinear", align_corners=False)
    expected = torch.einsum("bqc,bqhw->bchw", output.class_logits[-1].softmax(-1)[..., :-1], masks.sigmoid())
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_semantic_scores_have_a_gradient() -> None:
    output = random_output()
    output.mask_embeddings.requires_grad_()
    small_head(num_classes=4).semantic_logits(output, (36, 52)).sum().backward()
    assert output.mask_embeddings.grad is not None
    assert output.mask_embeddings.grad[-1].any()


def test_semantic_scores_hold_nothing_large_beside_the_result() -> None:
    output, size = random_output(queries=20, classes=30, map_size=(256, 256)), (1024, 1024)
    memory: dict[int, int] = {}  # bytes of every piece of memory that an operation's result lies in, by address

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                storage = result.untyped_storage()
                memory[storage.data_ptr()] = max(memory.get(storage.data_ptr(), 0), storage.nbytes())
            return result

    head = small_head(num_classes=30)
    with torch.no_grad(), Recorder():
        scores = head.semantic_logits(output, size)
    beside = max(count for address, count in memory.items() if address != scores.untyped_storage().data_ptr())
    assert memory[scores.untyped_storage().data_ptr()] == 4 * 2 * 30 * 1024 * 1024
    assert beside <= 24 * 2**20  # the masks at a quarter of the size, or a stripe


def test_wrong_sizes_are_explained() -> None:
    with pytest.raises(ValueError, match=r"the m2f head taps four layers, found 1; give FOUR_EVEN_INTERVALS"):
        Mask2FormerHead(in_channels=(32,), num_classes=3, options=SMALL)
    with pytest.raises(ValueError, match=r"hidden_dim=48: give a multiple of 32 and of num_heads=8"):
        Mask2FormerHead(in_channels=(32,) * 4, num_classes=3, options=Mask2FormerOptions(hidden_dim=48))


def test_the_narrowest_head_takes_an_image_of_one_cell() -> None:
    image, features = small_inputs((32, 32))
    head = small_head(hidden_dim=32).eval()
    output = head(image[:1], [FeatureMap(feature.map[:1], None) for feature in features])
    assert head.semantic_logits(output, (32, 32)).isfinite().all()


def test_a_head_that_is_half_as_a_whole_stays_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an export makes it, in the forms that it traces."""
    torch.manual_seed(0)
    head = Mask2FormerHead(in_channels=(32,) * 4, num_classes=3, options=SMALL).eval()
    image, maps = torch.randn(1, 3, 64, 64), [torch.randn(1, 32, 4, 4) for _ in range(4)]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with torch.no_grad():
        expected = head.semantic_logits(head(image, features_of(maps)), (64, 64))
        halves = [level.half() for level in maps]
        found = head.half().semantic_logits(head(image.half(), features_of(halves)), (64, 64))
    assert (found.float() - expected).abs().max() < 0.02 * (expected.max() - expected.min())
