"""LoRA: adapters that start as nothing, are all that is trained, reach the output, and merge without a trace."""

import sys

import pytest
import timm
import torch
from timm.models.eva import Eva
from torch import Tensor, nn

from dinoseg.backbone import Backbone, backbone_hash, build_backbone
from dinoseg.backbone.catalogue import BackboneSpec, list_backbones
from dinoseg.config import LoraConfig, settled_lora

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")


def _adapted(**options: object) -> Backbone:
    torch.manual_seed(0)
    return build_backbone("tiny_vit8", weights="none", mode="lora", lora=LoraConfig(**options))


def _shift_adapters(backbone: Backbone) -> None:
    """What training does: the second factor of every update leaves zero."""
    for name, parameter in backbone.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.5)


def _features(backbone: Backbone, image: Tensor) -> Tensor:
    with torch.no_grad():
        return backbone(image)[-1].map


def _separate_bias_vit() -> Eva:
    """A small relative of DINOv3's ViTs, which keep the biases of queries and values apart."""
    torch.manual_seed(1)
    model = Eva(
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=0,
        qkv_bias=True,
        dynamic_img_size=True,
    )
    for block in model.blocks:
        nn.init.normal_(block.attn.q_bias)
        nn.init.normal_(block.attn.v_bias)
    return model


SMALL_SPEC = BackboneSpec("small", "", "vit", 8, 32, 2, 0.1, "none", "none published")


def test_adapters_start_as_nothing() -> None:
    torch.manual_seed(0)
    plain = build_backbone("tiny_vit8", weights="none")
    adapted = _adapted()
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(_features(plain, image), _features(adapted, image))
    assert backbone_hash(plain.frozen_state()) == backbone_hash(plain.state_dict())
    assert backbone_hash(plain.frozen_state()) == backbone_hash(adapted.frozen_state())


def test_only_adapters_are_trained_and_all_of_them_are_reached() -> None:
    backbone = _adapted(rank=3)
    _shift_adapters(backbone)
    trained = {name: value for name, value in backbone.named_parameters() if value.requires_grad}
    # Two factors for each of two projections in each of four blocks: 96 -> 3 * 96 and 96 -> 96.
    assert len(trained) == 16
    assert sum(value.numel() for value in trained.values()) == 4 * 3 * ((96 + 288) + (96 + 96))
    features = backbone(torch.randn(1, 3, 16, 16))[-1].map
    (features * torch.randn_like(features)).sum().backward()
    for name, value in backbone.named_parameters():
        assert (value.grad is not None and bool(value.grad.any())) == (name in trained), name


def test_the_base_stays_in_eval_mode_while_the_dropout_of_adapters_follows() -> None:
    backbone = _adapted(dropout=0.5)
    _shift_adapters(backbone)
    parent = nn.Sequential(backbone)
    image = torch.randn(1, 3, 16, 16)
    parent.train()
    assert all(".lora_" in name for name, module in backbone.named_modules() if module.training)
    assert not torch.equal(_features(backbone, image), _features(backbone, image))
    parent.eval()
    assert not any(module.training for module in backbone.modules())
    assert torch.equal(_features(backbone, image), _features(backbone, image))


def test_drop_path_does_not_act_on_a_frozen_base() -> None:
    backbone = build_backbone("tiny_vit8", weights="none", mode="lora", drop_path=0.9).train()
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(_features(backbone, image), _features(backbone, image))


def test_layers_and_targets_can_be_chosen() -> None:
    backbone = _adapted(layers=[3, 1], targets=["attn.proj", "mlp.fc1"])
    found = {name.split(".lora_")[0] for name, value in backbone.named_parameters() if value.requires_grad}
    assert found == {f"model.blocks.{block}.{target}" for block in (1, 3) for target in ("attn.proj", "mlp.fc1")}


def test_blocks_after_the_last_tapped_one_get_none() -> None:
    backbone = build_backbone("tiny_vit8", weights="none", layers=[0, 1], mode="lora")
    blocks = {name.split(".")[2] for name, value in backbone.named_parameters() if value.requires_grad}
    assert blocks == {"0", "1"}


