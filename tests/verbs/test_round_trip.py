"""A model that is told the truth gets exactly 100 everywhere and gives back every mask, in label ids, to the byte."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.truth_teller import TruthTeller
from PIL import Image
from rich.console import Console

from dinoseg.check.check import check_dataset
from dinoseg.config.loading import load_config
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.folders import find_pairs
from dinoseg.data.masks import read_mask
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import evaluate
from dinoseg.evaluation.settings import EvaluationSettings
from dinoseg.inference.files import list_inputs, with_masks
from dinoseg.inference.job import PredictionJob
from dinoseg.inference.outputs import OutputFolder
from dinoseg.inference.policy import window_policy
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace
from dinoseg.verbs.predict import predict_files

SIZES = [(37, 53), (17, 120), (64, 31)]


@dataclass
class Case:
    settings: list[str]
    label_ids: list[int]
    colours: bool = False
    dtype: Any = np.uint8


CASES = {
    "with background": Case(["datasets.classes={0: background, 1: artery, 2: vein, 3: crossing}"], [0, 1, 2, 3, 255]),
    "scanned": Case([], [0, 1, 2, 3]),
    "reduce_zero_label": Case(["eval.reduce_zero_label=true"], [0, 1, 2, 3]),
    "several ignored": Case(["datasets.classes={1: a, 5: b}", "datasets.ignore=[0, 7, 255]"], [0, 1, 5, 7, 255]),
    "merged": Case(["datasets.classes={0: background, 1: vessel, 2: vessel, 9: other}"], [0, 1, 2, 9]),
    "colours": Case(
        ["datasets.classes={'#000000': background, '#ff0000': artery, '#0000ff': vein}", "datasets.ignore=['#ffffff']"],
        [0x000000, 0xFF0000, 0x0000FF, 0xFFFFFF],
        colours=True,
    ),
    "16-bit ids": Case(
        [f"datasets.classes={{{', '.join(f'{7 * i}: c{i}' for i in range(300))}}}", "datasets.ignore=[65535]"],
        [7 * i for i in range(300)] + [65535],
        dtype=np.uint16,
    ),
}


def _write_masks(root: Path, case: Case) -> None:
    generator = np.random.default_rng(3)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number, size in enumerate(SIZES):
            ids = generator.choice(case.label_ids, size)
            # Every label id occurs, so that a scan finds all of them.
            ids.ravel()[: len(case.label_ids)] = case.label_ids
            if case.colours:
                stored = np.stack([ids >> 16, (ids >> 8) & 255, ids & 255], axis=-1).astype(np.uint8)
            else:
                stored = ids.astype(case.dtype)
            Image.fromarray(stored).save(root / split / "masks" / f"{number}.png")
            Image.new("RGB", size[::-1], (generator.integers(255), 0, 0)).save(
                root / split / "images" / f"{number}.png"
            )


def _paint_truth(root: Path, space: LabelSpace) -> None:
    """Replaces the pictures by ones that show the class index; ignored pixels show class 0."""
    for image in root.glob("*/images/*.png"):
        index = space.encode(read_mask(image.parent.parent / "masks" / image.name, space.kind)).astype(int)
        index[index == space.ignore_index] = 0
        Image.fromarray(np.stack([index % 256, index // 256, 0 * index], axis=-1).astype(np.uint8)).save(image)


@pytest.mark.parametrize("name", CASES)
def test_the_truth_scores_100_and_comes_back(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    root, out = tmp_path / "data", tmp_path / "out"
    _write_masks(root, case)
    config = load_config(
        [
            f"datasets.root={root}",
            "transforms.mean=[0, 0, 0]",
            "transforms.std=[1, 1, 1]",
            "eval.crop_size=24",
            "eval.stride=17",
            *case.settings,
        ]
    )
    space = check_dataset(config.datasets).label_space
    assert space is not None
    _paint_truth(root, space)
    model = TruthTeller(space.num_classes)
    dataset = EvaluationDataset(
        find_pairs(config.datasets, "val").pairs, space, build_eval_transform(config.transforms)
    )
    evaluation = evaluate(model, dataset, EvaluationSettings(window_policy(config), space), torch.device("cpu"))
    figures = evaluation.to_dict()
    means = ("mIoU", "mAcc", "aAcc", "mDice", "mFscore", "mPrecision", "mRecall")
    assert {mean: figures[mean] for mean in means} == dict.fromkeys(means, 100.0)
    assert all(row["IoU"] == 100.0 for row in figures["per_class"])

    predictor = Predictor(model, space, config, torch.device("cpu"))
    masks = root / "val" / "masks"
    images = with_masks(list_inputs([str(root / "val" / "images")]), masks)
    summary = predict_files(
        PredictionJob(predictor, OutputFolder(out, mask_ignored=masks)), images, Console(quiet=True)
    )
    assert not summary.failed
    canonical = {label_id: entry.label_ids[0] for entry in space.classes for label_id in entry.label_ids}
    for mask in masks.iterdir():
        stored, written = np.asarray(Image.open(mask)), np.asarray(Image.open(out / "labels" / mask.name))
        if name == "merged":
            stored = np.vectorize(canonical.get)(stored).astype(np.uint8)
        assert written.dtype == stored.dtype
        assert written.tobytes() == stored.tobytes()
