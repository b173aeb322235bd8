"""A cross-validation through the command line: a run for each fold, one evaluation, one folder to predict with."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from safetensors.torch import load_file

from dinoseg import evaluate, train
from dinoseg.config import DatasetsConfig
from dinoseg.config.loading import load_config
from dinoseg.data.folders import find_pairs
from dinoseg.run_folder.checkpoint import MODEL_FILE
from dinoseg.run_folder.fold_runs import FoldRuns
from dinoseg.run_folder.folder import RunFolder
from dinoseg.training.interruption import Interruption
from dinoseg.verbs.learned_images import learned_before

# A model that learns nothing much in four steps, evaluated once.
MORE = (
    *("decoder_head.type=linear", "trackers=[]", "eval.eval_interval=4"),
    *("train.checkpoint_interval=1", "train.cache_features=true"),
)


def settings_for(data: Path, out: Path, *more: str) -> list[str]:
    return [*tiny_settings(data, out, *MORE, "datasets.folds=2"), *more]


def recorded_datasets(run: Path) -> DatasetsConfig:
    folder = RunFolder(run)
    return folder.with_recorded_splits(folder.read_config()).datasets


def matrix_in(folder: Path) -> np.ndarray:
    with (folder / "confusion.csv").open(newline="") as file:
        return np.array([[int(value) for value in row[1:]] for row in list(csv.reader(file))[1:]])


def metrics_in(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def weights_in(run: Path) -> dict:
    return load_file(run / "checkpoints" / "best" / MODEL_FILE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set whose train and val share a name, and two folds of it, trained by one command."""
    base = tmp_path_factory.mktemp("folds")
    data = write_tiny_dataset(base / "data", {"train": 4, "val": 2, "test": 2})
    for kind in ("images", "masks"):
        (data / "val" / kind / "val_0.png").rename(data / "val" / kind / "train_0.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        assert run_cli(["train", *settings_for(data, base / "cv")], patch) == 0
    return data, base / "cv"


@pytest.fixture
def copied(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, to be changed."""
    data, folder = finished
    return data, shutil.copytree(folder, tmp_path / "cv")


def test_folds_are_disjoint_and_complete(finished: tuple[Path, Path]) -> None:
    data, folder = finished
    splits = [json.loads((folder / f"fold_{number}" / "splits.json").read_text()) for number in range(2)]
    every = {
        path.relative_to(data).as_posix() for split in ("train", "val") for path in (data / split).glob("images/*")
    }
    assert set(splits[0]["val"]) | set(splits[1]["val"]) == every
    assert [len(fold["val"]) for fold in splits] == [3, 3]
    for fold, other in ((0, 1), (1, 0)):
        assert splits[fold]["train"] == splits[other]["val"]
        assert splits[fold]["test"] == ["test/images/test_0.png", "test/images/test_1.png"]


def test_temperatures_that_are_not_used_out_of_fold_are_said(
    copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = copied
    note = "note: out of fold no temperature is used"
    assert run_cli(["eval", folder], monkeypatch) == 0
    assert note not in capsys.readouterr().out
    assert run_cli(["calibrate", folder / "fold_0"], monkeypatch) == 0
    assert run_cli(["eval", folder], monkeypatch) == 0
    assert note in capsys.readouterr().out


def test_features_are_computed_once_for_all_folds(finished: tuple[Path, Path]) -> None:
    _, folder = finished
    assert len(list((folder.parent / "cache").rglob("features/*/*.safetensors"))) == 6


def test_the_matrix_is_the_sum_of_what_each_run_scores_on_its_own_fold(
    copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = copied
    for number in range(2):
        assert run_cli(["eval", folder / f"fold_{number}"], monkeypatch) == 0
    parts = [matrix_in(folder / f"fold_{number}" / "eval" / "val") for number in range(2)]
    assert (matrix_in(folder / "eval" / "val") == parts[0] + parts[1]).all()
    assert matrix_in(folder / "eval" / "val").sum() == 6 * 40 * 56
    metrics = metrics_in(folder / "eval" / "val")
    assert metrics["policy"]["images"] == metrics["policy"]["images_available"] == 6
    alone = [metrics_in(folder / f"fold_{number}" / "eval" / "val") for number in range(2)]
    told = metrics["policy"]["out_of_fold"]
    assert [(fold["images"], fold["mIoU"], fold["checkpoint"]) for fold in told] == [
        (3, figures["mIoU"], "best") for figures in alone
    ]
    with np.load(folder / "eval" / "val" / "per_image.npz") as images:
        names, counts = images["names"].tolist(), images["counts"]
    # Whichever run holds an image out, it has one name, even where train and val share one; rows are in their order.
    shared = {"train/images/train_0", "val/images/train_0"}
    assert names == sorted(names) and len(set(names)) == 6 and shared < set(names)
    for number in range(2):
        with np.load(folder / f"fold_{number}" / "eval" / "val" / "per_image.npz") as images:
            for name, row in zip(images["names"].tolist(), images["counts"], strict=True):
                assert (counts[names.index(name)] == row).all()
    truth = matrix_in(folder / "eval" / "val").sum(axis=1)
    assert [row["truth"] for row in metrics["per_class"]] == truth.tolist()
    assert all(row["IoU_interval"] is not None for row in metrics["per_class"])


def test_what_is_printed(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once more the same command: nothing is trained, all is evaluated."""
    data, folder = finished
    before = {path: path.stat().st_mtime_ns for path in folder.glob("fold_*/checkpoints/*/*")}
    assert run_cli(["train", *settings_for(data, folder)], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert f"fold 0: finished, kept in {folder}/fold_0\nfold 1: finished, kept in {folder}/fold_1\n" in printed
    assert "out of fold, 2 runs, checkpoint best" in printed
    assert "6 images, each counted once. Native size." in printed
    assert "Out of 2 folds: each by the run that held it out." in printed
    assert "Best was chosen on these images; --checkpoint last was not." in printed
    assert f"next: dinoseg predict {folder} IMAGES --out predictions/   (the mean of 2 runs)" in printed
    assert {path: path.stat().st_mtime_ns for path in folder.glob("fold_*/checkpoints/*/*")} == before


def test_the_folder_is_evaluated_and_predicts(
    copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = copied
    first = (folder / "eval" / "val" / "metrics.json").read_text()
    shutil.rmtree(folder / "eval")
    assert run_cli(["eval", folder], monkeypatch) == 0
    printed = capsys.readouterr().out
    again = metrics_in(folder / "eval" / "val")
    moved = json.loads(first)
    for fold, now in zip(moved["policy"]["out_of_fold"], again["policy"]["out_of_fold"], strict=True):
        assert fold["weights_sha256"] == now["weights_sha256"]
    assert "out of fold, 2 runs" in printed and moved["per_class"] == again["per_class"]
    assert run_cli(["eval", folder, "--checkpoint", "last"], monkeypatch) == 0
    assert "--checkpoint last was not" not in capsys.readouterr().out
    assert metrics_in(folder / "eval" / "val")["policy"]["out_of_fold"][0]["checkpoint"] == "last"
    # Of test, which none has seen, the mean of both runs is scored.
    assert run_cli(["eval", folder, "--split", "test"], monkeypatch) == 0
    assert len(metrics_in(folder / "eval" / "test")["policy"]["members"]) == 2
    assert "flatter" not in capsys.readouterr().err
    assert run_cli(["predict", folder, data / "test" / "images", "--out", tmp_path / "predictions"], monkeypatch) == 0
    assert len(list((tmp_path / "predictions" / "labels").iterdir())) == 2
    found = evaluate(folder, device="cpu", write=tmp_path / "figures")
    assert "out_of_fold" in metrics_in(tmp_path / "figures")["policy"]
    assert (found.matrix.numpy().sum(), found.policy["images"]) == (6 * 40 * 56, 6)


def test_a_fold_trained_alone_is_the_same(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a job array: each fold by a command of its own, in any order; the last command collects."""
    data, folder = finished
    for number in (1, 0):
        out = tmp_path / "cv" / f"fold_{number}"
        assert run_cli(["train", *settings_for(data, out, f"datasets.fold={number}")], monkeypatch) == 0
    assert run_cli(["train", *settings_for(data, tmp_path / "cv")], monkeypatch) == 0
    assert "fold 1: finished, kept in" in capsys.readouterr().out
    for number in range(2):
        ours, theirs = (weights_in(place / f"fold_{number}") for place in (folder, tmp_path / "cv"))
        assert ours.keys() == theirs.keys()
        assert all((ours[key] == theirs[key]).all() for key in ours)
    assert (matrix_in(folder / "eval" / "val") == matrix_in(tmp_path / "cv" / "eval" / "val")).all()


def test_an_unfinished_fold_is_resumed(
    copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = copied
    shutil.rmtree(folder / "fold_1")
    # As a training that was stopped before its last step leaves it.
    checkpoints = folder / "fold_0" / "checkpoints"
    shutil.rmtree(checkpoints / "last")
    (checkpoints / "previous").rename(checkpoints / "last")
    assert run_cli(["train", *settings_for(data, folder)], monkeypatch) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert f"{folder}/fold_0: begun, and not finished (step " in message
    assert message.endswith("; add --resume to go on with it, or give another output_dir")
    assert run_cli(["train", *settings_for(data, folder), "--resume"], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "fold 0, 1 of 2" in printed and "fold 1, 2 of 2" in printed and "out of fold, 2 runs" in printed


def test_a_training_that_is_stopped_ends_the_loop(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = finished
    entered = Interruption.__enter__

    def stopped(self: Interruption) -> Interruption:
        self.requested = True
        return entered(self)

    monkeypatch.setattr(Interruption, "__enter__", stopped)
    assert run_cli(["train", *settings_for(data, tmp_path / "cv")], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "stopped in fold 0 of 2: the same command with --resume goes on" in printed
    assert not (tmp_path / "cv" / "fold_1").exists() and not (tmp_path / "cv" / "ensemble.json").exists()


def test_a_signal_at_the_end_of_a_fold_ends_the_loop(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = finished
    left = Interruption.__exit__

    def asked_late(self: Interruption, *raised: Any) -> None:
        self.requested = True
        left(self, *raised)

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "__exit__", asked_late)
        assert run_cli(["train", *settings_for(data, tmp_path / "cv")], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "done: best mIoU" in printed and "stopped in fold 0 of 2" in printed
    assert not (tmp_path / "cv" / "fold_1").exists()
    assert run_cli(["predict", tmp_path / "cv", data / "test" / "images"], monkeypatch) == 1
    said = "a cross-validation that has not ended; give the output_dir of a training, go on with the command that began"
    assert said in capsys.readouterr().err
    # What is finished needs no --resume.
    assert run_cli(["train", *settings_for(data, tmp_path / "cv")], monkeypatch) == 0
    assert "fold 0: finished" in capsys.readouterr().out


def test_images_that_are_added_between_two_folds_are_found_out(
    copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = copied
    more = shutil.copytree(data, tmp_path / "more")
    write_tiny_dataset(tmp_path / "other", {"new": 1}, size=(48, 48))
    for kind in ("images", "masks"):
        shutil.copy(tmp_path / "other" / "new" / kind / "new_0.png", more / "train" / kind / "new_0.png")
    shutil.rmtree(folder / "fold_1")
    assert run_cli(["train", *settings_for(more, folder)], monkeypatch) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "fold_0 and fold_1 are folds of different images: only one of them has train/images/new_0.png" in message
    # Before anything is trained.
    assert not (folder / "fold_1").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["datasets.folds=3"], "datasets.folds: 2 in the run, 3 now; it would be another training"),
        (["scheduler.total_iter=0", "load_from=x"], "scheduler.total_iter=0 with datasets.fold=all trains nothing"),
        (["optimizer.lr=0.5"], "optimizer.lr: 0.001 in the run, 0.5 now"),
        (["optimizer.lr=0.5"], "or start another run: dinoseg train config=... output_dir=NEW"),
        (["datasets.fold=0"], "holds the runs of folds, fold_0 among them"),
        (["datasets.fold=0", "minutes=1"], "holds the runs of folds, fold_0 among them"),
        (["--resume", "best"], "--resume best is of one run, and datasets.fold=all of 2"),
        (["datasets.fold=2"], "datasets.fold=2: datasets.folds=2 are counted from 0; give 0 to 1, or all"),
        (["datasets.fold=first"], "datasets.fold=first: datasets.folds=2 are counted from 0"),
        (["datasets.folds=1"], "datasets.folds=1 is too small; give a number from 2 to 1000"),
        (["datasets.folds=null", "datasets.fold=1"], "datasets.fold=1 is given without datasets.folds"),
    ],
)
def test_what_does_not_fit_is_refused(
    more: list[str],
    words: str,
    finished: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, folder = finished
    assert run_cli(["train", *settings_for(data, folder), *more], monkeypatch) == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_training_from_python_is_not_mixed_with_folds(finished: tuple[Path, Path]) -> None:
    data, folder = finished
    with pytest.raises(ValueError, match="holds the runs of folds, fold_0 among them"):
        train([*settings_for(data, folder), "datasets.fold=0"])
    assert not (folder / "config.yaml").exists()


def test_a_folder_in_other_use_is_refused(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = finished
    assert run_cli(["train", *settings_for(data, folder / "fold_0")], monkeypatch) == 1
    assert "holds a run, and datasets.fold=all makes a folder of 2 runs" in " ".join(capsys.readouterr().err.split())
    assert run_cli(["export", folder, tmp_path / "exported"], monkeypatch) == 0
    capsys.readouterr()
    assert run_cli(["train", *settings_for(data, tmp_path / "exported")], monkeypatch) == 1
    assert "holds other runs as one (ensemble.json), 1_fold_0, 2_fold_1" in " ".join(capsys.readouterr().err.split())
    assert run_cli(["train", *settings_for(data, tmp_path / "new"), "--resume"], monkeypatch) == 1
    assert "nothing to resume there (no fold has a checkpoint)" in " ".join(capsys.readouterr().err.split())
    assert run_cli(["train", folder, "--resume"], monkeypatch) == 1
    assert "holds the runs of folds; the command that began it" in " ".join(capsys.readouterr().err.split())
    assert run_cli(["eval", folder, "--shard", "1/2"], monkeypatch) == 1
    assert "is evaluated out of fold, each image by one of 2 runs" in " ".join(capsys.readouterr().err.split())


def test_a_fold_that_began_with_a_run_that_had_learned_from_its_images_says_so(
    copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = copied
    first, second = folder / "fold_0", folder / "fold_1"
    shutil.rmtree(second)
    short = ["scheduler.total_iter=2", "eval.eval_interval=2", f"load_from={first}"]
    settings = [*settings_for(data, second, "datasets.fold=1"), *short]
    assert run_cli(["train", *settings], monkeypatch) == 0
    said = f"warning: load_from={first} learned from 3 of the 3 validation images: figures on them flatter"
    assert said in capsys.readouterr().out and said in (second / "train.log").read_text()
    # Where the run is that it began with is of no matter from then on.
    first.rename(tmp_path / "aside")
    assert run_cli(["train", *settings, "--resume", "previous"], monkeypatch) == 0
    (tmp_path / "aside").rename(first)
    FoldRuns(folder, 2).record()
    capsys.readouterr()
    assert run_cli(["eval", folder, "--checkpoint", "last"], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Runs they began with (load_from) learned from 3 of the images: this flatters." in said
    told = metrics_in(folder / "eval" / "val")["policy"]["out_of_fold"]
    assert [fold["learned_before"] for fold in told] == [0, 3]


def test_a_fold_that_was_removed_or_trained_anew_is_told_how_to_mend(
    copied: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = copied
    remedy = "of folds, the command that trained all of them, given again, trains what is missing and makes them one"
    file = folder / "ensemble.json"
    members = json.loads(file.read_text())["members"]
    swapped = [members[0] | {"weights_sha256": members[1]["weights_sha256"]}, members[1]]
    file.write_text(json.dumps({"members": swapped}))
    assert run_cli(["eval", folder], monkeypatch) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "not the weights that ensemble.json beside the run names" in message and remedy in message
    shutil.rmtree(folder / "fold_1")
    assert run_cli(["eval", folder], monkeypatch) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "no run in" in message and remedy in message
    # It does.
    assert run_cli(["train", *settings_for(data, folder)], monkeypatch) == 0
    assert run_cli(["eval", folder], monkeypatch) == 0


def test_what_runs_learned_before_is_known_along_a_chain(copied: tuple[Path, Path], tmp_path: Path) -> None:
    data, folder = copied
    pairs = {number: find_pairs(recorded_datasets(folder / f"fold_{number}"), "val").pairs for number in range(2)}
    config = load_config([*settings_for(data, tmp_path / "new"), f"load_from={folder / 'fold_0'}"])
    assert [learned_before(config, pairs[number]) for number in range(2)] == [0, 3]
    # That run began with the other fold's, which had learned from the rest.
    file = folder / "fold_0" / "config.yaml"
    file.write_text(file.read_text().replace("load_from: null", f"load_from: {folder / 'fold_1'}"))
    assert [learned_before(config, pairs[number]) for number in range(2)] == [3, 3]
    assert learned_before(load_config([*settings_for(data, tmp_path), "load_from=gone"]), pairs[0]) == 0


def test_a_fold_without_its_record_is_not_scored_on_other_images(
    copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = copied
    (folder / "fold_1" / "splits.json").unlink()
    assert run_cli(["eval", folder / "fold_1"], monkeypatch) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "datasets.folds=2: the images of fold 1 stand in the splits.json of its run, and there is none" in message
    assert (
        run_cli(["predict", folder / "fold_1", data / "test" / "images", "--out", tmp_path / "out"], monkeypatch) == 0
    )
