"""A training that starts from another head: all of it, or all but the class layer, and never code from a file."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import run_cli, tiny_settings, write_tiny_dataset

from dinoseg.config_loading import load_config
from dinoseg.models.dinov3_state import dinov3_state
from dinoseg.models.mask2former_head import Mask2FormerHead
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.training.load_from import load_head

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")

SMALL_M2F = [
    "decoder_head.type=m2f",
    "decoder_head.hidden_dim=32",
    "decoder_head.encoder_layers=1",
    "decoder_head.decoder_layers=1",
]


def _segmenter(num_classes: int, *more: str) -> Segmenter:
    return build_segmenter(load_config(["model.dino_hub=tiny_vit8", "model.weights=none", *more]), num_classes)


def test_a_run_with_other_classes_gives_all_but_the_class_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    three = write_tiny_dataset(tmp_path / "three", {"train": 2, "val": 1})
    four = write_tiny_dataset(tmp_path / "four", {"train": 2, "val": 1}, classes=4)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_cli(["train", *tiny_settings(three, first, "scheduler.total_iter=1", *SMALL_M2F)], monkeypatch) == 0
    frozen = ["scheduler.total_iter=1", "optimizer.lr=0", f"load_from={first}", *SMALL_M2F]
    assert run_cli(["train", *tiny_settings(four, second, *frozen)], monkeypatch) == 0
    assert "4 outputs there and 5 here, so it STARTS ANEW" in " ".join(capsys.readouterr().out.split())
    before, after = (load_file(run / "checkpoints" / "best" / "model.safetensors") for run in (first, second))
    learned = [n for n in after if n.startswith("head.") and "running" not in n and "num_batches" not in n]
    changed = {
        name for name in learned if before[name].shape != after[name].shape or not before[name].equal(after[name])
    }
    assert changed == {"head.predictor.class_embed.weight", "head.predictor.class_embed.bias"}


def test_state_dicts_of_dinov3_load(tmp_path: Path) -> None:
    source = _segmenter(3, *SMALL_M2F)
    assert isinstance(source.head, Mask2FormerHead)
    torch.save({"model": dinov3_state(source.head)}, tmp_path / "model_final.pth")
    target = _segmenter(3, *SMALL_M2F)
    load_head(target, tmp_path / "model_final.pth")
    assert all(torch.equal(a, b) for a, b in zip(source.head.parameters(), target.head.parameters(), strict=True))

    linear = _segmenter(3)
    names = {f"segmentation_model.1.{name}": tensor for name, tensor in linear.head.state_dict().items()}
    torch.save({"model": names}, tmp_path / "linear.pth")
    other = _segmenter(3)
    assert "tensors of the head loaded" in load_head(other, tmp_path / "linear.pth")
    assert torch.equal(linear.head.conv.weight, other.head.conv.weight)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('trapped', 'w').close()",)


def test_what_does_not_fit_or_holds_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    segmenter = _segmenter(3)
    with pytest.raises(ValueError, match="no such file"):
        load_head(segmenter, tmp_path / "missing.pth")
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"model": _Trap()}))
    with pytest.raises(ValueError, match="code in it is not run"):
        load_head(segmenter, tmp_path / "trap.pth")
    assert not (tmp_path / "trapped").exists()
    torch.save({"segmentation_model.1.conv.weight": torch.zeros(3, 7, 1, 1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not fit: missing"):
        load_head(segmenter, tmp_path / "other.pth")
