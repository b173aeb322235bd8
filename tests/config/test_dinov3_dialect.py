"""DINOv3's own segmentation configs run as they are on a folder laid out like ADE20K."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import run_cli
from PIL import Image

from dinoseg.config.loading import load_config

# The keys and values of the two configs that DINOv3 ships for ADE20K.
SHARED = """
bs: 2
n_gpus: 8
num_workers: 6
model_dtype: {autocast_dtype: FLOAT32}
seed: 100
metric_to_save: mIoU
load_from: null
model: {dino_hub: null, config_file: null, pretrained_weights: null}
datasets: {root: "", train: "ADE20K:split=TRAIN", val: "ADE20K:split=VAL"}
optimizer: {lr: 1e-3, beta1: 0.9, beta2: 0.999, weight_decay: 1e-3, gradient_clip: .inf}
train: {celoss_weight: 1.0, diceloss_weight: 0.0}
scheduler:
  type: WarmupOneCycleLR
  total_iter: 40000
  constructor_kwargs:
    warmup_iters: 1500
    warmup_ratio: 1.0e-6
    pct_start: 0
    div_factor: 25.0
    final_div_factor: .inf
    anneal_strategy: cos
    use_beta1: False
    update_momentum: False
    base_momentum: 0.85
    max_momentum: 0.95
"""
LINEAR = """
decoder_head:
  type: linear
  backbone_out_layers: LAST
  use_batchnorm: True
  use_cls_token: False
  use_backbone_norm: True
  num_classes: 150
  hidden_dim: 2048
  dropout: 0.1
transforms:
  train: {img_size: 512, random_img_size_ratio_range: [0.5, 2.0], crop_size: [512, 512], flip_prob: 0.5}
  eval: {img_size: 512, tta_ratios: [1.0]}
  mean: [123.675, 116.28, 103.53]
  std: [58.395, 57.12, 57.375]
eval:
  compute_metric_per_image: False
  reduce_zero_label: True
  mode: slide
  crop_size: ${transforms.train.crop_size}
  stride: 341
  eval_interval: ${scheduler.total_iter}
  use_tta: False
"""
MASK2FORMER = """
decoder_head:
  type: m2f
  backbone_out_layers: FOUR_EVEN_INTERVALS
  use_backbone_norm: True
  num_classes: 150
  hidden_dim: 2048
transforms:
  train: {img_size: null, random_img_size_ratio_range: null, crop_size: 896, flip_prob: 0.0}
  eval: {img_size: 896, tta_ratios: [0.9, 0.95, 1.0, 1.05, 1.1]}
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
eval:
  compute_metric_per_image: True
  reduce_zero_label: True
  mode: slide
  crop_size: 896
  stride: 596
  eval_interval: 40000
  use_tta: True