def test_the_update_is_scaled_by_alpha_over_rank_and_merges() -> None:
    backbone = _adapted(rank=4, alpha=6.0)
    _shift_adapters(backbone)
    state = backbone.state_dict()
    name = "model.blocks.2.attn.qkv"
    expected = state[f"{name}.base_layer.weight"] + 6.0 / 4 * (
        state[f"{name}.lora_B.default.weight"] @ state[f"{name}.lora_A.default.weight"]
    )
    image = torch.randn(1, 3, 24, 24)
    before = _features(backbone, image)
    backbone.merge_adapters()
    torch.testing.assert_close(backbone.state_dict()[f"{name}.weight"], expected)
    torch.testing.assert_close(_features(backbone, image), before, atol=1e-5, rtol=1e-5)
    plain = build_backbone("tiny_vit8", weights="none")
    assert plain.state_dict().keys() == backbone.state_dict().keys()
    assert backbone.mode == "freeze" and not any(value.requires_grad for value in backbone.parameters())


def test_rslora_scales_by_alpha_over_the_root_of_the_rank() -> None:
    backbone = _adapted(rank=4, alpha=6.0, use_rslora=True)
    _shift_adapters(backbone)
    state, name = backbone.state_dict(), "model.blocks.2.attn.qkv"
    update = state[f"{name}.lora_B.default.weight"] @ state[f"{name}.lora_A.default.weight"]
    expected = state[f"{name}.base_layer.weight"] + 6.0 / 2 * update
    image = torch.randn(1, 3, 24, 24)
    before = _features(backbone, image)
    backbone.merge_adapters()
    torch.testing.assert_close(backbone.state_dict()[f"{name}.weight"], expected)
    torch.testing.assert_close(_features(backbone, image), before, atol=1e-5, rtol=1e-5)


def _trained_biases(backbone: Backbone) -> set[str]:
    trained = {name for name, value in backbone.named_parameters() if value.requires_grad and ".lora_" not in name}
    return {name.removeprefix("model.").replace(".base_layer", "") for name in trained}


def test_the_biases_that_are_trained() -> None:
    plain = build_backbone("tiny_vit8", weights="none")
    every = {name.removeprefix("model.") for name, _ in plain.named_parameters() if name.endswith("bias")}
    assert _trained_biases(_adapted(bias="none")) == set()
    assert _trained_biases(_adapted(bias="all")) == every
    one = _adapted(bias="lora_only", layers=[1], targets=["attn.proj", "fc1"])
    assert _trained_biases(one) == {"blocks.1.attn.proj.bias", "blocks.1.mlp.fc1.bias"}
    # What the output does not depend on would have no gradient.
    early = build_backbone("tiny_vit8", "none", [1], use_norm=False, mode="lora", lora=LoraConfig(bias="all"))
    assert _trained_biases(early) == {
        name for name in every if not name.startswith(("blocks.2.", "blocks.3.", "norm."))
    }


def test_biases_that_stand_apart_belong_to_their_projection() -> None:
    for targets, expected in (
        (["attn.qkv"], {f"blocks.{block}.attn.{part}_bias" for block in (0, 1) for part in "qv"}),
        (["attn.proj"], {f"blocks.{block}.attn.proj.bias" for block in (0, 1)}),
    ):
        lora = LoraConfig(targets=targets, bias="lora_only")
        backbone = Backbone(_separate_bias_vit(), SMALL_SPEC, [1], mode="lora", lora=lora)
        assert _trained_biases(backbone) == expected
        backbone(torch.randn(1, 3, 32, 32))[-1].map.square().sum().backward()
        assert all(value.grad is not None for value in backbone.parameters() if value.requires_grad)


def test_trained_biases_are_no_part_of_the_frozen_base() -> None:
    backbone = _adapted(bias="all")
    assert not [name for name in backbone.frozen_state() if name.endswith("bias")]
    before = backbone_hash(backbone.frozen_state())
    with torch.no_grad():
        backbone.model.norm.bias.add_(1)
    assert backbone_hash(backbone.frozen_state()) == before


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (["qkv"], {"attn.qkv"}),
        (["proj", "fc1"], {"attn.proj", "mlp.fc1"}),
        (["all-linear"], {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}),
    ],
)
def test_targets_by_the_end_of_their_names(targets: list[str], found: set[str]) -> None:
    names = {
        name.split(".lora_")[0] for name, value in _adapted(targets=targets).named_parameters() if ".lora_" in name
    }
    assert names == {f"model.blocks.{block}.{target}" for block in range(4) for target in found}


