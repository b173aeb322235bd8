"""A published head in the place of a run folder: what it predicts, and what it may be told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.published import (
    decoder_state,
    head_config,
    tiny_head,
    use_hub,
    write_backbone,
    write_decoder,
    write_hub_cache,
)
from safetensors.torch import save_file
from torch.nn import functional

import dinoseg
from dinoseg.backbone import build_backbone
from dinoseg.config.class_files import read_classes
from dinoseg.inference.chosen_runs import choose_runs
from dinoseg.inference.opening import OpenedRun
from dinoseg.inference.policy import window_policy
from dinoseg.models.segmenter import build_segmenter
from dinoseg.zoo.pmt_state import load_decoder

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")
SMALL = "tue-mps/coco_panoptic_pmt_small_640_dinov3"
ADE = "tue-mps/ade20k_semantic_pmt_large_512_dinov3"
DESCRIBED = ("model.dino_hub=tiny_vit8", "datasets.classes={4: sky, 7: road, 9: tree}", "eval.mode=whole")


def opened(address: str, *overrides: str) -> OpenedRun:
    found = choose_runs(address, overrides=overrides).open()
    assert isinstance(found, OpenedRun)
    return found


def test_it_predicts_what_its_decoder_says_on_its_backbone(tmp_path: Path) -> None:
    folder = tiny_head(tmp_path / "head")
    predictor = dinoseg.load(f"hf:{folder}", device="cpu", overrides=DESCRIBED)
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    found = predictor.predict(image, scores=True)
    # The same, put together by hand.
    model = build_segmenter(head_config("tiny_vit8", f"model.weights={folder / 'backbone.safetensors'}"), 3).eval()
    state = {name.removeprefix("network."): value for name, value in decoder_state("tiny_vit8", 3).items()}
    load_decoder(model.head, state, "by hand")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = model.semantic_logits(((torch.tensor(image).permute(2, 0, 1) / 255 - mean) / std)[None])[0]
    torch.testing.assert_close(torch.tensor(found.scores), expected, rtol=1e-4, atol=1e-5)
    assert predictor.class_names == ("sky", "road", "tree")
    assert np.array_equal(found.labels, np.array([4, 7, 9])[expected.argmax(0).numpy()])
    assert predictor.fingerprint is not None


def test_windows_are_laid_and_averaged_as_its_authors_do(tmp_path: Path) -> None:
    """The short side becomes the window, two windows cover the long one, what they share is their mean."""
    folder = tiny_head(tmp_path / "head")
    windows = ["transforms.eval.img_size=32", "eval.mode=slide", "eval.crop_size=32", "eval.stride=32"]
    predictor = dinoseg.load(f"hf:{folder}", device="cpu", overrides=[*DESCRIBED[:2], *windows])
    image = np.random.default_rng(2).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = torch.tensor(predictor.scores(image))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    small = functional.interpolate(
        ((torch.tensor(image).permute(2, 0, 1) / 255 - mean) / std)[None], (32, 48), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        left, right = (predictor.model.semantic_logits(small[..., start : start + 32]) for start in (0, 16))
    both = torch.cat([left[..., :16], (left[..., 16:] + right[..., :16]) / 2, right[..., 16:]], dim=-1)
    expected = functional.interpolate(both, (64, 96), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def ade_file(tmp_path: Path) -> Path:
    """What tells the sizes of a decoder for ADE20K on a ViT-L, and no more."""
    sizes = {"q.weight": (100, 1024), "class_head.bias": (151,), "blocks.0.mlp.up_proj.bias": (4096,)}
    torch.save({f"network.decoder.{name}": torch.zeros(shape) for name, shape in sizes.items()}, tmp_path / "ade.bin")
    return tmp_path / "ade.bin"


def test_a_known_head_of_the_cache_has_classes_backbone_and_windows(
    ade_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    write_hub_cache(tmp_path / "hub", ADE, {"pytorch_model.bin": ade_file})
    run = opened(f"hf:{ADE}")
    assert run.label_space.class_names == tuple(read_classes("ade20k").classes.values())
    assert run.label_space.classes[0].label_ids == (1,) and run.label_space.ignored_ids == (0, 255)
    config = run.config
    assert (config.model.dino_hub, config.model.weights, config.model.mode) == ("dinov3_vitl16", "hub", "freeze")
    assert (config.decoder_head.num_queries, config.decoder_head.decoder_ffn_dim) == (100, 4096)
    assert config.decoder_head.backbone_out_layers == "FOUR_QUARTERS"
    assert window_policy(config).describe() == {
        **{"mode": "slide", "img_size": 512, "crop": [512, 512], "stride": [512, 512]},
        **{"blend": "uniform", "tta": None},
    }
    assert run.origin.run == f"hf:{ADE}" and run.origin.checkpoint == "published"


def test_labels_are_known_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    space = choose_runs(f"hf:{SMALL}").read_labels()
    assert space.num_classes == 133 and space.classes[-1].label_ids == (200,)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.dino_hub=dinov3_vits16", "the model of this published head was trained with dinov3_vitl16"),
        ("decoder_head.num_queries=7", "the model of this published head was trained with 100"),
        ("datasets.classes={0: a, 1: b}", "the label space of a published head is fixed"),
        ("decoder_head.num_classes=3", f"train on others with load_from=hf:{ADE}"),
        ("evil.mode=whole", "unknown key 'evil.mode'"),
    ],
)
def test_what_a_known_head_is_cannot_be_changed(
    setting: str, said: str, ade_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    write_hub_cache(tmp_path / "hub", ADE, {"pytorch_model.bin": ade_file})
    with pytest.raises(ValueError) as met:
        opened(f"hf:{ADE}", setting)
    assert said in str(met.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "none of the heads that are known by name (`dinoseg zoo` lists them); say what it was trained on: "),
        (DESCRIBED[:1], "say what it was trained on: datasets.classes=..."),
        (("model.dino_hub=tiny_vit8", "datasets.classes=camvid"), "a decoder for 3 classes, and 11 are named"),
        (("model.dino_hub=dinov3_vits16", DESCRIBED[1]), "give model.dino_hub=tiny_vit4 (or tiny_vit8)"),
        ((*DESCRIBED, "decoder_head.num_queries=7"), "are read off its file; leave it out"),
        (("model.dino_hub=nonsense", DESCRIBED[1]), "unknown backbone 'nonsense'"),
    ],
)
def test_what_an_unknown_head_must_be_told(overrides: tuple[str, ...], said: str, tmp_path: Path) -> None:
    folder = tiny_head(tmp_path / "head")
    with pytest.raises(ValueError) as met:
        opened(f"hf:{folder}", *overrides)
    assert said in str(met.value)


def test_a_decoder_of_another_width_under_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    tiny = write_decoder(tmp_path / "pytorch_model.bin", "tiny_vit8", 133)
    write_hub_cache(tmp_path / "hub", SMALL, {"pytorch_model.bin": tiny})
    said = rf"not the file of {SMALL}, but a decoder for 96 channels and 133 classes, where 384 and 133 are expected"
    with pytest.raises(ValueError, match=said):
        opened(f"hf:{SMALL}")


def test_other_weights_of_either_part_are_another_fingerprint(tmp_path: Path) -> None:
    first, second, third = (tiny_head(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    prints = [opened(f"hf:{folder}", *DESCRIBED).fingerprint for folder in (first, second, third)]
    assert prints[0] == prints[1] != prints[2]
    write_backbone(second / "backbone.safetensors", seed=9)
    assert opened(f"hf:{second}", *DESCRIBED).fingerprint != prints[0]


def test_both_parts_from_the_cache_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panoptic head, which says what it gives; its backbone is the cached one, to the bit."""
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    small = write_decoder(tmp_path / "pytorch_model.bin", "dinov3_vits16", 133)
    write_hub_cache(tmp_path / "hub", SMALL, {"pytorch_model.bin": small})
    backbone = build_backbone("dinov3_vits16", weights="none").model
    save_file(backbone.state_dict(), tmp_path / "model.safetensors")
    timm_name = "timm/vit_small_patch16_dinov3_qkvb.lvd1689m"
    write_hub_cache(tmp_path / "hub", timm_name, {"model.safetensors": tmp_path / "model.safetensors"})
    sizes = ["transforms.eval.img_size=32", "eval.crop_size=32", "eval.stride=32"]
    with pytest.warns(UserWarning, match="a panoptic head; what is predicted are the classes of pixels, without inst"):
        predictor = dinoseg.load(f"hf:{SMALL}", device="cpu", overrides=sizes)
    loaded = predictor.model.backbone.model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in backbone.state_dict().items())
    image = np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    found = predictor.predict(image)
    assert found.labels.shape == (20, 50) and set(np.unique(found.labels)) <= set(read_classes("coco_panoptic").classes)


