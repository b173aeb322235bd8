"""The Encoder-only Mask Transformer head: equal to transformers' on random weights, at any size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.eomt_models import BLOCKS, CLASSES, DINOV3, MODELS, QUERIES, TinyEomt, authors_state
from safetensors.torch import save_file
from torch import Tensor

from dinoseg.backbone import build_backbone
from dinoseg.backbone.eomt_dialect import split_eomt
from dinoseg.backbone.weights import fitted_state, load_weights
from dinoseg.config import Mask2FormerTrainConfig
from dinoseg.config.loading import load_config
from dinoseg.losses.mask_classification import MaskClassificationLoss
from dinoseg.models.eomt_decoder import annealing_spans
from dinoseg.models.eomt_head import blocks_to_join
from dinoseg.models.mask_annealing import annealed_shares
from dinoseg.models.mask_output import MaskOutput
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.training.load_eomt import load_eomt

NAMES = ("a", "b", "c")
Stages = list[tuple[Tensor, Tensor]]


class Pair:
    """transformers' model, and ours with its weights."""

    def __init__(self, tiny: TinyEomt) -> None:
        self.image = tiny.image()
        self.theirs = tiny.reference()
        self.ours = tiny.segmenter()
        load_eomt(self.ours, self.theirs.state_dict(), "load_from=x", NAMES)
        self.ours.eval()

    def their_stages(self, share: float) -> Stages:
        """Masks and classes before each block and after the last; in evaluation transformers masks by its buffer."""
        self.theirs.attn_mask_probs.fill_(share)
        found: Stages = []
        predict = self.theirs.predict
        self.theirs.predict = lambda tokens: found.append(predict(tokens)) or found[-1]
        self.theirs(self.image)
        self.theirs.predict = predict
        return found

    def our_stages(self, share: float) -> Stages:
        (feature,) = self.ours.backbone(self.image)
        grid = (feature.map.shape[-2], feature.map.shape[-1])
        stages = self.ours.head.network.stages(feature.tokens(), grid, shares=[share] * BLOCKS if share else None)
        return [(stage.mask_logits(0), stage.class_logits[0]) for stage in stages]


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(MODELS[request.param])


@pytest.mark.parametrize("share", [1.0, 0.0])
@torch.no_grad()
def test_all_stages_are_those_of_transformers(pair: Pair, share: float) -> None:
    theirs, ours = pair.their_stages(share), pair.our_stages(share)
    assert len(ours) == len(theirs) == (BLOCKS + 1 if share else 1)
    for (masks, classes), (our_masks, our_classes) in zip(theirs, ours, strict=True):
        torch.testing.assert_close(our_masks, masks, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(our_classes, classes, atol=1e-4, rtol=1e-4)
    # Masks in which some patches are and some are not, or they would show nothing.
    assert 0.1 < float((theirs[0][0] > 0).float().mean()) < 0.9


def test_gradients_are_those_of_transformers(pair: Pair) -> None:
    for stages in (pair.their_stages(1.0), pair.our_stages(1.0)):
        weights = torch.linspace(-1, 1, stages[0][0].shape[-1])
        sum((masks * weights).mean() + classes[..., 0].mean() for masks, classes in stages).backward()
    theirs = {name: value.grad for name, value in pair.theirs.named_parameters() if value.grad is not None}
    parts = split_eomt(theirs)
    assert parts is not None
    ours = pair.ours.backbone
    expected, _ = fitted_state(parts.backbone, ours.plain_state(), "gradients", "tiny")
    for name, parameter in ours.model.named_parameters():
        found = parameter.grad
        if name == "pos_embed" and found.shape[1] % 2:
            # The place of a class token, which an EoMT's has none of.
            found, expected[name] = found[:, 1:], expected[name][:, 1:]
        torch.testing.assert_close(found, expected[name], atol=1e-4, rtol=1e-3)
    for name, parameter in pair.ours.head.network.named_parameters():
        torch.testing.assert_close(parameter.grad, parts.head[name], atol=1e-4, rtol=1e-3)


def test_a_state_dict_has_the_authors_names_and_shapes() -> None:
    theirs = authors_state(DINOV3.reference())
    expected = {
        name: value.shape
        for name, value in theirs.items()
        if name.startswith("network.") and not name.startswith("network.encoder.")
    }
    assert {name: value.shape for name, value in DINOV3.segmenter().head.state_dict().items()} == expected


def criterion() -> MaskClassificationLoss:
    settings = Mask2FormerTrainConfig(num_points=40)
    return MaskClassificationLoss(num_classes=CLASSES, ignore_index=255, settings=settings)


def trained(tiny: TinyEomt, progress: float = 0.0, **options: Any) -> tuple[Segmenter, tuple[MaskOutput, ...]]:
    segmenter = tiny.segmenter(**options).train()
    segmenter.head.set_progress(progress)
    torch.manual_seed(2)
    return segmenter, segmenter(tiny.image())


def without_gradient(segmenter: Segmenter) -> list[str]:
    return [
        name
        for name, value in segmenter.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.any())
    ]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str) -> None:
    tiny = MODELS[name]
    segmenter, output = trained(tiny)
    assert len(output) == BLOCKS + 1
    sum(criterion()(output, torch.randint(0, CLASSES, (2, *tiny.size))).values()).backward()
    assert without_gradient(segmenter) == []
    assert all(value.requires_grad for value in segmenter.parameters())