def test_adapters_are_not_passed_by_where_biases_stand_apart() -> None:
    plain = Backbone(_separate_bias_vit(), SMALL_SPEC, [1])
    backbone = Backbone(_separate_bias_vit(), SMALL_SPEC, [1], mode="lora", lora=LoraConfig(targets=["attn.qkv"]))
    image = torch.randn(1, 3, 32, 32)
    reference = _features(plain, image)
    torch.testing.assert_close(_features(backbone, image), reference)
    _shift_adapters(backbone)
    shifted = _features(backbone, image)
    assert not torch.allclose(shifted, reference, atol=1e-2)
    backbone.merge_adapters()
    plain.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(_features(plain, image), shifted, atol=1e-5, rtol=1e-5)


def test_every_named_vit_has_the_default_projections() -> None:
    for spec in list_backbones():
        if spec.kind == "vit" and spec.timm_name:
            with torch.device("meta"):
                model = timm.create_model(spec.timm_name, num_classes=0)
            for target in settled_lora(LoraConfig()).targets or ():
                assert isinstance(model.blocks[0].get_submodule(target), nn.Linear), spec.name


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_gradient_checkpointing_gives_the_same_gradients(mode: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        lora = LoraConfig(dropout=0.5)
        backbone = build_backbone(
            "tiny_vit8", "none", mode=mode, drop_path=0.5, lora=lora, gradient_checkpointing=checkpointing
        )
        _shift_adapters(backbone)
        backbone.train()
        assert backbone.model.grad_checkpointing == checkpointing
        torch.manual_seed(3)
        backbone(torch.randn(2, 3, 32, 32))[-1].map.square().sum().backward()
        gradients.append({name: value.grad for name, value in backbone.named_parameters() if value.requires_grad})
        backbone.eval()
        assert not backbone.model.grad_checkpointing
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_gradient_checkpointing_keeps_fewer_activations() -> None:
    held = []
    for checkpointing in (False, True):
        backbone = build_backbone("tiny_vit8", "none", mode="full", gradient_checkpointing=checkpointing).train()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=saved: (kept.append(t.numel()), t)[1], lambda t: t
        ):
            backbone(torch.randn(1, 3, 64, 64))
        held.append(sum(saved))
    assert held[1] < held[0] / 4


def test_gradient_checkpointing_of_a_convnext() -> None:
    backbone = build_backbone("timm:convnext_atto", "none", mode="full", gradient_checkpointing=True).train()
    backbone(torch.randn(2, 3, 64, 64))[-1].map.square().sum().backward()
    assert all(value.grad is not None for value in backbone.parameters() if value.requires_grad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [4]}, r"lora\.layers is \[4\]; give block indices between 0 and 3"),
        ({"layers": []}, r"lora\.layers is \[\]"),
        (
            {"targets": ["attn.query"]},
            r"lora\.targets is \['attn\.query'\]; use the linear layers .* blocks: attn\.qkv, attn\.pr",
        ),
        ({"targets": []}, r"lora\.targets is \[\]"),
    ],
)
def test_layers_or_targets_that_are_not_there(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _adapted(**options)


def test_a_convnext_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.mode=lora: timm:convnext_atto is a ConvNeXt and has no attention"):
        build_backbone("timm:convnext_atto", weights="none", mode="lora")


def test_adapters_are_not_had_afterwards() -> None:
    with pytest.raises(ValueError, match="built without adapters"):
        build_backbone("tiny_vit8", weights="none").set_mode("lora")


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("tiny_vit8", [1, 3], {"cls_token": -1, "patch_embed.proj.bias": -1, "blocks.2.norm1.bias": 2, "norm.bias": 4}),
        ("tiny_vit8", [1], {"pos_embed": -1, "blocks.1.norm1.bias": 1, "norm.bias": 2}),
        ("timm:convnext_atto", [3], {"stem.0.bias": -1, "stages.1.downsample.0.bias": 1, "head.norm.bias": 4}),
        ("timm:vit_base_patch32_clip_224", [11], {"norm_pre.bias": -1, "norm.bias": 12}),
    ],
)
def test_the_layer_of_a_parameter(name: str, layers: list[int], expected: dict[str, int]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, weights="none", layers=layers)
    names = {entry for entry, _ in backbone.named_parameters()}
    assert {f"model.{entry}" for entry in expected} <= names
    assert {entry: backbone.layer_of(f"model.{entry}") for entry in expected} == expected


def test_a_missing_peft_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"needs the package peft .*pip install 'dinoseg\[lora\]'"):
        _adapted()
