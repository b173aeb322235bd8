"""Backbone weights that do not fit, are damaged or run code are refused in words."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from dinoseg.backbone import build_backbone, timm_models
from dinoseg.backbone.catalogue import list_backbones
from dinoseg.backbone.weights import load_weights, weight_files

State = dict[str, Tensor]


def tiny_state() -> State:
    with pytest.warns(UserWarning, match="random initialisation"):
        return dict(build_backbone("tiny_vit8", "none").model.state_dict())


def refusal(name: str, path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        build_backbone(name, str(path))
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    state = tiny_state()
    for name in ("blocks.1.norm1.weight", "blocks.1.norm1.bias"):
        del state[name]
    save_file(state, tmp_path / "a.safetensors")
    message = refusal("tiny_vit8", tmp_path / "a.safetensors")
    total = len(state) + 2
    assert f"matched {total - 2} / {total} tensors of tiny_vit8, nothing loaded" in message
    assert "Likely reason: the file is incomplete or altered" in message
    assert "missing: blocks.1.norm1.weight, blocks.1.norm1.bias" in message


def test_a_file_of_a_folder_may_end_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "TINY.SAFETENSORS").touch()
    assert weight_files(tmp_path) == (tmp_path / "TINY.SAFETENSORS",)


def test_unexpected_tensors_are_named(tmp_path: Path) -> None:
    save_file({**tiny_state(), "adapter.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert "unexpected: adapter.weight" in refusal("tiny_vit8", tmp_path / "a.safetensors")


def test_other_patch_size(tmp_path: Path) -> None:
    save_file(tiny_state(), tmp_path / "a.safetensors")
    message = refusal("tiny_vit4", tmp_path / "a.safetensors")
    assert "patch size 8 in the file, 4 in the model (the file looks like tiny_vit8)" in message
    assert "other shape: patch_embed.proj.weight (96, 3, 8, 8) in place of (96, 3, 4, 4)" in message


def meta_skeleton(model: str) -> State:
    """Zeros in the shapes of a timm DINOv2, enough to be recognised."""
    with torch.device("meta"):
        state = timm.create_model(model, num_classes=0).state_dict()
    return {name: torch.zeros(tensor.shape, dtype=torch.float16) for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        (
            "vit_base_patch14_dinov2",
            "dinov2_vits14",
            "width 768 in the file, 384 in the model (the file looks like dinov2_vitb14)",
        ),
        (
            "vit_small_patch14_reg4_dinov2",
            "dinov2_vits14",
            "registers 4 in the file, 0 in the model (the file looks like dinov2_vits14_reg)",
        ),
        (
            "vit_small_patch16_dinov3_qkvb",
            "dinov2_vits14",
            "family ViT with rotary positions (DINOv3) in the file, ViT with learned positions (DINOv2) in the model",
        ),
        ("convnext_atto", "dinov2_vits14", "family ConvNeXt in the file"),
        ("convnext_tiny", "dinov3_convnext_small", "blocks 18 in the file, 36 in the model"),
    ],
)
def test_likely_reason(source: str, name: str, reason: str, tmp_path: Path) -> None:
    save_file(meta_skeleton(source), tmp_path / "a.safetensors")
    assert f"Likely reason: {reason}" in refusal(name, tmp_path / "a.safetensors")


def test_refused_weights_leave_the_model_as_it_was(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="random initialisation"):
        model = build_backbone("tiny_vit8", "none").model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items() if name != "norm.bias"}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"missing: norm\.bias"):
        load_weights(model, tmp_path / "a.safetensors", "tiny_vit8")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Hostile:
    """Unpickled without care, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_not_run(writer: str, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    payload = {"patch_embed.proj.weight": torch.zeros(1), "hook": Hostile(trap)}
    if writer == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    message = refusal("tiny_vit8", path)
    assert "refused, it holds more than tensors (a pickle that runs code when loaded" in message
    assert not trap.exists()
    torch.load(path, weights_only=False) if writer == "torch" else pickle.loads(path.read_bytes())
    assert trap.exists()  # the trap was a real one


def test_truncated_files(tmp_path: Path) -> None:
    save_file(tiny_state(), tmp_path / "a.safetensors")
    torch.save(tiny_state(), tmp_path / "b.pth")
    for file, reason in (("a.safetensors", "not a readable safetensors file"), ("b.pth", "not a readable checkpoint")):
        path = tmp_path / file
        path.write_bytes(path.read_bytes()[:50_000])
        assert reason in refusal("tiny_vit8", path)


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("not found")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "bare.pth")
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    assert "not a readable checkpoint" in refusal("tiny_vit8", tmp_path / "empty.pth")
    assert "a text file, no weights" in refusal("tiny_vit8", tmp_path / "text.pth")
    assert "holds a list, not named tensors" in refusal("tiny_vit8", tmp_path / "list.pth")
    assert "holds no tensors" in refusal("tiny_vit8", tmp_path / "bare.pth")
    assert "its first tensors are weight" in refusal("tiny_vit8", tmp_path / "foreign.safetensors")


def test_missing_path_and_ambiguous_folder(tmp_path: Path) -> None:
    assert "no such file or folder (beside a path, give 'hub' or 'none')" in refusal("tiny_vit8", tmp_path / "x")
    assert "found: none; name the file" in refusal("tiny_vit8", tmp_path)
    for name in ("a.pth", "b.safetensors"):
        (tmp_path / name).touch()
    assert "found: a.pth, b.safetensors; name the file" in refusal("tiny_vit8", tmp_path)


# --- hub


class NoNetwork:
    def model_info(self, repository: str, timeout: float) -> None:
        raise ConnectionError("Name or service not known\nsecond line")


def test_no_network_names_the_files_that_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_models, "HfApi", NoNetwork)
    monkeypatch.setattr(timm_models, "try_to_load_from_cache", lambda repository, file: None)
    with pytest.raises(ValueError) as caught:
        build_backbone("dinov2_vits14_reg")
    message = str(caught.value)
    assert "the weights of 'dinov2_vits14_reg' could not be fetched" in message
    assert "(Name or service not known)" in message
    assert "give a file as model.weights=/path/to/file" in message
    for file in ("dinov2_vits14_reg4_pretrain.pth", "facebook/dinov2-with-registers-small", "model.safetensors"):
        assert file in message


def test_weights_in_the_cache_need_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model("vit_tiny_patch16_224")
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(timm_models, "HfApi", NoNetwork)
    monkeypatch.setattr(
        timm_models, "try_to_load_from_cache", lambda repository, file: str(tmp_path / "model.safetensors")
    )
    backbone = build_backbone("timm:vit_tiny_patch16_224")
    assert torch.equal(backbone.model.blocks[3].attn.qkv.weight, source.blocks[3].attn.qkv.weight)
    report = backbone.weights_report
    assert report is not None and report.matched == report.total == len(backbone.model.state_dict())
    assert report.path == "https://huggingface.co/timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def test_nothing_is_published_for_the_tiny_ones() -> None:
    with pytest.raises(ValueError, match=r"no published weights for 'tiny_vit8'; give model\.weights=none"):
        build_backbone("tiny_vit8", "hub")


def test_every_published_backbone_names_three_files() -> None:
    published = [spec for spec in list_backbones() if spec.timm_name]
    assert all(len(spec.files) == 3 and spec.files[0].startswith("Meta's ") for spec in published)
