"""Decoder files of the Plain Mask Transformer: sizes are read off them, and what is none is refused."""

import re
from pathlib import Path

import pytest
import torch
from helpers.published import BLOCKS, FFN, QUERIES, decoder_state, write_decoder
from helpers.weight_files import BAD_FILES, BadFile
from safetensors import safe_open

from dinoseg.backbone.catalogue import find_backbone
from dinoseg.models.pmt_head import PmtHead, PmtOptions
from dinoseg.zoo.pmt_state import PmtSizes, load_decoder, read_decoder

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")
FIXTURE = Path(__file__).parents[1] / "data" / "pmt_tiny.safetensors"


def test_the_sizes_of_a_published_file() -> None:
    state = read_decoder(FIXTURE, "fixture")
    sizes = PmtSizes.of(state, "fixture")
    assert sizes == PmtSizes(width=48, layers=4, queries=11, blocks=4, ffn_dim=96, doublings=2, num_classes=7)
    options = PmtOptions(num_queries=11, decoder_layers=4, decoder_ffn_dim=96)
    head = PmtHead(in_channels=(48,) * 4, num_classes=7, patch_size=16, backbone_heads=3, options=options)
    load_decoder(head, state, "fixture")
    with safe_open(FIXTURE, framework="pt") as opened:
        for name, tensor in head.state_dict().items():
            assert torch.equal(tensor, opened.get_tensor(f"network.{name}")), name


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_both_formats_hold_the_same(name: str, tmp_path: Path) -> None:
    state = read_decoder(write_decoder(tmp_path / name, "tiny_vit8", 3), "file")
    assert not any(key.startswith("encoder") for key in state)
    expected = {key.removeprefix("network."): value for key, value in decoder_state("tiny_vit8", 3).items()}
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert PmtSizes.of(state, "file") == PmtSizes(96, 4, QUERIES, BLOCKS, FFN, 1, 3)


@pytest.mark.parametrize("bad", [bad for bad in BAD_FILES if bad.reason], ids=lambda bad: bad.name)
def test_what_is_no_weights_file_is_refused_and_not_run(
    bad: BadFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad.write(tmp_path / bad.name, decoder_state("tiny_vit8", 3))
    with pytest.raises(ValueError, match=f"^hf:here: .*{re.escape(bad.reason)}"):
        read_decoder(tmp_path / bad.name, "hf:here")
    assert not (tmp_path / "trapped").exists()


def test_other_models_are_no_decoders(tmp_path: Path) -> None:
    torch.save({"backbone.norm.weight": torch.ones(3), "head.weight": torch.ones(3)}, tmp_path / "other.bin")
    with pytest.raises(ValueError, match=r"hf:x: holds no decoder of a Plain Mask .*, but backbone.norm.weight, head"):
        read_decoder(tmp_path / "other.bin", "hf:x")
    part = {name: value for name, value in decoder_state("tiny_vit8", 3).items() if "decoder.q." not in name}
    torch.save(part, tmp_path / "part.bin")
    with pytest.raises(ValueError, match=r"hf:x: not a whole decoder: network\.decoder\.q\.weight is missing"):
        PmtSizes.of(read_decoder(tmp_path / "part.bin", "hf:x"), "hf:x")


def test_a_class_layer_whose_parts_disagree_is_refused() -> None:
    state = {name.removeprefix("network."): value for name, value in decoder_state("tiny_vit8", 3).items()}
    state["decoder.class_head.bias"] = torch.zeros(9)
    with pytest.raises(ValueError, match=r"hf:x: .*class_head\.weight is \(4, 96\), where \(9, 96\) is expected"):
        PmtSizes.of(state, "hf:x")


def test_a_decoder_says_which_backbones_it_is_for() -> None:
    sizes = PmtSizes(width=1024, layers=4, queries=100, blocks=6, ffn_dim=4096, doublings=2, num_classes=150)
    sizes.refuse_other_backbone(find_backbone("dinov3_vitl16"), "hf:x")
    with pytest.raises(ValueError) as met:
        sizes.refuse_other_backbone(find_backbone("dinov3_vits16"), "hf:x")
    assert str(met.value) == (
        "hf:x: a decoder for a backbone of 1024 channels, and model.dino_hub=dinov3_vits16 has 384; give "
        "model.dino_hub=dinov3_vitl16 (or dinov2_vitl14, dinov2_vitl14_reg), the one it was trained on"
    )


def test_a_decoder_for_other_patches_does_not_fit() -> None:
    options = PmtOptions(num_queries=QUERIES, decoder_layers=BLOCKS, decoder_ffn_dim=FFN)
    head = PmtHead(in_channels=(96,) * 4, num_classes=3, patch_size=16, backbone_heads=3, options=options)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    state = {name.removeprefix("network."): value for name, value in decoder_state("tiny_vit8", 3).items()}
    with pytest.raises(ValueError, match=r"hf:x: .* missing decoder\.upscale\.1.*; give the backbone it was trained"):
        load_decoder(head, state, "hf:x")
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
