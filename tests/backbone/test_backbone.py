"""Behaviour of backbones: names, tapped layers, image sizes, what is frozen."""

from dataclasses import replace

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dinoseg.backbone import Backbone, backbone_hash, build_backbone, fit_to_patches, layer_indices
from dinoseg.backbone.catalogue import BackboneSpec, find_backbone, list_backbones

pytestmark = pytest.mark.filterwarnings("ignore:backbone .* random initialisation")


def tiny(**options: object) -> Backbone:
    torch.manual_seed(0)
    return build_backbone("tiny_vit8", weights="none", **options)


# --- names


def test_every_name_of_the_documentation_is_known() -> None:
    names = {spec.name for spec in list_backbones()}
    assert names == {
        *(f"dinov3_{size}" for size in ("vits16", "vits16plus", "vitb16", "vitl16", "vith16plus", "vit7b16")),
        *(f"dinov3_convnext_{size}" for size in ("tiny", "small", "base", "large")),
        *(f"dinov2_vit{size}14{registers}" for size in "sblg" for registers in ("", "_reg")),
        "tiny_vit4",
        "tiny_vit8",
    }


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("dinov3_vitsplus16", "dinov3_vits16plus"),
        ("vits16", "dinov3_vits16"),
        ("vit7b16", "dinov3_vit7b16"),
        ("convnext_tiny", "dinov3_convnext_tiny"),
        ("dinov2_vits14_reg4", "dinov2_vits14_reg"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert find_backbone(alias).name == name


def test_names_and_aliases_are_unique() -> None:
    names = [name for spec in list_backbones() for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown backbone 'dinov3_vit_s16'\. Nearest: dinov3_vits16"):
        build_backbone("dinov3_vit_s16", weights="none")


def test_unknown_timm_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no model 'vit_tiny_patch16_225'\. Nearest: vit_tiny_patch16_224"):
        build_backbone("timm:vit_tiny_patch16_225", weights="none")


def test_timm_model_that_is_no_vit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'resnet18' is not a ViT"):
        build_backbone("timm:resnet18", weights="none")


def test_licences() -> None:
    for spec in list_backbones():
        assert spec.licence == ("DINOv3 License" if spec.name.startswith("dinov3") else "Apache-2.0")


@pytest.mark.parametrize("spec", [spec for spec in list_backbones() if spec.timm_name], ids=lambda spec: spec.name)
def test_catalogue_states_what_timm_builds(spec: BackboneSpec) -> None:
    with torch.device("meta"):
        model = timm.create_model(spec.timm_name, num_classes=0)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert spec.parameters == pytest.approx(millions, abs=5e-4)
    assert spec.embed_dim == model.num_features
    assert spec.depth == len(model.stages if spec.kind == "convnext" else model.blocks)
    assert spec.patch_size == model.feature_info[-1]["reduction"]
    assert spec.origin == f"https://huggingface.co/{model.pretrained_cfg['hf_hub_id']}"


@pytest.mark.parametrize("name", ["tiny_vit4", "tiny_vit8"])
def test_tiny_vits(name: str) -> None:
    backbone = build_backbone(name, weights="none")
    assert backbone.spec.patch_size == int(name[-1])
    assert (backbone.spec.embed_dim, len(backbone.model.blocks), backbone.model.blocks[0].attn.num_heads) == (96, 4, 3)
    assert backbone.spec.parameters == pytest.approx(sum(p.numel() for p in backbone.parameters()) / 1e6, abs=5e-4)


def test_random_initialisation_warns() -> None:
    with pytest.warns(UserWarning, match=r"tiny_vit8: random initialisation \(model.weights=none\)"):
        assert build_backbone("tiny_vit8", weights="none").weights_report is None


# --- tapped layers


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        ("LAST", 12, (11,)),
        ("FOUR_LAST", 12, (8, 9, 10, 11)),
        ("FOUR_EVEN_INTERVALS", 12, (2, 5, 8, 11)),
        ("FOUR_EVEN_INTERVALS", 24, (4, 11, 17, 23)),
        ("FOUR_EVEN_INTERVALS", 32, (7, 15, 23, 31)),
        ("FOUR_EVEN_INTERVALS", 40, (9, 19, 29, 39)),
        ("FOUR_EVEN_INTERVALS", 4, (0, 1, 2, 3)),
        ("FOUR_QUARTERS", 12, (2, 5, 8, 11)),
        ("FOUR_QUARTERS", 24, (5, 11, 17, 23)),
        ("last", 4, (3,)),
        ([0, 3], 4, (0, 3)),
    ],
)
def test_layer_sets(layers: str | list[int], depth: int, expected: tuple[int, ...]) -> None:
    assert layer_indices(layers, depth) == expected


