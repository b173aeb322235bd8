"""``dinoseg app`` where it does not serve: mistakes in one line, and the folder of a Space."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli

import dinoseg
from dinoseg.app.serving import listening


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command changes its environment."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.count("error: ") == 1
    return error[error.index("error: ") :].strip()


def test_without_gradio_the_extra_is_named(
    tiny_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run_cli(["app", tiny_run[1], "--port", "0"], monkeypatch) == 1
    assert error_of(capsys) == ("error: the page needs gradio, which is not installed: pip install 'dinoseg[app]'")


def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["app", "eval.mode=whole", "--port", "0"], monkeypatch) == 1
    assert error_of(capsys) == (
        "error: no run is given; give one or more run folders, exports or published heads (hf:owner/name)"
    )
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert run_cli(["app", tmp_path, "--port", port], monkeypatch) == 1
    assert error_of(capsys).startswith(f"error: --host 127.0.0.1 --port {port}: Address already in use; ")
    monkeypatch.setitem(sys.modules, "gradio", object())
    assert run_cli(["app", tmp_path, "--port", "0"], monkeypatch) == 1
    assert error_of(capsys).startswith(f"error: {tmp_path}: not a run folder (no config.yaml in it); ")


def test_a_space_holds_the_export_and_what_the_hub_reads(
    tiny_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tiny_run
    space, exported = tmp_path / "space", tmp_path / "exported"
    assert run_cli(["app", "--space", space, run], monkeypatch) == 0
    assert "nothing was uploaded; try it: python" in capsys.readouterr().out.replace("\n", " ")
    assert run_cli(["export", run, exported], monkeypatch) == 0
    files = {path.relative_to(exported) for path in exported.rglob("*") if path.is_file()}
    assert {path.relative_to(space / "run") for path in (space / "run").rglob("*") if path.is_file()} == files
    # It is there to be uploaded: unlike an export it tells neither where the data was nor how its images are called.
    local = (str(data.parent).encode(), b"SHA-256 of their names")
    assert all(any(words in (exported / file).read_bytes() for file in files) for words in local)
    assert not any(words in (space / "run" / file).read_bytes() for file in files for words in local)
    picture = next((data / "val" / "images").iterdir())
    first, second = (dinoseg.load(folder, device="cpu").predict(picture) for folder in (space / "run", exported))
    assert first.class_names == second.class_names
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (space / "requirements.txt").read_text() == f"dinoseg[app]=={dinoseg.__version__}\n"
    matter = (space / "README.md").read_text().split("---\n")[1]
    assert {'title: "run"', "sdk: gradio", "app_file: app.py"} <= set(matter.splitlines())
    compile((space / "app.py").read_text(), "app.py", "exec")
    capsys.readouterr()
    assert run_cli(["app", "--space", space, run], monkeypatch) == 1
    assert error_of(capsys) == f"error: --space {space}: exists and is not an empty folder; give a new one"


def test_a_space_takes_no_option_of_a_page_that_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space"
    for option, value in (("--port", "7860"), ("--host", "0.0.0.0"), ("--device", "cpu")):
        assert run_cli(["app", "--space", space, tmp_path, option, value], monkeypatch) == 1
        said = f"error: --space starts nothing, and a Space runs where it is put: leave out {option} {value}, or"
        assert error_of(capsys).startswith(said) and not space.exists()
