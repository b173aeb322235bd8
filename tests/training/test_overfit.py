"""Heads learn four tiny pictures by heart, through the real loop."""

import json
from pathlib import Path

import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset

SETTINGS = {
    "linear": [
        "scheduler.total_iter=80",
        "optimizer.lr=5e-3",
        "decoder_head.dropout=0",
        "decoder_head.use_batchnorm=false",
    ],
    "m2f": [
        "scheduler.total_iter=90",
        "optimizer.lr=2e-3",
        "optimizer.gradient_clip=1.0",
        "decoder_head.hidden_dim=32",
        "decoder_head.num_queries=8",
        "decoder_head.encoder_layers=1",
        "decoder_head.decoder_layers=3",
        "decoder_head.encoder_ffn_dim=64",
        "decoder_head.decoder_ffn_dim=64",
        "decoder_head.adapter_inplane=16",
        "decoder_head.adapter_drop_path=0",
        "m2f_train.num_points=512",
    ],
    "pmt": [
        "model.dino_hub=tiny_vit8",
        "scheduler.total_iter=50",
        "optimizer.lr=1e-3",
        "optimizer.gradient_clip=1.0",
        "decoder_head.backbone_out_layers=[1,3]",
        "decoder_head.num_queries=6",
        "decoder_head.decoder_layers=2",
        "decoder_head.decoder_ffn_dim=64",
        "m2f_train.num_points=256",
    ],
    "eomt": [
        "model.dino_hub=tiny_vit8",
        "scheduler.total_iter=60",
        "optimizer.lr=2e-3",
        "optimizer.gradient_clip=1.0",
        "decoder_head.num_queries=6",
        "decoder_head.decoder_layers=2",
        "m2f_train.num_points=256",
    ],
}


@pytest.mark.parametrize("head", SETTINGS)
def test_four_pictures_by_heart(head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 4}, size=(64, 64))
    settings = tiny_settings(
        data,
        tmp_path / "run",
        "datasets.val=train",
        "model.dino_hub=tiny_vit4",
        "model.mode=full",
        "optimizer.backbone_lr_factor=1.0",
        "transforms.train.crop_size=64",
        "transforms.train.random_img_size_ratio_range=[1.0, 1.0]",
        "transforms.train.photometric_distortion=false",
        "transforms.train.flip_prob=0",
        "transforms.train.max_class_share=1.0",
        "eval.mode=whole",
        "bs=4",
        f"decoder_head.type={head}",
        *SETTINGS[head],
        "eval.eval_interval=1000",
    )
    # Validation on the training pictures is what overfitting means; the check would rightly refuse it.
    monkeypatch.setattr("dinoseg.check.check.same_image_findings", lambda scans: [])
    assert run_cli(["train", *settings], monkeypatch) == 0
    metrics = json.loads((tmp_path / "run" / "eval" / "val" / "metrics.json").read_text())
    assert metrics["mIoU"] > 95