def test_a_backbone_beside_a_known_head_is_taken(ade_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / ADE
    folder.mkdir(parents=True)
    ade_file.rename(folder / "pytorch_model.bin")
    assert opened(f"hf:{folder}").config.model.weights == "hub"
    (folder / "backbone.pth").touch()
    assert opened(f"hf:{folder}").config.model.weights == str(folder / "backbone.pth")
    assert opened(f"hf:{folder}", "model.weights=none").config.model.weights == "none"


def test_a_backbone_that_is_missing_may_lie_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    file = write_decoder(tmp_path / SMALL / "pytorch_model.bin", "dinov3_vits16", 133)
    with pytest.raises(ValueError, match=r"weights=hub: .*these would do: .* too, as .*/backbone\.safetensors\."):
        dinoseg.load(f"hf:{file.parent}", device="cpu")


def test_a_head_has_no_checkpoints(tmp_path: Path) -> None:
    file = write_decoder(tmp_path / SMALL / "pytorch_model.bin", "dinov3_vits16", 133)
    with pytest.raises(ValueError, match=r"a published head has one set of weights; leave --checkpoint out"):
        choose_runs(f"hf:{file.parent}", "last")


def test_a_name_without_its_prefix_is_told() -> None:
    with pytest.raises(ValueError, match=rf"{SMALL}: no such folder; the published head of that name is hf:{SMALL}"):
        choose_runs(SMALL)