@pytest.mark.parametrize("layers", [[], [4], [-1], [1, 1], [2, 1]])
def test_indices_out_of_range_or_order(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="must be increasing indices between 0 and 3"):
        layer_indices(layers, 4)


def test_unknown_layer_set() -> None:
    with pytest.raises(ValueError, match="'ALL' is not one of LAST, FOUR_LAST, FOUR_EVEN_INTERVALS"):
        tiny(layers="ALL")


def test_four_layers_of_a_shallow_backbone() -> None:
    with pytest.raises(ValueError, match="FOUR_LAST needs 4 layers, the backbone has 3"):
        layer_indices("FOUR_LAST", 3)


def blocks_by_hand(backbone: Backbone, image: Tensor) -> list[Tensor]:
    """Tokens after every block, from the parts of the model, for an image of the model's own size."""
    model = backbone.model
    tokens = model.patch_embed(image).flatten(1, 2)
    tokens = torch.cat([model.cls_token.expand(len(image), -1, -1), tokens], dim=1) + model.pos_embed
    outputs = []
    for block in model.blocks:
        tokens = block(tokens)
        outputs.append(tokens)
    return outputs


@pytest.mark.parametrize("use_norm", [True, False])
def test_features_are_the_tokens_of_the_tapped_layers(use_norm: bool) -> None:
    backbone = tiny(layers=[1, 3], use_norm=use_norm)
    nn.init.normal_(backbone.model.norm.weight)
    image = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        expected = blocks_by_hand(backbone, image)
    features = backbone(image)
    assert backbone.out_channels == (96, 96)
    assert backbone.strides == (8, 8)
    assert len(features) == 2
    for layer, feature in zip((1, 3), features, strict=True):
        tokens = backbone.model.norm(expected[layer]) if use_norm else expected[layer]
        torch.testing.assert_close(feature.cls, tokens[:, 0])
        torch.testing.assert_close(feature.map, tokens[:, 1:].transpose(1, 2).reshape(2, 96, 16, 16))


@pytest.mark.parametrize("use_norm", [True, False])
def test_convnext_stages(use_norm: bool) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("timm:convnext_atto", "none", "FOUR_EVEN_INTERVALS", use_norm=use_norm)
    nn.init.normal_(backbone.model.head.norm.weight)
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        stage = backbone.model.stem(image)
        expected = [stage := module(stage) for module in backbone.model.stages]
        if use_norm:
            norm = backbone.model.head.norm
            expected[3] = norm(expected[3])
            pooled = norm(stage.mean(dim=(2, 3), keepdim=True))[:, :, 0, 0]
        else:
            pooled = stage.mean(dim=(2, 3))
    features = backbone(image)
    assert backbone.out_channels == (40, 80, 160, 320)
    assert backbone.strides == (4, 8, 16, 32)
    for feature, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(feature.map, wanted)
    torch.testing.assert_close(features[3].cls, pooled)
    torch.testing.assert_close(features[0].cls, expected[0].mean(dim=(2, 3)))


def test_convnext_last_layer() -> None:
    backbone = build_backbone("timm:convnext_atto", "none", "LAST")
    assert [feature.map.shape for feature in backbone(torch.randn(1, 3, 33, 40))] == [(1, 320, 2, 2)]


