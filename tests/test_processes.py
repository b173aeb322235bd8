"""Evaluation in one and in two processes gives the same matrix, to the last integer."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from test_round_trip import TruthTeller
from tiny import write_tiny_dataset

from dinoseg.config_loading import load_config
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.folders import find_pairs
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import Evaluation, evaluate
from dinoseg.inference.policy import window_policy
from dinoseg.labels import LabelSpace


def _evaluate(root: Path) -> Evaluation:
    config = load_config([f"datasets.root={root}", "eval.crop_size=24", "eval.stride=17"])
    space = LabelSpace.build({0: "back", 1: "red", 2: "green"}, None, None, found_ids=[0, 1, 2])
    pairs = find_pairs(config.datasets, "val").pairs
    dataset = EvaluationDataset(pairs, space, build_eval_transform(config.transforms))
    return evaluate(TruthTeller(3), dataset, window_policy(config), space, torch.device("cpu"))


def _worker(rank: int, root: str, out: str, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    evaluation = _evaluate(Path(root))
    torch.save((evaluation.matrix, evaluation.policy["images"]), f"{out}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("images", [5, 1])
def test_two_processes_count_what_one_counts(images: int, tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path / "data", {"val": images})
    alone = _evaluate(root)
    # The model is a poor one on these pictures: the matrix has something off the diagonal to lose.
    assert alone.matrix.sum() == images * 40 * 56
    assert (alone.matrix - alone.matrix.diag().diag()).sum() > 0
    multiprocessing.spawn(_worker, (str(root), str(tmp_path), 29500 + os.getpid() % 1000), nprocs=2)
    for rank in range(2):
        matrix, counted = torch.load(tmp_path / f"{rank}.pt")
        assert counted == images
        assert torch.equal(matrix, alone.matrix)
