"""One and two processes: the same evaluation to the last integer, the same loss curve, the same averaged weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from helpers.truth_teller import TruthTeller
from helpers.two_processes import in_two_processes
from safetensors.torch import load_file

from dinoseg import cli
from dinoseg.config.loading import load_config
from dinoseg.data.dataset import EvaluationDataset
from dinoseg.data.folders import find_pairs
from dinoseg.data.transforms import build_eval_transform
from dinoseg.evaluation.evaluate import Evaluation, evaluate
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.settings import EvaluationSettings
from dinoseg.inference.policy import window_policy
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.checkpoint import MODEL_FILE, Checkpoint


def _evaluate(root: Path) -> Evaluation:
    config = load_config([f"datasets.root={root}", "eval.crop_size=24", "eval.stride=17"])
    space = LabelSpace.build({0: "back", 1: "red", 2: "green"}, None, None, found_ids=[0, 1, 2])
    pairs = find_pairs(config.datasets, "val").pairs
    dataset = EvaluationDataset(pairs, space, build_eval_transform(config.transforms))
    measures = Measures(boundary_width=0.02, thin_classes=(1, 2))
    settings = EvaluationSettings(window_policy(config), space, measures)
    return evaluate(TruthTeller(3), dataset, settings, torch.device("cpu"))


def _worker(rank: int, root: str, out: str, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    evaluation = _evaluate(Path(root))
    np.savez(f"{out}/{rank}.npz", **evaluation.counts.to_arrays())
    Path(f"{out}/{rank}.json").write_text(json.dumps(evaluation.to_dict()))
    distributed.destroy_process_group()


@pytest.mark.parametrize("images", [5, 1])
def test_two_processes_count_what_one_counts(images: int, tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path / "data", {"val": images})
    alone = _evaluate(root)
    # The model is a poor one on these pictures: the matrix has something off the diagonal to lose.
    assert alone.matrix.sum() == images * 40 * 56
    assert (alone.matrix - alone.matrix.diag().diag()).sum() > 0
    in_two_processes(_worker, str(root), str(tmp_path), 29500 + os.getpid() % 1000)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as counts:
            assert len(counts) == 4
            for name, values in alone.counts.to_arrays().items():
                np.testing.assert_array_equal(counts[name], values)
        assert (tmp_path / f"{rank}.json").read_text() == json.dumps(alone.to_dict())


def _run_verb(rank: int, verb: str, arguments: list[str], out: str, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    joined = distributed.init_process_group
    groups = []
    distributed.init_process_group = lambda *values, **options: groups.append(joined(*values, **options))
    cli.train(arguments) if verb == "train" else cli.evaluate(arguments=arguments)
    threads = [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]
    told = {"joined": len(groups), "gloo": [name for name in threads if "gloo" in name]}
    Path(f"{out}/{verb}{rank}.json").write_text(json.dumps(told))


def test_no_thread_of_the_process_group_outlives_a_verb(tmp_path: Path) -> None:
    """One that lets go of a tensor while the interpreter ends aborts the process: now and then, on a busy machine."""
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 2})
    run = tmp_path / "run"
    for verb, arguments in {"train": tiny_settings(data, run), "eval": [str(run)]}.items():
        port = 29500 + os.getpid() % 1000
        in_two_processes(_run_verb, verb, arguments, str(tmp_path), port)
        for rank in range(2):
            assert json.loads((tmp_path / f"{verb}{rank}.json").read_text()) == {"joined": 1, "gloo": []}


def test_two_processes_train_one_fold_after_the_other(tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 3, "val": 2})
    settings = tiny_settings(data, tmp_path / "cv", "datasets.folds=2", "decoder_head.type=linear", "trackers=[]")
    # The second time the folds are finished, and no training joins the processes before they are asked.
    for _ in range(2):
        in_two_processes(_run_verb, "train", settings, str(tmp_path), 29500 + os.getpid() % 1000)
        metrics = json.loads((tmp_path / "cv" / "eval" / "val" / "metrics.json").read_text())
        assert [fold["images"] for fold in metrics["policy"]["out_of_fold"]] in ([2, 3], [3, 2])
        assert sum(row["truth"] for row in metrics["per_class"]) == 5 * 40 * 56


def _losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def test_two_processes_train_like_one_with_twice_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 5, "val": 3})
    # Without BatchNorm, whose statistics are per process on a CPU, and without dropout, whose noise is.
    shared = ["decoder_head.use_batchnorm=false", "decoder_head.dropout=0", "optimizer.lr=1e-2", "train.ema_decay=0.6"]
    assert run_cli(["train", *tiny_settings(data, tmp_path / "one", *shared, "bs=4")], monkeypatch) == 0
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29391", "-m", "dinoseg"]
    result = subprocess.run(
        [sys.executable, *launcher, "train", *tiny_settings(data, tmp_path / "two", *shared, "bs=2")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    one, two = _losses(tmp_path / "one"), _losses(tmp_path / "two")
    # The second logs the share of its first process; with equal counts of valid pixels the means agree over both.
    assert len(one) == len(two) == 4
    matrices = [(tmp_path / name / "eval" / "val" / "confusion.csv").read_text() for name in ("one", "two")]
    assert matrices[0] == matrices[1]
    folders = [tmp_path / name / "checkpoints" / "last" for name in ("one", "two")]
    averaged = [load_file(folder / MODEL_FILE) for folder in folders]
    trained = [Checkpoint(folder).trainer_state()["trained"] for folder in folders]
    for key in ("head.conv.weight", "head.conv.bias"):
        torch.testing.assert_close(averaged[0][key], averaged[1][key], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trained[0][key], trained[1][key], rtol=1e-4, atol=1e-5)
        # Far enough apart for the one to be told from the other.
        assert not torch.allclose(averaged[0][key], trained[0][key], rtol=1e-3, atol=1e-4)