def test_registers_are_not_taken_for_a_class_token() -> None:
    backbone = build_backbone("timm:vit_wee_patch16_reg1_gap_256", "none", [0])
    (feature,) = backbone(torch.randn(1, 3, 32, 48))
    assert feature.cls is None
    assert feature.map.shape == (1, 256, 2, 3)


# --- image sizes


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_image_size(height: int, width: int) -> None:
    backbone = tiny()
    (feature,) = backbone(torch.randn(1, 3, height, width))
    assert feature.map.shape == (1, 96, (height + 7) // 8, (width + 7) // 8)


def test_dinov2_takes_odd_sizes() -> None:
    backbone = build_backbone("dinov2_vits14_reg", "none", [0])
    (feature,) = backbone(torch.randn(1, 3, 37, 53))
    assert feature.map.shape == (1, 384, 3, 4)


class FirstMap(nn.Module):
    """What a graph may give: tensors alone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        first: Tensor = self.backbone(image)[0].map
        return first


@pytest.mark.parametrize("name", ["tiny_vit8", "dinov2_vits14_reg", "dinov3_vits16"])
def test_at_one_size_features_are_the_same_and_a_graph_resizes_no_positions(name: str) -> None:
    # At scale 2 these are 3 rows and 5 columns of 16 px.
    backbone = build_backbone(name, "none", [0], scale=2.0).eval()
    image = torch.randn(2, 3, 21, 40)
    (expected,) = backbone(image)
    state = {key: value.shape for key, value in backbone.state_dict().items()}
    with backbone.at_size((21, 40)):
        (found,) = backbone(image)
        program = torch.export.export(FirstMap(backbone), (image,), strict=False)
    assert torch.equal(found.map, expected.map)
    assert not any("bicubic" in str(node.target) for node in program.graph.nodes)
    # Afterwards images may have any size again.
    assert {key: value.shape for key, value in backbone.state_dict().items()} == state
    assert torch.equal(backbone(image)[0].map, expected.map)
    assert backbone(torch.randn(1, 3, 64, 64))[0].map.shape[-1] > found.map.shape[-1]


def test_multiples_of_the_patch_are_not_touched() -> None:
    image = torch.randn(1, 3, 32, 48)
    assert fit_to_patches(image, 16) is image


@given(height=st.integers(1, 40), width=st.integers(1, 40), patch_size=st.sampled_from([4, 14, 16]))
def test_resizing_preserves_the_extent(height: int, width: int, patch_size: int) -> None:
    # Padding or cutting at one side would not commute with a reflection.
    image = torch.rand(1, 3, height, width)
    fitted = fit_to_patches(image, patch_size)
    assert fitted.shape[-2] % patch_size == fitted.shape[-1] % patch_size == 0
    torch.testing.assert_close(fit_to_patches(image.flip(-1, -2), patch_size), fitted.flip(-1, -2), atol=2e-5, rtol=0)


# --- what is trained


def test_frozen_backbone_has_no_gradient_and_stays_in_eval_mode() -> None:
    backbone = tiny(drop_path=0.5)
    parent = nn.Sequential(backbone)
    parent.train()
    assert parent.training and not any(module.training for module in backbone.modules())
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    (feature,) = backbone(image)
    assert not feature.map.requires_grad and feature.cls is not None and not feature.cls.requires_grad
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_features_of_a_frozen_backbone_can_enter_a_trained_head() -> None:
    (feature,) = tiny()(torch.randn(1, 3, 16, 16))
    head = nn.Conv2d(96, 2, 1)
    head(feature.map).sum().backward()
    assert head.weight.grad is not None


@pytest.mark.parametrize(("layers", "use_norm"), [("LAST", True), ([0, 2], False), ([1], True)])
def test_full_mode_trains_what_the_output_depends_on(layers: str | list[int], use_norm: bool) -> None:
    backbone = tiny(layers=layers, use_norm=use_norm, mode="full")
    assert backbone.train().training and backbone.model.blocks[0].training
    # Weighted, since the plain sum of a normalised token has no gradient.
    features = backbone(torch.randn(1, 3, 16, 16))
    sum((feature.map * torch.randn_like(feature.map)).sum() for feature in features).backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert any(parameter.requires_grad for parameter in backbone.parameters())


def test_full_mode_of_a_convnext_trains_what_the_output_depends_on() -> None:
    backbone = build_backbone("timm:convnext_atto", "none", [0, 2], mode="full")
    sum(feature.map.square().sum() for feature in backbone(torch.randn(1, 3, 64, 64))).backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


TINY = {"num_classes": 0, "embed_dim": 24, "num_heads": 3, "img_size": 16, "patch_size": 8, "dynamic_img_size": True}
TINY_CONVNEXT = {"num_classes": 0, "depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}


@pytest.mark.parametrize(
    ("model", "unreached"),
    [
        (VisionTransformer(depth=2, global_pool="map", class_token=False, **TINY), {"attn_pool"}),
        (VisionTransformer(depth=2, global_pool="avg", **TINY), {"fc_norm"}),
        (Eva(depth=2, global_pool="map", **TINY), {"attn_pool"}),
        (Eva(depth=2, global_pool="avg", **TINY), {"fc_norm"}),
        (ConvNeXt(head_hidden_size=12, **TINY_CONVNEXT), {"head"}),
        (ConvNeXt(head_norm_first=True, **TINY_CONVNEXT), set()),
    ],
)
@pytest.mark.parametrize("use_norm", [True, False])
def test_full_mode_leaves_alone_what_only_the_models_own_classifier_comes_to(
    model: nn.Module, unreached: set[str], use_norm: bool
) -> None:
    kind, depth = ("convnext", 4) if isinstance(model, ConvNeXt) else ("vit", 2)
    spec = replace(find_backbone("tiny_vit8"), kind=kind, depth=depth, embed_dim=24)
    model.zero_grad(set_to_none=True)
    backbone = Backbone(model, spec, [depth - 1], use_norm=use_norm, mode="full")
    (feature,) = backbone(torch.randn(1, 3, 32, 32))
    (feature.map * torch.randn_like(feature.map)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    if use_norm:
        still = {name.split(".")[1] for name, value in backbone.named_parameters() if not value.requires_grad}
        assert still == unreached


def test_full_mode_without_gradients_when_they_are_off() -> None:
    with torch.no_grad():
        (feature,) = tiny(mode="full")(torch.randn(1, 3, 16, 16))
    assert not feature.map.requires_grad


def test_set_mode_back_to_freeze() -> None:
    backbone = tiny(mode="full").train()
    backbone.set_mode("freeze")
    assert not backbone.training and not any(parameter.requires_grad for parameter in backbone.parameters())


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match=r"model\.mode: 'thaw' is not one of freeze, lora, full"):
        tiny(mode="thaw")


def test_attention_is_fused() -> None:
    for name in ("tiny_vit8", "dinov3_vits16", "dinov2_vits14"):
        assert build_backbone(name, "none").model.blocks[0].attn.fused_attn


# --- hash


def test_hash_depends_on_names_types_and_every_bit_but_not_on_order() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.0, dtype=torch.bfloat16)}
    reference = backbone_hash(state)
    assert backbone_hash({"b": state["b"], "a": state["a"].clone()}) == reference
    assert backbone_hash({**state, "a": state["a"].t().contiguous().t()}) == reference
    changed = state["a"].clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(9.0))
    others = [
        {**state, "a": changed},
        {**state, "a": state["a"].double()},
        {**state, "a": state["a"].reshape(3, 2)},
        {"c": state["a"], "b": state["b"]},
        {"a": state["a"]},
    ]
    hashes = {backbone_hash(other) for other in others}
    assert reference not in hashes and len(hashes) == len(others)