@pytest.mark.parametrize("progress", [0.0, 0.25])
def test_recomputed_activations_change_no_gradient(progress: float) -> None:
    gradients = []
    for recomputed in (False, True):
        segmenter, _ = trained(DINOV3, gradient_checkpointing=recomputed)
        segmenter.head.network.activation_checkpointing = recomputed
        segmenter.head.set_progress(progress)
        torch.manual_seed(3)
        output = segmenter(DINOV3.image())
        sum(stage.mask_logits(0).square().sum() + stage.class_logits.sum() for stage in output).backward()
        gradients.append([parameter.grad for parameter in segmenter.parameters()])
    for plain, recomputed_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed_gradient)


def test_adapters_and_queries_learn_and_nothing_else_of_the_backbone() -> None:
    pytest.importorskip("peft")
    segmenter, output = trained(DINOV3, mode="lora")
    sum(criterion()(output, torch.randint(0, CLASSES, (2, *DINOV3.size))).values()).backward()
    learning = [name for name, value in segmenter.backbone.named_parameters() if value.grad is not None]
    assert learning and all(".lora_" in name for name in learning)
    # B begins at zero, so that A has no gradient in the first step.
    assert all(".lora_A." in name for name in without_gradient(segmenter))
    # Before the open blocks as in them.
    assert {f"blocks.{block}." in " ".join(learning) for block in (0, 1, 2, 3)} == {True}


