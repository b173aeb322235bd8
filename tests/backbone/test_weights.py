"""Backbone weights: every dialect gives the features of the model that wrote it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from dinoseg.backbone import Backbone, build_backbone
from dinoseg.backbone.weights import load_weights

State = dict[str, Tensor]
SMALL = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12}
TOLERANCE = 1e-4
KINDS = ("weight", "bias")


def randomise(model: nn.Module) -> None:
    """Random values for every tensor, large enough that positions, biases and scales all show in the output."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_scale = "norm" in name and name.endswith("weight")
        is_layer_scale = name.endswith(("lambda1", "gamma", "gamma_1", "gamma_2"))
        parameter.data = 1 + 0.1 * noise if is_scale else 0.3 + 0.05 * noise if is_layer_scale else 0.05 * noise


def transformers_model(name: str) -> nn.Module:
    models = {
        "dinov2_vits14": lambda: Dinov2Model(Dinov2Config(image_size=518, **SMALL)),
        "dinov2_vits14_reg": lambda: Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(image_size=518, patch_size=14, **SMALL)
        ),
        "dinov3_vits16": lambda: DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=4, **SMALL)),
        "dinov3_vits16plus": lambda: DINOv3ViTModel(
            DINOv3ViTConfig(num_register_tokens=4, use_gated_mlp=True, hidden_act="silu", **SMALL)
        ),
        "dinov3_convnext_tiny": lambda: DINOv3ConvNextModel(DINOv3ConvNextConfig()),
    }
    model = models[name]().eval()
    randomise(model)
    return model


NAMES = ("dinov2_vits14", "dinov2_vits14_reg", "dinov3_vits16", "dinov3_vits16plus", "dinov3_convnext_tiny")