"""


def _write(path: Path, *parts: str) -> str:
    path.write_text("".join(parts))
    return f"config={path}"


def _write_ade20k(root: Path) -> Path:
    """Pictures whose masks hold every label id, 0 (void) .. 150."""
    generator = np.random.default_rng(2)
    for split, count in (("training", 3), ("validation", 2)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            mask = generator.permutation(np.arange(16 * 20) % 151).reshape(16, 20).astype(np.uint8)
            Image.fromarray(mask).save(root / "annotations" / split / f"ADE_{number:08d}.png")
            picture = np.stack([mask, 150 - mask, mask // 2], axis=-1)
            Image.fromarray(picture).save(root / "images" / split / f"ADE_{number:08d}.jpg")
    return root


def _train_and_evaluate(recipe: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, Any]:
    """Two steps at an eighth of the size, which takes seconds; the figures that ``eval`` then writes."""
    data, run = _write_ade20k(folder / "ADEChallengeData2016"), folder / "run"
    common = ["model.dino_hub=dinov3_vits16", "model.weights=none", "device=cpu", "num_workers=0"]
    common += ["scheduler.total_iter=2", "scheduler.constructor_kwargs.warmup_iters=1", "eval.stride=43"]
    common += ["transforms.train.img_size=64", "transforms.train.crop_size=[64, 64]", "transforms.eval.img_size=64"]
    arguments = ["train", recipe, f"datasets.root={data.parent}", f"output_dir={run}", *common, *more]
    assert run_cli(arguments, monkeypatch) == 0
    assert run_cli(["eval", run], monkeypatch) == 0
    return json.loads((run / "eval" / "val" / "metrics.json").read_text())


def test_the_linear_training_config_runs_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = _write(tmp_path / "linear.yaml", SHARED, LINEAR)
    metrics = _train_and_evaluate(recipe, tmp_path, monkeypatch)
    assert [row["label_id"] for row in metrics["per_class"]] == list(range(1, 151))
    # Void pixels count nowhere.
    assert sum(row["truth"] for row in metrics["per_class"]) == sum(
        int((np.asarray(Image.open(mask)) != 0).sum()) for mask in tmp_path.rglob("annotations/validation/*.png")
    )
    remarks = [line for line in capsys.readouterr().err.splitlines() if "is passed over" in line]
    assert [line.split(": ")[2].split(" ")[0] for line in remarks] == [
        "n_gpus",
        "scheduler.constructor_kwargs.base_momentum",
        "scheduler.constructor_kwargs.max_momentum",
    ]
    assert all(line.startswith("note: config=") for line in remarks)
    assert "accelerate launch --num_processes N" in remarks[0]


def test_the_mask2former_config_runs_with_a_smaller_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = _write(tmp_path / "m2f.yaml", SHARED, MASK2FORMER)
    smaller = ["hidden_dim=32", "num_heads=2", "num_queries=150", "encoder_layers=1", "decoder_layers=1"]
    smaller += ["encoder_ffn_dim=16", "decoder_ffn_dim=16", "adapter_inplane=4"]
    metrics = _train_and_evaluate(
        recipe,
        tmp_path,
        monkeypatch,
        *(f"decoder_head.{setting}" for setting in smaller),
        "m2f_train.num_points=64",
        "eval.crop_size=64",
        "transforms.eval.tta_ratios=[0.9, 1.0]",
    )
    assert metrics["policy"]["images"] == 2
    assert len(metrics["per_class"]) == 150


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_what_the_files_say_arrives(tmp_path: Path) -> None:
    linear = load_config([_write(tmp_path / "linear.yaml", SHARED, LINEAR)])
    assert linear.model_dtype == "FLOAT32"
    assert linear.model.dino_hub == "dinov3_vits16"
    assert linear.transforms.mean == pytest.approx([0.485, 0.456, 0.406])
    assert linear.transforms.std == pytest.approx([0.229, 0.224, 0.225])
    assert (linear.eval.crop_size, linear.eval.stride, linear.eval.eval_interval) == ([512, 512], 341, 40000)
    assert (linear.optimizer.weight_decay, linear.optimizer.gradient_clip) == (1e-3, float("inf"))
    assert set(linear.scheduler.constructor_kwargs) == {
        "warmup_iters",
        "warmup_ratio",
        "pct_start",
        "div_factor",
        "final_div_factor",
        "anneal_strategy",
    }
    mask2former = load_config([_write(tmp_path / "m2f.yaml", SHARED, MASK2FORMER)])
    assert mask2former.transforms.train.random_img_size_ratio_range == [1.0, 1.0]
    assert mask2former.transforms.mean == [0.485, 0.456, 0.406]


def test_the_other_spellings() -> None:
    assert load_config(["model_dtype.autocast_dtype=BFLOAT16"]).model_dtype == "BFLOAT16"
    assert load_config(["model.pretrained_weights=dino.pth"]).model.weights == "dino.pth"
    later = load_config(["model.pretrained_weights=dino.pth", "model.weights=none"])
    assert later.model.weights == "none"
    assert load_config(["scheduler.constructor_kwargs.warmup_iters=null"]).scheduler.constructor_kwargs == {}


@pytest.mark.filterwarnings("error")
def test_what_asks_for_nothing_is_not_remarked_on() -> None:
    load_config(["n_gpus=null", "scheduler.constructor_kwargs.use_beta1=false", "model.config_file=null"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("n_gpu: 2\n", ["unknown key 'n_gpu'"]),
        ("decoder_head: {num_clases: 3}\n", ["did you mean 'decoder_head.num_classes'?"]),
        ("model_dtype: {autocast_dtype: FLOAT32, other: 1}\n", ["model_dtype has the unknown key 'other'"]),
        ("model_dtype: {autocast_dtype: FLOAT8}\n", ["model_dtype='FLOAT8'", "FLOAT32, BFLOAT16"]),
        ("model: {pretrained_weights: a.pth, weights: b.pth}\n", ["a.pth", "b.pth", "two spellings of one option"]),
        ("bs: ${batch}\n", ["bs", "cannot be filled in", "batch"]),
        ("scheduler: {constructor_kwargs: {warmup_iters: many}}\n", ["warmup_iters is 'many'", "expected a number"]),
        ("scheduler: {constructor_kwargs: {div_factor: 0}}\n", ["div_factor is 0"]),
        ("scheduler: {constructor_kwargs: {milestones: 5}}\n", ["milestones is 5", "a list of steps"]),
    ],
)
def test_mistakes_in_such_a_file_name_the_key(text: str, parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError) as raised:
        load_config([_write(tmp_path / "mistake.yaml", text)])
    for part in parts:
        assert part in str(raised.value)
