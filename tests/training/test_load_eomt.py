"""Whole EoMT models load by ``load_from``: transformers' and its authors', weights or differences."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.eomt_models import DINOV3, MODELS, TinyEomt, authors_state
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinoseg.backbone import WeightsReport
from dinoseg.backbone.patch_size import set_patch_size
from dinoseg.backbone.weights import load_weights
from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import Segmenter
from dinoseg.training.load_from import load_from

SPACE = LabelSpace.build({0: "a", 1: "b", 2: "c"}, None, None, range(3))
BACKBONE = "network.encoder.backbone."
REPORT = WeightsReport(1, 1, "timm", "base.safetensors", None)


def saved(state: dict[str, Tensor], path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def same(first: Segmenter, second: Segmenter) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.allclose(value, theirs[name], atol=1e-6) for name, value in ours.items())


@pytest.mark.parametrize("name", MODELS)
def test_what_transformers_saves_loads(name: str, tmp_path: Path) -> None:
    reference = MODELS[name].reference()
    reference.attn_mask_probs.zero_()
    reference.save_pretrained(tmp_path)
    segmenter = MODELS[name].segmenter()
    text = load_from(segmenter, tmp_path / "model.safetensors", SPACE)
    tensors = len(segmenter.backbone.plain_state())
    assert "all 3 classes kept by position" in text
    assert text.endswith(f"{tensors} tensors of the backbone loaded (transformers dialect)")
    image = MODELS[name].image()
    with torch.no_grad():
        found, expected = segmenter.eval()(image)[0], reference(image)
    torch.testing.assert_close(found.mask_logits(0), expected.masks_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.class_logits[0], expected.class_queries_logits, atol=1e-4, rtol=1e-4)


def loaded(state: dict[str, Tensor], folder: Path, **options: Any) -> Segmenter:
    segmenter = DINOV3.segmenter(**options)
    load_from(segmenter, saved(state, folder / "model.safetensors"), SPACE)
    return segmenter


def test_what_its_authors_write_is_the_same(tmp_path: Path) -> None:
    reference = DINOV3.reference()
    theirs = loaded(reference.state_dict(), tmp_path)
    assert same(theirs, loaded(authors_state(reference), tmp_path))
    # Of DINOv2 they have timm's names.
    timm_names = {f"{BACKBONE}{name}": value for name, value in theirs.backbone.plain_state().items()}
    head = theirs.head.state_dict() | {"criterion.empty_weight": torch.ones(4)}
    assert same(theirs, loaded(head | timm_names, tmp_path))


def differences(whole: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value - base[name] if name.startswith(BACKBONE) else value for name, value in whole.items()}


def test_differences_are_added_to_the_weights(tmp_path: Path) -> None:
    reference = DINOV3.reference()
    whole = authors_state(reference)
    expected = loaded(whole, tmp_path)
    for parameter in reference.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
    base = authors_state(reference)
    segmenter = loaded(base, tmp_path, weights_report=REPORT)
    file = saved(differences(whole, base), tmp_path / "differences.safetensors")
    assert "tensors of the backbone added to those of model.weights" in load_from(segmenter, file, SPACE)
    assert same(segmenter, expected)
    with pytest.raises(ValueError, match=r"holds differences from .* give the weights of tiny as model\.weights"):
        load_from(DINOV3.segmenter(), file, SPACE)
    with pytest.raises(
        ValueError, match=r"model\.weights=.*: holds the differences of an EoMT .* give it as load_from"
    ):
        load_weights(DINOV3.vit(), file, "tiny")


def test_a_backbone_that_is_kept_must_be_the_files_own(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    file = saved(DINOV3.reference().state_dict(), tmp_path / "model.safetensors")
    segmenter = DINOV3.segmenter(mode="lora")
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    with pytest.raises(ValueError, match=r"differs from that of model\.weights, which model\.mode=lora keeps; set"):
        load_from(segmenter, file, SPACE)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())
    model = segmenter.backbone.plain_state()
    whole = loaded(load_file(file), tmp_path).backbone.plain_state()
    for name, value in model.items():
        value.copy_(whole[name])
    assert "tensors of the head loaded" in load_from(segmenter, file, SPACE)


def test_what_does_not_fit_is_said_and_changes_nothing(tmp_path: Path) -> None:
    state = DINOV3.reference().state_dict()
    fewer = {name: value[:3] if name == "query.weight" else value for name, value in state.items()}
    cut = {name: value for name, value in state.items() if name != "layers.3.norm2.bias"}
    nan = state | {"class_predictor.bias": torch.full((4,), float("nan"))}
    linear = {"segmentation_model.1.conv.weight": torch.ones(3, 48, 1, 1)}
    segmenter = DINOV3.segmenter()
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    for wrong, message in (
        (fewer, r"not fitting \['network\.q\.weight \[3, 48\]'\]"),
        (cut, r"missing: blocks\.3\.norm2\.bias"),
        (nan, "4 values that are NaN or infinite"),
        (linear, r"holds no EoMT .* give a run folder, or a state dict of a whole EoMT"),
    ):
        with pytest.raises(ValueError, match=rf"load_from=.*{message}"):
            load_from(segmenter, saved(wrong, tmp_path / "wrong.safetensors"), SPACE)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*random initialisation.*")
def test_positions_of_another_grid_are_resampled_and_patches_of_another_size_made(tmp_path: Path) -> None:
    """As DINOv2's weights, of patches of 14, become those of an EoMT's, of patches of 16."""
    reference = MODELS["DINOv2, patch 16"].reference()
    file = saved(reference.state_dict(), tmp_path / "model.safetensors")
    # Of 3 x 3 patches of 14: as trained at another size.
    smaller = TinyEomt("dinov2", 14, 0, (3, 3))
    model = smaller.vit()
    spec = set_patch_size(model, smaller.spec(), 16)
    assert spec.patch_size == 16 and model.patch_embed.proj.weight.shape[-2:] == (16, 16)
    assert model.pos_embed.shape[1] == 1 + 2 * 2
    segmenter = smaller.segmenter(model=model, spec=spec)
    with pytest.raises(ValueError, match=r"its patches have 16 pixels, those of tiny 14 here; give model\.patch"):
        load_from(smaller.segmenter(), file, SPACE)
    with pytest.raises(ValueError, match=r"for the state dict in it give load_from=.*model\.safetensors"):
        load_from(segmenter, tmp_path, SPACE)
    assert "tensors of the backbone loaded" in load_from(segmenter, file, SPACE)
    assert segmenter.backbone.model.pos_embed.shape[1] == 1 + 2 * 2
    with torch.no_grad():
        assert segmenter.eval()(torch.randn(1, 3, 33, 40))[0].mask_features.shape[-2:] == (3 * 4, 3 * 4)


def test_weights_with_other_patches_are_taken_where_they_are_asked_for(tmp_path: Path) -> None:
    reference = MODELS["DINOv2, patch 16"].reference()
    file = saved(reference.state_dict(), tmp_path / "model.safetensors")
    smaller = TinyEomt("dinov2", 14, 0, (3, 3))
    model = smaller.vit()
    load_weights(model, file, "tiny", 16)
    assert set_patch_size(model, smaller.spec(), 16).patch_size == 16
    kernel = reference.state_dict()["embeddings.patch_embeddings.projection.weight"]
    assert torch.equal(model.patch_embed.proj.weight, kernel)
    with pytest.raises(ValueError, match="patch size 16 in the file, 14 in the model"):
        load_weights(smaller.vit(), file, "tiny")


def test_a_patch_of_another_size_gives_what_a_resized_one_gave() -> None:
    tiny = TinyEomt("dinov2", 14, 0, (3, 3))
    torch.manual_seed(0)
    model = tiny.vit()
    small = torch.randn(1, 3, 14, 14)
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bicubic", antialias=True)
    before = model.patch_embed.proj(small)
    set_patch_size(model, tiny.spec(), 28)
    torch.testing.assert_close(model.patch_embed.proj(large), before, atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match=r"model\.patch_size=8: tiny is a ConvNeXt, which has no patches"):
        set_patch_size(model, replace(tiny.spec(), kind="convnext"), 8)
