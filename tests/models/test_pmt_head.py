"""The Plain Mask Transformer head: equal to the published one on its weights, at any size, trainable throughout."""

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from dinoseg.backbone import FeatureMap, build_backbone
from dinoseg.config import Mask2FormerTrainConfig
from dinoseg.config.loading import load_config
from dinoseg.losses.mask_classification import MaskClassificationLoss
from dinoseg.models import pmt_decoder
from dinoseg.models.joint_decoder import Places, visible_tokens
from dinoseg.models.mask_annealing import annealed_shares
from dinoseg.models.mask_output import MaskOutput
from dinoseg.models.pmt_blocks import RotaryAttention
from dinoseg.models.pmt_decoder import annealing_spans
from dinoseg.models.pmt_head import PmtHead, PmtOptions
from dinoseg.models.rotary import rotary_tables
from dinoseg.models.segmenter import build_segmenter

FIXTURE = Path(__file__).parents[1] / "data" / "pmt_tiny.safetensors"
PREFIX = "network."


class Golden:
    """What the published code computes: weights, inputs, outputs, and the sizes in the file's metadata."""

    def __init__(self) -> None:
        with safe_open(FIXTURE, framework="pt") as opened:
            self.sizes = json.loads(opened.metadata()["config"])
            self.tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        self.grid = tuple(self.sizes["grid"])

    def weights(self) -> dict[str, Tensor]:
        return {name.removeprefix(PREFIX): value for name, value in self.tensors.items() if name.startswith(PREFIX)}

    def head(self) -> PmtHead:
        sizes = self.sizes
        head = PmtHead(
            in_channels=(sizes["embed_dim"],) * len(sizes["layers"]),
            num_classes=sizes["num_classes"],
            patch_size=sizes["patch_size"],
            backbone_heads=sizes["num_heads"],
            options=PmtOptions(
                num_queries=sizes["num_queries"],
                decoder_layers=sizes["num_blocks"],
                decoder_ffn_dim=sizes["ffn_dim"],
            ),
        )
        head.load_state_dict(self.weights())
        return head.eval()

    def features(self) -> list[FeatureMap]:
        count = self.sizes["prefix_tokens"]
        tokens = [self.tensors[f"input.tokens.{layer}"] for layer in range(len(self.sizes["layers"]))]
        return [
            FeatureMap(layer[:, count:].transpose(1, 2).unflatten(2, self.grid), layer[:, 0], layer[:, :count])
            for layer in tokens
        ]

    def assert_close(self, name: str, found: Tensor) -> None:
        torch.testing.assert_close(found, self.tensors[f"expect.{name}"], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden()


def test_a_state_dict_has_the_published_names_and_shapes(golden: Golden) -> None:
    ours = {name: value.shape for name, value in golden.head().state_dict().items()}
    assert ours == {name: value.shape for name, value in golden.weights().items()}


def test_rotary_tables_are_the_published_ones(golden: Golden) -> None:
    cosines, sines = rotary_tables(golden.grid, 16, device=torch.device("cpu"))
    golden.assert_close("rope_cos", cosines)
    golden.assert_close("rope_sin", sines)


@torch.no_grad()
def test_all_stages_with_masks_are_the_published_ones(golden: Golden) -> None:
    head = golden.head()
    tokens = head.normalised([feature.tokens() for feature in golden.features()])
    stages = head.decoder.stages(tokens, golden.grid, shares=[1.0] * 4)
    assert len(stages) == 5
    for number, stage in enumerate(stages):
        golden.assert_close(f"masked.{number}.class_logits", stage.class_logits[0])
    golden.assert_close("masked.2.mask_logits", stages[2].mask_logits(0))
    golden.assert_close("masked.final.mask_logits", stages[-1].mask_logits(0))
    golden.assert_close("masked.final.semantic", head.semantic_logits(stages, (24, 32)))


@torch.no_grad()
def test_prediction_without_masks_is_the_published_one(golden: Golden) -> None:
    head = golden.head()
    output = head(torch.zeros(2, 3, 96, 128), golden.features())
    assert len(output) == 1
    golden.assert_close("unmasked.final.class_logits", output[0].class_logits[0])
    golden.assert_close("unmasked.final.mask_logits", output[0].mask_logits(0))
    golden.assert_close("unmasked.final.semantic", head.semantic_logits(output, (24, 32)))


def small_head(patch_size: int = 8, **options: object) -> PmtHead:
    torch.manual_seed(0)
    sizes = PmtOptions(num_queries=5, decoder_layers=2, decoder_ffn_dim=32, **options)
    return PmtHead(in_channels=(24,) * 2, num_classes=3, patch_size=patch_size, backbone_heads=3, options=sizes)


def small_features(grid: tuple[int, int] = (3, 4), prefix: int = 2) -> list[FeatureMap]:
    generator = torch.Generator().manual_seed(1)
    return [
        FeatureMap(
            torch.randn(2, 24, *grid, generator=generator),
            None,
            torch.randn(2, prefix, 24, generator=generator) if prefix else None,
        )
        for _ in range(2)
    ]


def criterion() -> MaskClassificationLoss:
    return MaskClassificationLoss(num_classes=3, ignore_index=255, settings=Mask2FormerTrainConfig(num_points=40))


@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize(
    ("patch", "grid", "factor"), [(14, (1, 1), 2), (16, (3, 5), 4), (32, (2, 1), 8), (4, (4, 3), 2)]
)
def test_any_grid_and_patch(patch: int, grid: tuple[int, int], factor: int, prefix: int) -> None:
    head = small_head(patch).eval()
    output = head(torch.zeros(2, 3, 37, 61), small_features(grid, prefix))
    assert output[-1].mask_features.shape == (2, 24, grid[0] * factor, grid[1] * factor)
    scores = head.semantic_logits(output, (37, 61))
    assert scores.shape == (2, 3, 37, 61) and scores.isfinite().all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_parameter_learns_from_every_stage(checkpointing: bool) -> None:
    head = small_head(activation_checkpointing=checkpointing).train()
    head.set_progress(0.0)
    torch.manual_seed(2)
    output = head(torch.zeros(2, 3, 24, 32), small_features())
    assert len(output) == 3
    terms = criterion()(output, torch.randint(0, 3, (2, 24, 32)))
    sum(terms.values()).backward()
    assert [name for name, value in head.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_recomputed_activations_change_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        head = small_head(activation_checkpointing=checkpointing).train()
        head.set_progress(0.05)
        torch.manual_seed(3)
        output = head(torch.zeros(2, 3, 24, 32), small_features())
        sum(stage.mask_logits(0).square().sum() + stage.class_logits.sum() for stage in output).backward()
        gradients.append([parameter.grad for parameter in head.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_ignored_pixels_count_nowhere() -> None:
    head = small_head().train()
    head.set_progress(1.0)
    output = head(torch.zeros(2, 3, 24, 32), small_features())
    class_map = torch.randint(0, 3, (2, 24, 32))
    class_map[:, :, 16:] = 255
    torch.manual_seed(4)
    terms = criterion()(output, class_map)
    maps = [stage.mask_features for stage in output]
    gradients = torch.autograd.grad(sum(terms.values()), maps, retain_graph=True)
    # Of a cell of 4 px only the two columns at the border take part in the resizing to a valid pixel.
    assert all(not gradient[..., 5:].any() and gradient[..., :4].any() for gradient in gradients)
    nothing = criterion()(output, torch.full((2, 24, 32), 255))
    assert nothing["loss_mask"] == nothing["loss_dice"] == 0


def test_the_loss_of_stages_apart_is_that_of_stages_together() -> None:
    generator = torch.Generator().manual_seed(5)
    whole = MaskOutput(
        class_logits=torch.randn(3, 2, 5, 4, generator=generator),
        mask_embeddings=torch.randn(3, 2, 5, 6, generator=generator),
        mask_biases=torch.randn(3, 2, 5, generator=generator),
        mask_features=torch.randn(2, 6, 6, 8, generator=generator),
    )
    parts = tuple(
        MaskOutput(
            whole.class_logits[stage : stage + 1],
            whole.mask_embeddings[stage : stage + 1],
            whole.mask_biases[stage : stage + 1],
            whole.mask_features,
        )
        for stage in range(3)
    )
    class_map = torch.randint(0, 3, (2, 24, 32), generator=generator)
    losses = []
    for output in (whole, parts):
        torch.manual_seed(6)
        losses.append(criterion()(output, class_map))
    torch.testing.assert_close(losses[0], losses[1])


def test_masks_leave_block_by_block() -> None:
    """By hand, for six blocks: the first from 0 to 0.15, the second from 4/15 on for 1/6, the last from 2/3 to 5/6."""
    power = 0.9
    expected = {
        0.0: [1, 1, 1, 1, 1, 1],
        0.075: [0.5**power, 1, 1, 1, 1, 1],
        0.35: [0, 0.5**power, 1, 1, 1, 1],
        0.5: [0, 0, 0.2**power, 0.8**power, 1, 1],
        0.9: [0, 0, 0, 0, 0, 0],
    }
    for progress, shares in expected.items():
        assert annealed_shares(progress, annealing_spans(6)) == pytest.approx(shares, abs=1e-9)
    one, two = annealing_spans(1), annealing_spans(2)
    assert annealed_shares(0.01, one)[0] < 1
    assert annealed_shares(0.3, two)[1] < 1 == annealed_shares(0.26, two)[1]


def stage_of(queries: int, grid: tuple[int, int]) -> MaskOutput:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(2, 6, grid[0] * 4, grid[1] * 4, generator=generator)
    return MaskOutput(
        torch.zeros(1, 2, queries, 4), torch.randn(1, 2, queries, 6), torch.zeros(1, 2, queries), features
    )


def test_a_query_sees_its_resized_mask_and_always_what_is_no_patch() -> None:
    stage, places = stage_of(4, (3, 5)), Places(4, 7, (3, 5))
    visible = visible_tokens(stage, places, 1.0)
    assert visible is not None and visible[..., :7].all()
    resized = functional.interpolate(stage.mask_logits(0), size=(3, 5), mode="bilinear", align_corners=False)
    assert torch.equal(visible[..., 7:], resized.flatten(2) > 0)
    assert visible_tokens(stage, places, 0.0) is None


def test_masks_are_dropped_a_query_at_a_time_as_the_seed_says() -> None:
    stage, places = stage_of(400, (2, 3)), Places(400, 402, (2, 3))
    drawn = []
    for seed in (8, 8, 9):
        torch.manual_seed(seed)
        drawn.append(visible_tokens(stage, places, 0.25))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    kept = visible_tokens(stage, places, 1.0)
    same = (drawn[0] == kept).all(dim=-1)
    assert (drawn[0][~same]).all()
    # Those whose mask is everywhere are the same either way: one in 64.
    assert same.float().mean() == pytest.approx(0.25, abs=0.06)


def test_attention_with_masked_rows_is_attention_with_the_whole_mask() -> None:
    torch.manual_seed(10)
    attention, tokens = RotaryAttention(dim=24, num_heads=3), torch.randn(2, 11, 24)
    visible = torch.rand(2, 4, 11) > 0.4
    visible[..., :5] = True
    whole = torch.ones(2, 1, 11, 11, dtype=torch.bool)
    whole[:, 0, :4] = visible
    positions = pmt_decoder.Positions(*rotary_tables((2, 3), 8, device=torch.device("cpu")))
    found = attention(tokens, positions, visible)
    plain = functional.scaled_dot_product_attention

    def with_whole_mask(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return plain(query, key, value, attn_mask=whole)

    with patch.object(functional, "scaled_dot_product_attention", with_whole_mask):
        torch.testing.assert_close(found, attention(tokens, positions, None))


def test_training_moves_the_places_and_prediction_does_not() -> None:
    head, scales = small_head(), []
    stages = head.decoder.stages
    with patch.object(head.decoder, "stages", lambda *a, **k: scales.append(k.get("rescale", 1.0)) or stages(*a, **k)):
        for seed in range(20):
            torch.manual_seed(seed)
            head.train()(torch.zeros(2, 3, 24, 32), small_features())
        head.eval()(torch.zeros(2, 3, 24, 32), small_features())
    assert scales[-1] == 1.0 and all(0.5 <= scale <= 2 for scale in scales)
    assert min(scales) < 0.75 and max(scales) > 1.5


@pytest.fixture
def in_words() -> Iterator[None]:
    with pytest.warns(UserWarning, match="random initialisation"):
        yield


@pytest.mark.usefixtures("in_words")
def test_a_backbone_without_tokens_is_refused() -> None:
    config = load_config(["decoder_head.type=pmt", "model.dino_hub=dinov3_convnext_tiny", "model.weights=none"])
    with torch.device("meta"), pytest.raises(ValueError, match=r"pmt attends to .* dinov3_convnext_tiny is a ConvNeXt"):
        build_segmenter(config, 3)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decoder_head\.num_heads=5: .* has 24 channels; give a divisor of 6"):
        small_head(num_heads=5)


def trained_parameters(backbone: str) -> tuple[int, PmtHead]:
    config = load_config(["decoder_head.type=pmt", f"model.dino_hub={backbone}", "model.weights=none"])
    with torch.device("meta"):
        head = build_segmenter(config, 150).head
    assert isinstance(head, PmtHead)
    return sum(parameter.numel() for parameter in head.parameters()), head


# ViT-S to 7B in docs: counted as ``4 x (bn + lateral) + blocks + upscale + queries and layers``.
@pytest.mark.usefixtures("in_words")
@pytest.mark.parametrize(("backbone", "dim", "doublings"), [("dinov3_vits16", 384, 2), ("dinov2_vits14", 384, 1)])
def test_parameters_on_the_meta_device(backbone: str, dim: int, doublings: int) -> None:
    found, head = trained_parameters(backbone)
    layer = 2 * dim + (dim * dim + dim // 2 + dim) + dim
    block = 4 * dim * dim + 3 * dim + 8 * dim * dim + 5 * dim + 6 * dim
    scale = 4 * dim * dim + dim + 9 * dim + 2 * dim
    ends = 100 * dim + 2 * dim + 151 * (dim + 1) + 3 * (dim * dim + dim)
    assert found == 4 * layer + 6 * block + doublings * scale + ends
    assert isinstance(head.decoder.blocks, nn.ModuleList) and len(head.decoder.blocks) == 6


def test_tokens_of_a_backbone_are_in_its_order() -> None:
    with pytest.warns(UserWarning, match="random initialisation"):
        backbone = build_backbone("tiny_vit8", weights="none", layers="FOUR_QUARTERS").eval()
    image = torch.randn(1, 3, 24, 40)
    with torch.no_grad():
        feature = backbone(image)[-1]
        assert backbone.num_heads is not None
        torch.testing.assert_close(feature.tokens(), backbone.model.forward_features(image))
    assert feature.prefix is not None and feature.cls is not None
    assert torch.equal(feature.prefix[:, 0], feature.cls)
