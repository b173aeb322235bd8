"""A feature cache of three pictures, on a tiny random backbone."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dinoseg.backbone import backbone_hash, build_backbone
from dinoseg.config import Config
from dinoseg.config.loading import load_config
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.pairs import Pair
from dinoseg.data.transforms import build_eval_transform
from dinoseg.features.fill import FeatureCache, Images
from dinoseg.features.store import CachedFeatures
from dinoseg.labels import LabelSpace

SPACE = LabelSpace.build({0: "back", 1: "red", 2: "green"}, None, None, found_ids=[0, 1, 2])
SIZE = (40, 56)


def three_images(folder: Path) -> EvaluationDataset:
    """Smooth pictures of ``SIZE`` and masks of one class."""
    generator = np.random.default_rng(1)
    pairs = []
    for index in range(3):
        image, mask = folder / f"i{index}.png", folder / f"m{index}.png"
        smooth = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        smooth.resize(SIZE[::-1], Image.Resampling.BICUBIC).save(image)
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(mask)
        pairs.append(Pair(image.stem, image, mask))
    return EvaluationDataset(pairs, SPACE, build_eval_transform(load_config([]).transforms))


def config_for(folder: Path, *more: str) -> Config:
    return load_config(
        ["model.dino_hub=tiny_vit8", "model.weights=none", "eval.mode=whole", f"train.cache_folder={folder}", *more]
    )


def build(config: Config) -> FeatureCache:
    torch.manual_seed(0)
    backbone = build_backbone(
        config.model.dino_hub,
        "none",
        config.decoder_head.backbone_out_layers or "LAST",
        scale=config.model.backbone_scale,
    )
    return FeatureCache.of(config, backbone.eval(), backbone_hash(backbone.frozen_state()))


def filled(cache: FeatureCache, data: Images) -> tuple[CachedFeatures, int]:
    """What data sets read, and how many images were computed for it."""
    files, missing = cache.missing(data)
    done: list[None] = []
    cache.fill(data, files, missing, lambda: done.append(None))
    return cache.source(files), len(done)
