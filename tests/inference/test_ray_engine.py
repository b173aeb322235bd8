"""Prediction by Ray actors writes what one process writes; without Ray one message."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.tiny import run_cli, train_tiny_run

import dinoseg


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images and a finished run."""
    data, run = train_tiny_run(tmp_path_factory, {"train": 4, "val": 2, "test": 5})
    return data / "test" / "images", run


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local Ray for several predictions: each would start one of its own otherwise, which takes longest of all."""
    # Read when Ray is imported; a machine that is busy with other tests takes longer than Ray expects.
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")
    pytest.importorskip("ray.data", reason="the extra dinoseg[ray] is not installed")
    import ray

    # The actors are new interpreters, which must find the package where it is not installed.
    monkeypatch.setenv("PYTHONPATH", str(Path(dinoseg.__file__).parents[1]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def _contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_two_actors_write_what_one_process_writes(
    finished: tuple[Path, Path],
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images, run = finished
    (images / "broken.png").write_bytes(b"no picture")
    # Paths relative to the working folder hold for the actors, too.
    monkeypatch.chdir(images.parent)
    relative = ["predict", os.path.relpath(run), "images"]
    assert run_cli([*relative, "--out", tmp_path / "one"], monkeypatch) == 1
    capsys.readouterr()
    ray = ["--engine", "ray", "--workers", "2", "--out", tmp_path / "two"]
    assert run_cli([*relative, *ray], monkeypatch) == 1
    printed = capsys.readouterr()
    assert "5 predicted, 1 failed" in printed.out, printed.err
    assert "broken.png: not an image" in printed.err
    assert len(_contents(tmp_path / "two")) == 11
    assert _contents(tmp_path / "two") == _contents(tmp_path / "one")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("*.png")}
    assert run_cli([*relative, *ray], monkeypatch) == 1
    assert "0 predicted, 5 already there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("*.png")} == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "labels").write_text("a file where a folder belongs")
    assert run_cli([*relative, *ray[:-1], tmp_path / "full"], monkeypatch) == 1
    assert "error: --engine ray: a worker failed" in capsys.readouterr().err


def test_without_ray_the_extra_is_named(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, run = finished
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run_cli(["predict", run, images, "--engine", "ray", "--out", tmp_path / "out"], monkeypatch) == 1
    assert "pip install 'dinoseg[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("run", "more", "message"),
    [
        ("RUN", ["--workers", "0"], "--workers 0: give 1 or more"),
        ("nowhere", [], "no such folder"),
        ("RUN", ["--checkpoint", "worst"], "no checkpoint there"),
        ("RUN", ["bss=2"], "did you mean 'bs'?"),
    ],
)
def test_mistakes_are_told_before_a_cluster_starts(
    run: str,
    more: list[str],
    message: str,
    finished: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray.data", reason="the extra dinoseg[ray] is not installed")
    images, folder = finished
    assert run_cli(["predict", run.replace("RUN", str(folder)), images, "--engine", "ray", *more], monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error


def test_a_cluster_that_cannot_be_joined_is_one_message(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray", reason="the extra dinoseg[ray] is not installed")
    images, run = finished

    def unreachable(**options: object) -> None:
        raise ConnectionError("no node answers")

    monkeypatch.setattr(ray, "init", unreachable)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert run_cli(["predict", run, images, "--engine", "ray"], monkeypatch) == 1
    assert "RAY_ADDRESS=192.0.2.1:6379 cannot be joined (no node answers)" in capsys.readouterr().err
