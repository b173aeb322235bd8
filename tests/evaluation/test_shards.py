"""Evaluation in shards: the sum is the unsharded evaluation to the byte, and nothing less is accepted."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from PIL import Image

from dinoseg.evaluation.shards import Shard
from dinoseg.system.files import file_sha256

FILES = ("metrics.json", "per_class.csv", "confusion.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with five test images, one of them all ignored."""
    base = tmp_path_factory.mktemp("shards")
    data = write_tiny_dataset(base / "data", {"train": 3, "val": 2, "test": 5})
    Image.new("L", (56, 40), 255).save(data / "test" / "masks" / "test_3.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        short = ("scheduler.total_iter=1", "eval.eval_interval=1", "eval.num_visualizations=0")
        settings = tiny_settings(data, base / "run", "datasets.classes={0: back, 1: red, 2: green}", *short)
        assert run_cli(["train", *settings], patch) == 0
    return base / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be evaluated."""
    return shutil.copytree(finished, tmp_path / "run")


SETTINGS = ("eval.compute_metric_per_image=true", "eval.boundary_iou=true")


def make(run: Path, number: int, count: int, patch: pytest.MonkeyPatch, *more: str) -> int:
    return run_cli(["eval", run, "--split", "test", "--shard", f"{number}/{count}", *more], patch)


def refused(run: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which merging is refused; nothing was written."""
    capsys.readouterr()
    assert run_cli(["eval", run, "--split", "test", "--merge"], patch) == 1
    assert not (run / "eval" / "test" / "metrics.json").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("count", [2, 6])
def test_shards_give_what_one_evaluation_gives_to_the_byte(
    run: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run / "eval" / "test"
    assert run_cli(["eval", run, "--split", "test", *SETTINGS], monkeypatch) == 0
    expected = {name: (folder / name).read_bytes() for name in FILES}
    images = dict(np.load(folder / "per_image.npz"))
    shutil.rmtree(folder)
    for number in range(1, count + 1):
        assert make(run, number, count, monkeypatch, *SETTINGS) == 0
        assert sorted(path.name for path in folder.iterdir()) == ["shards"]
    # Merging loads no model: not even the backbone's name is looked at.
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").unlink()
    assert run_cli(["eval", run, "--split", "test", "--merge"], monkeypatch) == 0
    (run / "config.yaml").write_text(config)
    assert {name: (folder / name).read_bytes() for name in FILES} == expected
    merged = dict(np.load(folder / "per_image.npz"))
    assert sorted(merged) == sorted(images)
    for name, values in images.items():
        np.testing.assert_array_equal(merged[name], values)


def test_a_shard_counts_every_nth_image_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for number in (1, 2, 3):
        assert make(run, number, 3, monkeypatch) == 0
        found.append(json.loads((run / "eval" / "test" / "shards" / f"{number}-of-3.json").read_text())["images"])
    assert found == [["test_0", "test_3"], ["test_1", "test_4"], ["test_2"]]


def test_missing_and_foreign_shards_are_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(run, monkeypatch, capsys)
    assert "no shard there" in error and "--split test --shard i/n`" in error
    make(run, 2, 4, monkeypatch)
    error = refused(run, monkeypatch, capsys)
    assert "missing 1/4, 3/4, 4/4 of 4 shards; make them, for instance" in error and "--shard 1/4`" in error
    make(run, 1, 2, monkeypatch)
    assert "shards of 2 and of 4" in refused(run, monkeypatch, capsys)


def test_shards_of_other_settings_are_refused_with_both_values(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(run, 1, 2, monkeypatch)
    make(run, 2, 2, monkeypatch, "eval.mode=whole")
    error = refused(run, monkeypatch, capsys)
    assert "shards 1/2 and 2/2 differ in their settings" in error and "[] and ['eval.mode=whole']" in error
    make(run, 2, 2, monkeypatch)
    change(run, 2, lambda stated: stated["policy"]["window"].update(mode="whole"))
    assert "policy.window.mode is slide and whole" in refused(run, monkeypatch, capsys)
    make(run, 2, 2, monkeypatch)
    change(run, 2, lambda stated: stated["label_space"].update(ignored_ids=[7]))
    assert "label_space.ignored_ids is [255] and [7]" in refused(run, monkeypatch, capsys)
    change(run, 1, lambda stated: stated["label_space"].update(ignored_ids=[7]))
    assert "labels.json is not the label space of the shards" in refused(run, monkeypatch, capsys)


def change(run: Path, number: int, how: Any) -> None:
    path = run / "eval" / "test" / "shards" / f"{number}-of-2.json"
    stated = json.loads(path.read_text())
    how(stated)
    path.write_text(json.dumps(stated))


def test_shards_of_another_checkpoint_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(run, 1, 2, monkeypatch)
    make(run, 2, 2, monkeypatch)
    change(run, 2, lambda stated: stated.update(checkpoint_sha256="f" * 64))
    error = refused(run, monkeypatch, capsys)
    assert "differ in their checkpoint" in error and "f" * 64 in error
    # All shards agree with each other, but the run was trained again since.
    change(run, 1, lambda stated: stated.update(checkpoint_sha256="f" * 64))
    now = file_sha256(run / "checkpoints" / "best" / "model.safetensors")
    error = refused(run, monkeypatch, capsys)
    assert "another checkpoint (ffffffffffff)" in error and now[:12] in error


def make_two(run: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, np.ndarray]) -> Path:
    """Makes both shards of two; returns the counts of the second, in which some arrays are others."""
    make(run, 1, 2, monkeypatch)
    make(run, 2, 2, monkeypatch)
    path = run / "eval" / "test" / "shards" / "2-of-2.npz"
    np.savez(path, **dict(np.load(path)) | changed)
    return path


def test_an_image_counted_twice_or_never_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_two(run, monkeypatch, {"rows": np.array([0, 3])})
    assert "2-of-2.npz is of another evaluation" in refused(run, monkeypatch, capsys)
    change(run, 2, lambda stated: stated.update(counts_sha256=file_sha256(path)))
    assert "count test_0 more than once and test_1 not at all" in refused(run, monkeypatch, capsys)


def test_shards_of_other_images_and_half_written_ones_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = np.array(["test_0", "test_1", "test_2", "test_3", "new"])
    path = make_two(run, monkeypatch, {"names": other})
    change(run, 2, lambda stated: stated.update(counts_sha256=file_sha256(path)))
    assert "different images (5 and 5): new, test_4" in refused(run, monkeypatch, capsys)
    path.unlink()
    error = refused(run, monkeypatch, capsys)
    assert "2-of-2.npz: cannot be read (No such file or directory); a damaged or interrupted shard" in error
    path.with_suffix(".json").write_text("{")
    assert "make it again with --shard 2/2" in refused(run, monkeypatch, capsys)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "-1/4", "1/0", "1/4/2"])
def test_a_shard_is_written_i_of_n(text: str) -> None:
    with pytest.raises(ValueError, match="write i/n with i from 1 to n"):
        Shard.parse(text)
    assert Shard.parse("2/8") == Shard(2, 8)
