"""A training of the backbone through the command line: LoRA resumes, predicts and exports; checkpoints stay small."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import run_cli, save_tiny_weights, tiny_settings, write_tiny_dataset
from helpers.two_processes import run_cli_in_two_processes
from safetensors.torch import load_file, save_file

import dinoseg
from dinoseg.backbone import build_backbone
from dinoseg.config.loading import load_config
from dinoseg.run_folder.folder import RunFolder, load_segmenter
from dinoseg.training.loop import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")

LORA = ["model.mode=lora", "lora.rank=4", "lora.dropout=0.2", "optimizer.lr=1e-2"]


def _weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "model.safetensors")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of backbone weights: what a frozen base is loaded from."""
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> tuple[Path, Path]:
    """A data set and a finished LoRA run on it."""
    base = tmp_path_factory.mktemp("lora")
    data = write_tiny_dataset(base / "data", {"train": 5, "val": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        settings = tiny_settings(data, base / "run", *LORA, f"model.weights={weights}", "scheduler.total_iter=6")
        assert run_cli(["train", *settings], patch) == 0
    return data, base / "run"


def test_a_checkpoint_holds_adapters_and_head_alone(finished: tuple[Path, Path]) -> None:
    state = _weights(finished[1])
    backbone = [name for name in state if name.startswith("backbone.")]
    assert len(backbone) == 16 and all(".lora_" in name for name in backbone)
    assert all(name.startswith("head.") for name in state if name not in backbone)
    assert any(bool(state[name].any()) for name in backbone if ".lora_B." in name)


def test_the_plan_lists_what_is_trained(finished: tuple[Path, Path]) -> None:
    log = (finished[1] / "train.log").read_text()
    rows = {line.split("  ")[0]: line.split("  ")[1:] for line in log.splitlines()}
    # Rank 4 in four blocks, 96 -> 288 and 96 -> 96.
    lora, head = ([cell.strip() for cell in rows[name] if cell.strip()] for name in ("LoRA blocks 0 to 3", "head"))
    # The head's rate is 1e-2, of which adapters have a tenth.
    assert lora == ["16", f"{4 * 4 * (384 + 192):,}", "0.001", "0.01"]
    assert head == ["4", f"{2 * 96 + 96 * 3 + 3:,}", "0.01", "0.01, 0"]


def test_a_stopped_lora_run_resumes_to_the_bit(
    finished: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, whole = finished
    report = Trainer._report

    def stop_after_three(trainer: Trainer, *arguments: Any) -> None:
        report(trainer, *arguments)
        if trainer.progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    parts = tmp_path / "parts"
    settings = tiny_settings(data, parts, *LORA, f"model.weights={weights}", "scheduler.total_iter=6")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_report", stop_after_three)
        assert run_cli(["train", *settings], monkeypatch) == 0
    assert run_cli(["train", *settings, "--resume"], monkeypatch) == 0
    first, second = _weights(whole), _weights(parts)
    assert first.keys() == second.keys()
    assert not [name for name in first if not torch.equal(first[name], second[name])]


def test_the_base_is_not_touched_and_another_base_is_refused(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = finished
    torch.manual_seed(6)
    save_file(build_backbone("tiny_vit8", "none").model.state_dict(), tmp_path / "other.safetensors")
    assert run_cli(["eval", run, f"model.weights={tmp_path / 'other.safetensors'}"], monkeypatch) == 1
    assert "trained on other weights of tiny_vit8" in capsys.readouterr().err


def _scores(run: Path) -> torch.Tensor:
    folder = RunFolder(run)
    segmenter = load_segmenter(folder.open_checkpoint("best"), folder.read_config(), folder.read_labels())
    torch.manual_seed(0)
    with torch.no_grad():
        return segmenter.semantic_logits(torch.randn(2, 3, 40, 48))


def test_an_exported_lora_run_needs_neither_peft_nor_weights(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = finished
    out = tmp_path / "exported"
    assert run_cli(["export", run, out], monkeypatch) == 0
    assert "dinoseg predict" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"exported"}
    config = load_config([f"config={out / 'config.yaml'}"])
    assert config.model.mode == "freeze" and config.model.save_backbone
    before, image = _scores(run), data / "val" / "images" / "val_0.png"
    labels = dinoseg.load(run).predict(image).labels
    monkeypatch.setitem(sys.modules, "peft", None)
    torch.testing.assert_close(_scores(out), before, atol=1e-5, rtol=1e-5)
    assert (dinoseg.load(out, overrides=("model.weights=/nowhere",)).predict(image).labels == labels).all()
    with pytest.raises(ValueError, match=r"pip install 'dinoseg\[lora\]'"):
        dinoseg.load(run)


def test_an_exported_run_evaluates_alike_and_is_not_resumed(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = finished
    out = tmp_path / "exported"
    assert run_cli(["export", run, out], monkeypatch) == 0
    for folder in (run, out):
        assert run_cli(["eval", folder], monkeypatch) == 0
    figures = [json.loads((folder / "eval" / "val" / "metrics.json").read_text()) for folder in (run, out)]
    assert figures[0]["mIoU"] == pytest.approx(figures[1]["mIoU"], abs=0.1)
    capsys.readouterr()
    assert run_cli(["train", out, "--resume"], monkeypatch) == 1
    assert "exported to predict with and cannot be resumed" in capsys.readouterr().err
    assert run_cli(["export", run, out], monkeypatch) == 1
    assert "holds a run or an export already" in capsys.readouterr().err


def test_a_frozen_run_exports_the_backbone_it_named_and_names_options_without_effect(
    weights: Path,
    finished: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "moved.safetensors"
    file.write_bytes(weights.read_bytes())
    more = ["scheduler.total_iter=1", "model.gradient_checkpointing=true", "optimizer.layer_decay=0.9"]
    settings = tiny_settings(finished[0], tmp_path / "run", f"model.weights={file}", *more)
    assert run_cli(["train", *settings], monkeypatch) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "no effect on a frozen backbone (model.mode=freeze): model.gradient_checkpointing, optimizer.layer_d" in printed
    )
    assert not [name for name in _weights(tmp_path / "run") if name.startswith("backbone.")]
    assert run_cli(["export", tmp_path / "run", tmp_path / "out"], monkeypatch) == 0
    before = _scores(tmp_path / "run")
    file.unlink()
    assert torch.equal(_scores(tmp_path / "out"), before)


def test_two_processes_train_adapters_like_one_with_twice_the_batch(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2})
    shared = ["model.mode=lora", f"model.weights={weights}", "decoder_head.use_batchnorm=false", "optimizer.lr=1e-2"]
    shared += ["decoder_head.dropout=0", "scheduler.total_iter=3", "model.gradient_checkpointing=true"]
    assert run_cli(["train", *tiny_settings(data, tmp_path / "one", *shared, "bs=4")], monkeypatch) == 0
    codes, printed = run_cli_in_two_processes(["train", *tiny_settings(data, tmp_path / "two", *shared)], tmp_path)
    assert codes == [0, 0], printed
    one, two = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    assert one.keys() == two.keys() and any(".lora_B." in name and value.any() for name, value in one.items())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


def test_full_training_lists_the_decayed_learning_rates(
    finished: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = ["model.mode=full", f"model.weights={weights}", "optimizer.layer_decay=0.5", "optimizer.lr=1e-2"]
    more = ["model.gradient_checkpointing=true", "scheduler.total_iter=1"]
    assert run_cli(["train", *tiny_settings(finished[0], tmp_path / "run", *full, *more)], monkeypatch) == 0
    log = (tmp_path / "run" / "train.log").read_text().splitlines()
    rows = {line.split("  ")[0]: line for line in log}
    # A tenth of the head's 1e-2, halved with every layer down from the norm.
    assert "6.25e-05 to 0.0005" in rows["backbone blocks 0 to 3"]
    assert "3.13e-05" in rows["backbone embeddings"] or "3.12e-05" in rows["backbone embeddings"]
    assert " 0.001 " in rows["backbone norm"]


# --- settings


def test_lora_enabled_is_another_spelling_of_the_mode() -> None:
    config = load_config(["lora.enabled=true"])
    assert config.model.mode == "lora"
    assert config == load_config(["model.mode=lora"]) == load_config(["model.mode=lora", "lora.enabled=true"])
    assert load_config([]).model.mode == load_config(["lora.enabled=false"]).model.mode == "freeze"


@pytest.mark.parametrize(("mode", "enabled"), [("freeze", "true"), ("full", "true"), ("lora", "false")])
def test_spellings_that_disagree(mode: str, enabled: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.mode={mode} and lora\.enabled={enabled} disagree"):
        load_config([f"model.mode={mode}", f"lora.enabled={enabled}"])


@pytest.mark.parametrize(("mode", "factor"), [("freeze", None), ("lora", 1.0), ("full", 0.1)])
def test_the_factor_on_the_learning_rate_follows_the_mode(mode: str, factor: float | None) -> None:
    assert load_config([f"model.mode={mode}"]).optimizer.backbone_lr_factor == factor
    assert load_config([f"model.mode={mode}", "optimizer.backbone_lr_factor=0.3"]).optimizer.backbone_lr_factor == 0.3


@pytest.mark.parametrize(("lr", "factor"), [("5e-3", 0.2), ("2e-3", 0.5), ("1e-4", 1.0), ("0", 1.0)])
def test_adapters_learn_at_1e_3_at_most(lr: str, factor: float) -> None:
    config = load_config(["model.mode=lora", f"optimizer.lr={lr}"])
    assert config.optimizer.backbone_lr_factor == pytest.approx(factor)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lora.rank=0", r"lora\.rank=0 is too small"),
        ("lora.dropout=1.0", r"lora\.dropout=1\.0 is too large; give 0 or more, below 1"),
        ("lora.alpha=0", r"lora\.alpha=0\.0 is too small"),
        ("optimizer.layer_decay=1.1", r"optimizer\.layer_decay=1\.1 is too large; give a number above 0, at most 1"),
        ("optimizer.layer_decay=0", r"optimizer\.layer_decay=0\.0"),
        ("model.mode=thaw", r"model\.mode='thaw' is unknown; choose one of freeze, lora, full"),
        ("lora.enable=true", r"unknown key 'lora\.enable'; did you mean 'lora\.enabled'"),
    ],
)
def test_settings_out_of_range(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config([setting])


# --- biases beside the adapters, and the scale of rsLoRA

BIASES = ["lora.bias=all", "lora.use_rslora=true", "scheduler.total_iter=4"]


def test_trained_biases_and_the_scale_are_stored_and_come_back(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, whole, parts = write_tiny_dataset(tmp_path / "data", {"train": 4, "val": 2}), *_two(tmp_path)
    settings = [*LORA, *BIASES, f"model.weights={weights}"]
    assert run_cli(["train", *tiny_settings(data, whole, *settings)], monkeypatch) == 0
    state, base = _weights(whole), load_file(weights)
    biases = {name: value for name, value in state.items() if name.startswith("backbone.") and ".lora_" not in name}
    plain = {name.replace(".base_layer", "").removeprefix("backbone.model."): value for name, value in biases.items()}
    assert plain.keys() == {name for name in base if name.endswith("bias")}
    assert all(not torch.equal(value, base[name]) for name, value in plain.items())

    report = Trainer._report

    def stop_after_two(trainer: Trainer, *arguments: Any) -> None:
        report(trainer, *arguments)
        if trainer.progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_report", stop_after_two)
        assert run_cli(["train", *tiny_settings(data, parts, *settings)], monkeypatch) == 0
    assert run_cli(["train", parts, "--resume"], monkeypatch) == 0
    resumed = _weights(parts)
    assert state.keys() == resumed.keys()
    assert not [name for name in state if not torch.equal(state[name], resumed[name])]

    # Evaluation, prediction and export: the loaded model has the stored biases, whatever file the base comes from.
    folder = RunFolder(whole)
    segmenter = load_segmenter(folder.open_checkpoint("last"), folder.read_config(), folder.read_labels())
    loaded = segmenter.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    before = _scores(whole)
    assert run_cli(["eval", whole], monkeypatch) == 0
    assert run_cli(["export", whole, tmp_path / "exported"], monkeypatch) == 0
    torch.testing.assert_close(_scores(tmp_path / "exported"), before, atol=1e-4, rtol=1e-4)


def _two(folder: Path) -> tuple[Path, Path]:
    return folder / "whole", folder / "parts"


def test_another_base_is_refused_beside_trained_biases(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1})
    settings = [*LORA, "lora.bias=lora_only", f"model.weights={weights}", "scheduler.total_iter=1"]
    assert run_cli(["train", *tiny_settings(data, tmp_path / "run", *settings)], monkeypatch) == 0
    torch.manual_seed(6)
    save_file(build_backbone("tiny_vit8", "none").model.state_dict(), tmp_path / "other.safetensors")
    capsys.readouterr()
    assert run_cli(["eval", tmp_path / "run", f"model.weights={tmp_path / 'other.safetensors'}"], monkeypatch) == 1
    assert "trained on other weights of tiny_vit8" in capsys.readouterr().err


# --- peft's spellings


def test_spellings_of_peft_mean_ours(tmp_path: Path) -> None:
    recipe = tmp_path / "fork.yaml"
    recipe.write_text(
        "lora: {enabled: true, r: 4, lora_alpha: 32, lora_dropout: 0.1, target_modules: [qkv, proj], bias: lora_only}\n"
    )
    config = load_config([f"config={recipe}"])
    assert config == load_config(
        [
            *("model.mode=lora", "lora.rank=4", "lora.alpha=32", "lora.dropout=0.1"),
            *("lora.targets=[qkv, proj]", "lora.bias=lora_only"),
        ]
    )
    assert load_config(base=config) == config
    assert load_config(["lora.target_modules=all-linear"]).lora.targets == ["all-linear"]
    assert load_config(["lora.r=4", "lora.rank=4"]).lora.rank == 4
    left_out = load_config([]).lora
    assert (left_out.rank, left_out.alpha, left_out.dropout) == (8, 16.0, 0.0)
    assert left_out.targets == ["attn.qkv", "attn.proj"] and left_out.bias == "none" and not left_out.use_rslora


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("lora.rank=8", "lora.r=4"),
        ("lora.alpha=16.0", "lora.lora_alpha=8.0"),
        ("lora.dropout=0.0", "lora.lora_dropout=0.5"),
        ("lora.targets=['attn.qkv']", "lora.target_modules=['attn.proj']"),
    ],
)
def test_two_spellings_of_lora_that_disagree(ours: str, theirs: str) -> None:
    key = ours.partition("=")[0]
    with pytest.raises(ValueError) as met:
        load_config([ours, theirs])
    assert str(met.value).startswith(f"{ours} and {theirs} disagree") and f"give {key} alone" in str(met.value)


def test_patches_of_another_size_travel_with_the_run(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 3, "val": 2})
    settings = tiny_settings(data, tmp_path / "run", f"model.weights={weights}", "model.patch_size=4")
    assert run_cli(["train", *settings, "scheduler.total_iter=1"], monkeypatch) == 0
    state = _weights(tmp_path / "run", "best")
    assert state["backbone.model.patch_embed.proj.weight"].shape[-2:] == (4, 4)
    assert run_cli(["predict", tmp_path / "run", data / "val/images", "--out", tmp_path / "out"], monkeypatch) == 0
    features = dinoseg.load(tmp_path / "run").features(data / "val/images/val_0.png")
    assert features[0].map.shape[-2:] == (10, 14)