@pytest.mark.parametrize("size", [(20, 33), (97, 64)])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_any_size(name: str, size: tuple[int, int]) -> None:
    tiny = MODELS[name]
    segmenter = tiny.segmenter().eval()
    output = segmenter(torch.randn(2, 3, *size))
    factor = 2 if tiny.patch < 16 else 4
    assert len(output) == 1
    assert output[0].mask_features.shape[-2:] == tuple(-(-side // tiny.patch) * factor for side in size)
    scores = segmenter.semantic_logits(torch.randn(2, 3, *size))
    assert scores.shape == (2, CLASSES, *size) and scores.isfinite().all()


def test_ignored_pixels_count_nowhere() -> None:
    _, output = trained(DINOV3, progress=1.0)
    height, width = DINOV3.size
    class_map = torch.randint(0, CLASSES, (2, height, width))
    class_map[:, :, width // 2 :] = 255
    terms = criterion()(output, class_map)
    gradients = torch.autograd.grad(sum(terms.values()), [stage.mask_features for stage in output], retain_graph=True)
    # Of a cell of 4 px only the two columns at the border take part in the resizing to a valid pixel.
    border = width // 2 // 4 + 1
    assert all(not gradient[..., border:].any() and gradient[..., :border].any() for gradient in gradients)
    nothing = criterion()(output, torch.full((2, height, width), 255))
    assert nothing["loss_mask"] == nothing["loss_dice"] == 0


def test_masks_leave_block_by_block() -> None:
    """By hand, four blocks: sixth by sixth; three: from 1/6, 5/12 and 2/3, for a sixth each."""
    half = 0.5**0.9
    expected: list[tuple[int, float, list[float]]] = [
        (4, 0.0, [1, 1, 1, 1]),
        (4, 0.25, [half, 1, 1, 1]),
        (4, 5 / 12, [0, half, 1, 1]),
        (4, 0.75, [0, 0, 0, half]),
        (4, 0.9, [0, 0, 0, 0]),
        (3, 0.5, [0, half, 1]),
    ]
    for blocks, progress, shares in expected:
        assert annealed_shares(progress, annealing_spans(blocks)) == pytest.approx(shares, abs=1e-9)
    segmenter = DINOV3.segmenter()
    segmenter.head.set_progress(0.25)
    assert segmenter.head.network.attn_mask_probs.tolist() == pytest.approx([half, 1])


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("name", ["tiny_vit8", "dinov3_vits16", "dinov2_vits14_reg"])
@torch.no_grad()
def test_open_blocks_without_queries_are_the_backbone(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, weights="none").eval()
    image = torch.randn(2, 3, 42, 70)
    whole = backbone(image)[0]
    blocks = backbone.open_last_blocks(2)
    before = backbone(image)[0]
    tokens, grid = before.tokens(), (before.map.shape[-2], before.map.shape[-1])
    for number in range(2):
        tokens = blocks.run(number, grid, tokens)
    torch.testing.assert_close(blocks.normalised(tokens), whole.tokens())
    assert backbone.feature_layers == (backbone.layers[0] - 2,)


@pytest.mark.parametrize("name", MODELS)
def test_a_masked_query_depends_on_what_it_sees_alone(name: str) -> None:
    tiny = MODELS[name]
    segmenter = tiny.segmenter()
    (feature,) = segmenter.backbone(tiny.image())
    grid = (feature.map.shape[-2], feature.map.shape[-1])
    prefix = feature.tokens().shape[1] - grid[0] * grid[1]
    tokens = torch.cat([torch.randn(2, QUERIES, feature.map.shape[1]), feature.tokens().detach()], dim=1)
    tokens.requires_grad_(True)
    visible = torch.ones(2, QUERIES, tokens.shape[1], dtype=torch.bool)
    visible[0, 1, QUERIES + prefix + 1 :] = False
    after = segmenter.head.network.blocks.run(0, grid, tokens, visible)
    seen = torch.autograd.grad(after[0, 1].sum(), tokens, retain_graph=True)[0][0].abs().sum(dim=1) > 0
    assert torch.equal(seen, visible[0, 1])
    for batch, row in ((1, 1), (0, 0), (0, QUERIES + prefix)):
        assert torch.autograd.grad(after[batch, row].sum(), tokens, retain_graph=True)[0][batch].abs().sum(dim=1).all()


def test_a_merged_backbone_keeps_its_open_blocks() -> None:
    pytest.importorskip("peft")
    segmenter = DINOV3.segmenter(mode="lora").eval()
    for name, value in segmenter.backbone.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(value, std=0.1)
    with torch.no_grad():
        before = segmenter.semantic_logits(DINOV3.image())
        segmenter.backbone.merge_adapters()
        torch.testing.assert_close(segmenter.semantic_logits(DINOV3.image()), before, atol=1e-5, rtol=1e-4)


def test_blocks_follow_the_depth() -> None:
    assert [blocks_to_join(depth) for depth in (2, 12, 24, 32, 40)] == [1, 3, 4, 4, 5]


@pytest.fixture
def in_words() -> Iterator[None]:
    with pytest.warns(UserWarning, match="random initialisation"):
        yield


@pytest.mark.usefixtures("in_words")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["model.dino_hub=dinov3_convnext_tiny"], r"eomt puts queries .* dinov3_convnext_tiny is a ConvNeXt"),
        (["decoder_head.decoder_layers=12"], r"12 last blocks .* give decoder_head\.decoder_layers between 1 and 11"),
        (["decoder_head.backbone_out_layers=FOUR_LAST"], r"decoder_head\.backbone_out_layers=LAST"),
    ],
)
def test_what_cannot_be_joined_is_refused(given: list[str], message: str) -> None:
    config = load_config(["decoder_head.type=eomt", "model.dino_hub=dinov3_vits16", "model.weights=none", *given])
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_segmenter(config, CLASSES)


# Counted in docs from ViT-S to 7B: queries, class layer, mask layers, upscaling.
@pytest.mark.usefixtures("in_words")
@pytest.mark.parametrize(("backbone", "dim", "doublings"), [("dinov3_vits16", 384, 2), ("dinov2_vits14", 384, 1)])
def test_parameters_on_the_meta_device(backbone: str, dim: int, doublings: int) -> None:
    config = load_config(["decoder_head.type=eomt", f"model.dino_hub={backbone}", "model.weights=none"])
    with torch.device("meta"):
        segmenter = build_segmenter(config, 150)
    scale = 4 * dim * dim + dim + 9 * dim + 2 * dim
    expected = 100 * dim + 151 * (dim + 1) + 3 * (dim * dim + dim) + doublings * scale
    assert sum(parameter.numel() for parameter in segmenter.head.parameters()) == expected


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_backbone_of_a_whole_model_is_read_as_weights(name: str, tmp_path: Path) -> None:
    tiny = MODELS[name]
    reference = tiny.reference()
    save_file({name: value.contiguous() for name, value in reference.state_dict().items()}, tmp_path / "a.safetensors")
    model = tiny.vit()
    report = load_weights(model, tmp_path / "a.safetensors", "tiny")
    assert report.matched == report.total
    expected = tiny.segmenter()
    load_eomt(expected, reference.state_dict(), "load_from=x", NAMES)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in expected.backbone.plain_state().items())