class Reference:
    """A transformers model with random weights, its folder, an image and its features of that image."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.folder = root / name
        self.model = transformers_model(name)
        self.model.save_pretrained(self.folder)
        # DINOv2's positions are compared on their own grid: off it, implementations differ in the resampling.
        side = (518, 518) if name.startswith("dinov2") else (64, 96)
        self.image = torch.randn(1, 3, *side, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            tokens = self.model(self.image).last_hidden_state
        self.cls = tokens[:, 0]
        skipped = 1 if name in ("dinov2_vits14", "dinov3_convnext_tiny") else 5
        self.patches = tokens[:, skipped:].transpose(1, 2)

    def check(self, backbone: Backbone) -> None:
        (feature,) = backbone(self.image)
        assert self.patches.std() > 0.1
        torch.testing.assert_close(feature.map.flatten(2), self.patches, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(feature.cls, self.cls, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module", params=NAMES)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    yield Reference(request.param, tmp_path_factory.mktemp("transformers"))


@pytest.fixture(scope="module")
def rotary(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference("dinov3_vits16", tmp_path_factory.mktemp("rotary"))


# --- transformers


def test_transformers_folder(reference: Reference) -> None:
    backbone = build_backbone(reference.name, str(reference.folder))
    reference.check(backbone)
    report = backbone.weights_report
    assert report is not None
    assert (report.dialect, report.matched) == ("transformers", report.total)
    assert report.total == len(backbone.model.state_dict())
    assert str(report).startswith(f"matched {report.total} / {report.total} tensors (transformers dialect) from ")
    assert len(report.sha256 or "") == 64


def test_transformers_shards(rotary: Reference, tmp_path: Path) -> None:
    rotary.model.save_pretrained(tmp_path, max_shard_size="40MB")
    assert not (tmp_path / "model.safetensors").exists()
    report = build_backbone("dinov3_vits16", str(tmp_path)).weights_report
    assert report is not None and report.matched == report.total
    shards = sorted(set(json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"].values()))
    (tmp_path / shards[-1]).unlink()
    with pytest.raises(ValueError, match=rf"index.json names {shards[-1]}, which is not there"):
        build_backbone("dinov3_vits16", str(tmp_path))


def test_names_of_transformers_modules_in_memory(rotary: Reference, tmp_path: Path) -> None:
    # save_pretrained writes the names of the published files; the modules have newer ones.
    state = rotary.model.state_dict()
    assert "model.layer.0.attention.k_proj.weight" in state
    save_file(state, tmp_path / "model.safetensors")
    rotary.check(build_backbone("dinov3_vits16", str(tmp_path)))


# --- Meta's .pth, by a mapping of its own


def block_of_dinov3(block: nn.Module, gated: bool) -> State:
    attention, mlp = block.attention, block.mlp
    width = attention.q_proj.weight.shape[0]
    mask = torch.ones(3 * width)
    mask[width : 2 * width] = 0
    # What stands under the mask must not matter.
    key_bias = torch.full((width,), 7.0)
    out = {
        "attn.qkv.weight": torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]),
        "attn.qkv.bias": torch.cat([attention.q_proj.bias, key_bias, attention.v_proj.bias]),
        "attn.qkv.bias_mask": mask,
        **linear("attn.proj", attention.o_proj),
        "ls1.gamma": block.layer_scale1.lambda1,
        "ls2.gamma": block.layer_scale2.lambda1,
        **linear("norm1", block.norm1),
        **linear("norm2", block.norm2),
    }
    if gated:
        return {
            **out,
            **linear("mlp.w1", mlp.gate_proj),
            **linear("mlp.w2", mlp.up_proj),
            **linear("mlp.w3", mlp.down_proj),
        }
    return {**out, **linear("mlp.fc1", mlp.up_proj), **linear("mlp.fc2", mlp.down_proj)}


def linear(name: str, module: nn.Module) -> State:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}


def meta_dinov3(model: nn.Module, gated: bool) -> State:
    embeddings = model.embeddings
    state = {
        "cls_token": embeddings.cls_token,
        "storage_tokens": embeddings.register_tokens,
        "mask_token": torch.full((1, 384), 9.0),
        "rope_embed.periods": torch.tensor([100 ** (i / 16) for i in range(16)], dtype=torch.bfloat16),
        **linear("patch_embed.proj", embeddings.patch_embeddings),
        **linear("norm", model.norm),
    }
    for index, block in enumerate(model.model.layer):
        state.update({f"blocks.{index}.{name}": tensor for name, tensor in block_of_dinov3(block, gated).items()})
    return state


def meta_dinov2(model: nn.Module, registers: bool, gated: bool = False) -> State:
    embeddings = model.embeddings
    state = {
        "cls_token": embeddings.cls_token,
        "pos_embed": embeddings.position_embeddings,
        "mask_token": torch.full((1, embeddings.cls_token.shape[-1]), 9.0),
        **linear("patch_embed.proj", embeddings.patch_embeddings.projection),
        **linear("norm", model.layernorm),
    }
    if registers:
        state["register_tokens"] = embeddings.register_tokens
    for index, block in enumerate(model.encoder.layer):
        attention, mlp = block.attention, block.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        if gated:
            first = {
                f"w12.{kind}": torch.cat([getattr(mlp.gate_proj, kind), getattr(mlp.up_proj, kind)]) for kind in KINDS
            }
            layers = {**first, **linear("w3", mlp.down_proj)}
        else:
            layers = {**linear("fc1", mlp.fc1), **linear("fc2", mlp.fc2)}
        tensors = {
            "attn.qkv.weight": torch.cat([part.weight for part in parts]),
            "attn.qkv.bias": torch.cat([part.bias for part in parts]),
            **linear("attn.proj", attention.o_proj),
            "ls1.gamma": block.layer_scale1.lambda1,
            "ls2.gamma": block.layer_scale2.lambda1,
            **linear("norm1", block.norm1),
            **linear("norm2", block.norm2),
            **{f"mlp.{name}": tensor for name, tensor in layers.items()},
        }
        state.update({f"blocks.{index}.{name}": tensor for name, tensor in tensors.items()})
    return state


def meta_convnext(model: nn.Module) -> State:
    state = {**linear("norm", model.layer_norm), **linear("norms.3", model.layer_norm)}
    for stage_index, stage in enumerate(model.model.stages):
        for index, module in enumerate(stage.downsample_layers):
            state.update(linear(f"downsample_layers.{stage_index}.{index}", module))
        for index, block in enumerate(stage.layers):
            tensors = {
                "gamma": block.gamma,
                **linear("dwconv", block.depthwise_conv),
                **linear("norm", block.layer_norm),
                **linear("pwconv1", block.pointwise_conv1),
                **linear("pwconv2", block.pointwise_conv2),
            }
            state.update({f"stages.{stage_index}.{index}.{name}": tensor for name, tensor in tensors.items()})
    return state


def meta_state(reference: Reference) -> State:
    if reference.name == "dinov3_convnext_tiny":
        state = meta_convnext(reference.model)
    elif reference.name.startswith("dinov3"):
        state = meta_dinov3(reference.model, gated=reference.name.endswith("plus"))
    else:
        state = meta_dinov2(reference.model, registers=reference.name.endswith("_reg"))
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def test_meta_checkpoint(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "meta.pth"
    torch.save(meta_state(reference), path)
    backbone = build_backbone(reference.name, str(path))
    reference.check(backbone)
    report = backbone.weights_report
    assert report is not None and (report.dialect, report.matched) == ("meta", report.total)


def test_training_checkpoint_of_meta(rotary: Reference, tmp_path: Path) -> None:
    teacher = {f"backbone.{name}": tensor for name, tensor in meta_state(rotary).items()}
    torch.save({"teacher": {**teacher, "dino_head.mlp.0.weight": torch.zeros(2, 2)}}, tmp_path / "checkpoint.pth")
    rotary.check(build_backbone("dinov3_vits16", str(tmp_path)))


def test_rotary_periods_of_another_model_are_refused(rotary: Reference, tmp_path: Path) -> None:
    state = meta_state(rotary)
    state["rope_embed.periods"] *= 2
    torch.save(state, tmp_path / "meta.pth")
    with pytest.raises(ValueError, match=r"periods are not DINOv3's"):
        build_backbone("dinov3_vits16", str(tmp_path))


def test_key_bias_without_mask_is_refused(rotary: Reference, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in meta_state(rotary).items() if not name.endswith("bias_mask")}
    torch.save(state, tmp_path / "meta.pth")
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.qkv\.bias holds key biases that are not zero"):
        build_backbone("dinov3_vits16", str(tmp_path))


# --- variants that are published in large sizes only: the giant DINOv2 (gated), the DINOv3 without biases


@pytest.mark.parametrize("dialect", ["meta", "transformers"])
def test_gated_dinov2(dialect: str, tmp_path: Path) -> None:
    config = Dinov2Config(
        image_size=56, hidden_size=48, num_attention_heads=2, num_hidden_layers=2, use_swiglu_ffn=True, mlp_ratio=4
    )
    source = Dinov2Model(config).eval()
    randomise(source)
    if dialect == "meta":
        torch.save({k: v.detach() for k, v in meta_dinov2(source, False, gated=True).items()}, tmp_path / "giant.pth")
    else:
        source.save_pretrained(tmp_path)
    hidden = source.encoder.layer[0].mlp.down_proj.in_features
    model = VisionTransformer(
        56, 14, embed_dim=48, depth=2, num_heads=2, num_classes=0, init_values=1.0, dynamic_img_size=True,
        mlp_ratio=2 * hidden / 48, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU,
    ).eval()  # fmt: skip
    report = load_weights(model, tmp_path, "small giant")
    assert (report.dialect, report.matched) == (dialect, report.total)
    image = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(
            model.forward_features(image), source(image).last_hidden_state, atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_dinov3_without_biases_fits_models_with_and_without(qkv_bias: bool, tmp_path: Path) -> None:
    config = DINOv3ViTConfig(
        hidden_size=48, num_attention_heads=2, num_hidden_layers=2, intermediate_size=144, num_register_tokens=4,
        use_gated_mlp=True, hidden_act="silu", query_bias=False, value_bias=False,
    )  # fmt: skip
    source = DINOv3ViTModel(config).eval()
    randomise(source)
    source.save_pretrained(tmp_path)
    model = timm.create_model(
        "vit_7b_patch16_dinov3", num_classes=0, embed_dim=48, depth=2, num_heads=2, swiglu_align_to=8, mlp_ratio=3,
        qkv_bias=qkv_bias,
    ).eval()  # fmt: skip
    assert isinstance(model, Eva)
    report = load_weights(model, tmp_path, "small 7B")
    assert report.matched == report.total == len(model.state_dict())
    image = torch.randn(1, 3, 48, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model.forward_features(image), source(image).last_hidden_state, atol=TOLERANCE, rtol=0
        )


# --- timm


def test_timm_file_in_half_precision_becomes_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True).eval()
    state = {name: tensor.half() for name, tensor in source.state_dict().items()}
    save_file(state, tmp_path / "tiny.safetensors")
    backbone = build_backbone("timm:vit_tiny_patch16_224", str(tmp_path / "tiny.safetensors"))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    source.load_state_dict(state)
    image = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        expected = source.forward_features(image)
    (feature,) = backbone(image)
    torch.testing.assert_close(feature.map.flatten(2), expected[:, 1:].transpose(1, 2), atol=1e-5, rtol=0)


def test_weights_trained_here_come_back(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="random initialisation"):
        trained = build_backbone("tiny_vit4", "none")
    save_file(trained.model.state_dict(), tmp_path / "model.safetensors")
    loaded = build_backbone("tiny_vit4", str(tmp_path))
    image = torch.randn(1, 3, 20, 24)
    assert torch.equal(loaded(image)[0].map, trained(image)[0].map)


def test_real_dinov2(real_models: Path) -> None:
    path = real_models / "dinov2_vits14_timm.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in DINOSEG_MODELS")
    backbone = build_backbone("dinov2_vits14", str(path))
    assert backbone.weights_report is not None and backbone.weights_report.total == 174
    plain = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=518).eval()
    plain.load_state_dict(load_file(path))
    image = torch.randn(1, 3, 518, 518)
    with torch.no_grad():
        expected = plain.forward_features(image)[:, 1:]
    torch.testing.assert_close(backbone(image)[0].map.flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=0)
