"""Exports: the same run gives the same bytes, and what lies in a folder stays."""

import errno
import hashlib
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
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


def test_the_working_folder_is_refused_before_the_work_and_a_link_is_followed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    said = "is the working folder, which no new folder can take the place of; give a new folder in it\n"
    for arguments, option in (
        (["export", run, "."], ""),
        (["push", run, "me/run", "--dry-run", "."], "--dry-run "),
        (["app", run, "--space", "."], "--space "),
        (["import", "coco", "none.json", "--out", "."], "--out "),
    ):
        assert run_cli(arguments, monkeypatch) == 1
        assert capsys.readouterr().err == f"error: {option}.: {said}"
    assert here.samefile(Path.cwd()) and not list(here.iterdir())
    (tmp_path / "a link").symlink_to(here)
    monkeypatch.chdir(tmp_path)
    assert run_cli(["export", run, "a link"], monkeypatch) == 0
    assert "next: dinoseg predict 'a link' IMAGES" in capsys.readouterr().out
    assert (tmp_path / "a link").is_symlink() and (here / "config.yaml").is_file()


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


def _fill_the_disk_at(place: str, error: int, patch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(error, os.strerror(error), "/hidden/file")

    patch.setattr(place, full)


@pytest.mark.parametrize(
    "place",
    [
        "dinoseg.run_folder.checkpoint.save_tensors",
        "dinoseg.run_folder.checkpoint.write_contents",
        "dinoseg.verbs.export.save_config",
        "dinoseg.labels.LabelSpace.save",
    ],
)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_the_folder_that_was_asked_for(
    error: int,
    place: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "out"
    with monkeypatch.context() as patch:
        _fill_the_disk_at(place, error, patch)
        assert run_cli(["export", run, out], patch) == 1
    said = capsys.readouterr().err
    assert f"error: {out}: cannot be written ({os.strerror(error)})" in said
    assert "nothing is left of it: make room, or give a folder on another disk" in said
    assert ("MB are free there" in said) == ("checkpoint" in place)
    assert "--resume" not in said and "hidden" not in said and ".new" not in said
    assert list(tmp_path.iterdir()) == []
    assert run_cli(["export", run, out], monkeypatch) == 0


def test_a_disk_that_is_full_for_the_libraries_is_named_likewise(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        assert run_cli(["export", run, tmp_path / "out"], monkeypatch) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert f"error: {tmp_path / 'out'}: cannot be written (" in said and "File too large" in said
    assert "MB are free there; nothing is left of it: make room" in said and "--resume" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("file/out", "file is a file, not a folder; give another folder"),
        ("file/in/out", "file is a file, not a folder; give another folder"),
        ("/proc/none/out", "no folder can be made in /proc (No such file or directory); give another folder"),
    ],
)
def test_a_folder_that_cannot_be_made_is_no_matter_of_room(
    out: str, said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_cli(["export", run, tmp_path / out], monkeypatch) == 1
    error = capsys.readouterr().err
    assert f"error: {tmp_path / out}: cannot be written: " in error and said in error and "room" not in error


def _dead_process() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_what_killed_exports_left_is_removed_and_nothing_else(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = _dead_process(), os.getppid()
    left = (f".out.{dead}.new", f".out.{dead}-0a1b2c3d.new")
    held = f".out.{dead}-ffffffff.new"  # of another machine, where this number is a process at work
    others = (
        f".out.{alive}.new",
        f".out.{os.getpid()}-0a.new",
        held,
        f".out2.{dead}.new",
        f".out.{dead}.newer",
        ".out.x.new",
    )
    for name in (*left, *others):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    (tmp_path / f".out.{dead}-77.new.lock").touch()  # killed after its folder was in place
    with FileLock(tmp_path / f"{held}.lock"):
        assert run_cli(["export", run, tmp_path / "out"], monkeypatch) == 0
        assert {path.name for path in tmp_path.iterdir()} == {"out", *others, f"{held}.lock"}
    assert run_cli(["export", run, tmp_path / "out2"], monkeypatch) == 0
    assert f".out2.{dead}.new" not in os.listdir(tmp_path)


def test_a_killed_export_is_cleared_away_by_the_next(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, child = tmp_path / "out", os.fork()
    if child == 0:
        try:
            monkeypatch.setattr(export, "save_config", lambda *a: os.kill(os.getpid(), signal.SIGKILL))
            export_run(ChosenRun(run), out, Console(quiet=True))
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2 and not out.exists()
    assert run_cli(["export", run, out], monkeypatch) == 0
    assert os.listdir(tmp_path) == ["out"]


def test_an_export_at_work_loses_nothing_to_another_of_its_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = tmp_path / "out", export.save_config

    def meanwhile(*arguments: Any) -> None:
        # Of another process, which gives up after it looked for leftovers.
        child = os.fork()
        if child == 0:
            try:
                monkeypatch.setattr(export, "write_checkpoint", lambda *a: os._exit(7))
                export_run(ChosenRun(run), out, Console(quiet=True))
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        write(*arguments)

    monkeypatch.setattr(export, "save_config", meanwhile)
    export_run(ChosenRun(run), out, Console(quiet=True))
    assert len(_hashes(out)) == 4
