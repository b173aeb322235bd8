"""Exports: the same run gives the same bytes, and what lies in a folder stays."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import run_cli, train_tiny_run
from rich.console import Console

from dinoseg.inference.opening import ChosenRun
from dinoseg.verbs import export
from dinoseg.verbs.export import export_run

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, run = train_tiny_run(tmp_path_factory, {"train": 2, "val": 1}, "scheduler.total_iter=1")
    return run


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for out in (tmp_path / "first", Path("second"), tmp_path / "in" / "third"):
        assert run_cli(["export", run, out], monkeypatch) == 0
        found.append(_hashes(out))
    assert found[0] == found[1] == found[2]
    files = {"config.yaml", "labels.json", "checkpoints/best/model.safetensors", "checkpoints/best/checkpoint.json"}
    assert found[0].keys() == files
    # An export of an export, too: there is nothing left to change.
    assert run_cli(["export", "first", "fourth"], monkeypatch) == 0
    assert _hashes(Path("fourth")) == found[0]


def test_an_export_with_other_settings_is_evaluated_with_them(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli(["export", run, tmp_path / "out", "transforms.mean=[0.5, 0.5, 0.5]"], monkeypatch) == 0
    assert run_cli(["eval", tmp_path / "out"], monkeypatch) == 0


def test_a_second_export_into_a_folder_says_why_not(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run_cli(["export", run, out], monkeypatch) == 0
    before = _hashes(out)
    capsys.readouterr()
    assert run_cli(["export", run, out], monkeypatch) == 1
    said = f"error: {out}: holds a run or an export already, which is kept; give a new folder, or remove that one\n"
    assert capsys.readouterr().err == said
    assert run_cli(["export", run, run], monkeypatch) == 1
    assert "holds a run or an export already" in capsys.readouterr().err
    assert _hashes(out) == before and [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["file", "full folder", "link to nowhere"])
def test_what_is_no_empty_folder_is_kept(
    kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "full folder":
        out.mkdir()
        (out / "mine").touch()
    else:
        os.symlink("nowhere", out)
    assert run_cli(["export", run, out], monkeypatch) == 1
    assert f"error: {out}: exists and is not an empty folder; give a new one" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_exports_at_once_the_later_one_says_why_not(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = tmp_path / "out", export.write_checkpoint

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(export, "write_checkpoint", write)
        export_run(ChosenRun(run), out, Console(quiet=True))
        write(*arguments)

    monkeypatch.setattr(export, "write_checkpoint", overtaken)
    with pytest.raises(ValueError, match="out: holds a run or an export already, which is kept; give a new folder"):
        export_run(ChosenRun(run), out, Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and len(_hashes(out)) == 4
