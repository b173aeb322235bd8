"""The eomt head through the command line: trained in full and by LoRA, evaluated, predicted with, exported."""

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli, save_tiny_weights, tiny_settings, write_tiny_dataset
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")

EOMT = [
    "decoder_head.type=eomt",
    "decoder_head.num_queries=6",
    "decoder_head.decoder_layers=2",
    "m2f_train.num_points=64",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("eomt") / "data", {"train": 4, "val": 2})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


def _labels(run: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    assert run_cli(["predict", run, data / "val" / "images", "--out", out], monkeypatch) == 0
    return np.stack([np.array(Image.open(path)) for path in sorted((out / "labels").iterdir())])


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_run_is_trained_predicted_with_and_exported(
    mode: str,
    data: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if mode == "lora":
        pytest.importorskip("peft")
    run, exported = tmp_path / "run", tmp_path / "exported"
    # Full is what it is when left out.
    given = ["model.mode=lora", "optimizer.lr=1e-2"] if mode == "lora" else []
    settings = tiny_settings(data, run, *EOMT, *given, f"model.weights={weights}")
    assert run_cli(["train", *settings], monkeypatch) == 0
    assert f"({mode}), head eomt" in capsys.readouterr().out
    state = load_file(run / "checkpoints/best/model.safetensors")
    backbone = [name for name in state if name.startswith("backbone.")]
    assert {name for name in state if name.startswith("head.")} >= {"head.network.q.weight"}
    assert not any("blocks" in name for name in state if name not in backbone)
    assert all(".lora_" in name for name in backbone) if mode == "lora" else len(backbone) > 50
    assert run_cli(["eval", run], monkeypatch) == 0
    assert run_cli(["export", run, exported], monkeypatch) == 0
    # Nothing but the export is needed.
    weights_elsewhere = weights.rename(weights.with_name("gone.safetensors"))
    try:
        found = _labels(exported, data, tmp_path / "of_export", monkeypatch)
    finally:
        weights_elsewhere.rename(weights)
    assert np.array_equal(found, _labels(run, data, tmp_path / "of_run", monkeypatch))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["model.mode=freeze"], "model.mode=freeze with decoder_head.type=eomt: its queries go through the backbone's"),
        (["model.mode=freeze"], "set model.mode=full, or lora where memory is short, or decoder_head.type=pmt"),
        (["train.cache_features=true"], "train.cache_features=true with model.mode=full: features of a backbone that"),
        (["train.cldice_weight=1"], "has no effect on decoder_head.type=eomt"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    given: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["train", *tiny_settings(tmp_path / "none", tmp_path / "run", *EOMT, *given)], monkeypatch) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "cache_features out, or set model.mode=freeze" not in error
    assert not (tmp_path / "run").exists()
