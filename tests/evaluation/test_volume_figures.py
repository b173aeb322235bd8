"""Figures by volume, and intervals that resample volumes: against numpy alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dinoseg.evaluation.bootstrap import bootstrap_intervals
from dinoseg.evaluation.compare import compare
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation, write_evaluation
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.shards import Shard, merge_shards, write_shard
from dinoseg.evaluation.volume_figures import counts_by_volume, volume_figures
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.recorded_evaluation import read_evaluation_folder

SPACE = LabelSpace.build({0: "air", 1: "organ", 2: "stone"}, None, None, {})
VOLUMES = ("b", "a", "b", "", "a", "b")
NAMES = ("b_0", "a_0", "b_1", "photo", "a_1", "b_2")
POLICY = {"resolution": "native", "images": 6, "slices": 5, "volumes": 2, "images_available": 6}


def maps(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truth of six images; no image of volume a, and none of its predictions, holds a stone."""
    generator = np.random.default_rng(seed)
    truth, prediction = generator.integers(0, 3, (6, 8, 8)), generator.integers(0, 3, (6, 8, 8))
    truth = np.random.default_rng(99).integers(0, 3, (6, 8, 8))
    for values in (truth, prediction):
        values[[1, 4]] %= 2
    return prediction, truth


def evaluation(seed: int = 0, rows: list[int] | None = None) -> Evaluation:
    counts = Counts.empty(6, 3, Measures())
    for row, (prediction, truth) in enumerate(zip(*maps(seed), strict=True)):
        if rows is None or row in rows:
            counts.count(row, torch.from_numpy(prediction), torch.from_numpy(truth), 255, Measures())
    return Evaluation(counts, NAMES, POLICY, SPACE, Measures(), VOLUMES)


def test_figures_are_those_of_the_voxels() -> None:
    prediction, truth = maps()
    found = volume_figures(evaluation().image_counts.numpy(), VOLUMES, SPACE, "skip_empty")
    dice = {}
    for name in "ba":
        rows = [row for row, volume in enumerate(VOLUMES) if volume == name]
        p, t = prediction[rows], truth[rows]
        pairs = [(((p == c) & (t == c)).sum(), (p == c).sum() + (t == c).sum()) for c in range(3)]
        dice[name] = [200 * both / size if size else None for both, size in pairs]
    assert [row["name"] for row in found["figures"]] == ["b", "a"] and [r["slices"] for r in found["figures"]] == [3, 2]
    for row in found["figures"]:
        assert row["Dice"] == [None if value is None else pytest.approx(value) for value in dice[row["name"]]]
        assert row["mDice"] == pytest.approx(np.mean([value for value in dice[row["name"]] if value is not None]))
    assert dice["a"][2] is None and found["per_class"][2]["volumes"] == 1
    means = [np.mean([dice["a"][c], dice["b"][c]]) for c in (0, 1)] + [dice["b"][2]]
    assert [row["Dice"] for row in found["per_class"]] == pytest.approx(means)
    assert found["mDice"] == pytest.approx(np.mean(means)) and found["volumes"] == 2


def test_intervals_resample_volumes_and_lone_pictures() -> None:
    counts = evaluation().image_counts.numpy()
    names, summed = counts_by_volume(counts, NAMES, VOLUMES)
    assert names == ("b", "a", "photo")
    np.testing.assert_array_equal(summed, [counts[[0, 2, 5]].sum(0), counts[[1, 4]].sum(0), counts[3]])
    contents = evaluation().to_dict()
    assert contents["confidence"]["resampled"] == "volumes"
    assert contents["confidence"]["mIoU"] == list(bootstrap_intervals(summed).miou or ())
    assert contents["confidence"]["mIoU"] != list(bootstrap_intervals(counts).miou or ())


def test_nothing_changes_without_volumes() -> None:
    whole = evaluation()
    plain = Evaluation(whole.counts, NAMES, {"images": 6}, SPACE, Measures()).to_dict()
    assert "per_volume" not in plain and "resampled" not in plain["confidence"]
    assert plain["confidence"]["mIoU"] == list(bootstrap_intervals(whole.image_counts.numpy()).miou or ())


def test_what_is_written_is_read_back_and_compared_by_volume(tmp_path: Path) -> None:
    for seed, name in ((0, "one"), (1, "two")):
        write_evaluation(evaluation(seed), tmp_path / name, {"checkpoint": "best"})
    recorded = read_evaluation_folder(tmp_path / "one", "`dinoseg eval`")
    assert recorded.volumes == VOLUMES and recorded.names == NAMES
    comparison = compare(tmp_path / "one", tmp_path / "two")
    assert (comparison.images, comparison.volumes, comparison.miou.images) == (6, 3, 3)
    assert comparison.remarks[0].startswith("3 volumes: too few to call any difference beyond chance")
    assert {entry.name for entry in (*comparison.better, *comparison.worse)} <= {"a", "b", "photo"}


def test_shards_make_the_same_figures(tmp_path: Path) -> None:
    for number in (1, 2):
        shard = Shard(number, 2)
        write_shard(evaluation(rows=shard.rows(6)), tmp_path, shard, "0" * 64, {"checkpoint": "best"})
    merged = merge_shards(tmp_path, "`dinoseg eval`").evaluation
    assert json.dumps(merged.to_dict()) == json.dumps(evaluation().to_dict())
