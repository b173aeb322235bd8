"""``dinoseg import`` on the command line: what it prints, what comes next, and how it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.annotations import write_picture
from helpers.tiny import run_cli


def write_labelme(folder: Path) -> Path:
    """Two pictures with a square each, a line, and a picture without annotations."""
    square = {"label": "cat [old]", "points": [[0, 0], [5, 0], [5, 5], [0, 5]]}
    line = {"label": "x", "points": [[0, 0], [5, 0]], "shape_type": "line"}
    for name in ("a", "b"):
        write_picture(folder / f"{name}.png", (10, 20))
        document = {"shapes": [square, line], "imagePath": f"{name}.png", "imageHeight": 10, "imageWidth": 20}
        (folder / f"{name}.json").write_text(json.dumps(document))
    write_picture(folder / "c.png", (10, 20))
    return folder


def test_it_prints_counts_what_was_dropped_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_labelme(Path("in"))
    assert run_cli(["import", "labelme", "in", "--out", "data/my set"], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "data/my set: 2 pictures with masks from labelme; pictures by hard link 2" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert ["0", "background", "0", "350", "87.50", "%"] in rows
    assert ["1", "cat", "[old]", "2", "50", "12.50", "%"] in rows
    assert "where shapes overlap, the one with fewer pixels lies on top" in printed
    assert "dropped 2: a line covers no area (in/a.json: shapes[1], in/b.json: shapes[1])" in printed
    assert "dropped 1: left out: it has no JSON file (c.png)" in printed
    following = "next: dinoseg check datasets.root='data/my set' datasets.classes='data/my set/classes.csv'"
    assert printed.rstrip().endswith(following)
    assert json.loads(Path("data/my set/import.json").read_text())["pictures"] == 2


def test_a_mistake_is_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_labelme(Path("in"))
    (folder / "b.json").write_text('{"shapes": [')
    assert run_cli(["import", "labelme", "in", "--out", "new/out"], monkeypatch) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: in/b\.json: damaged \(cut short or not JSON: line 1, .*\); give the JSON .*\n", said)
    assert not Path("new").exists()
    assert run_cli(["import", "labelme", "in"], monkeypatch) == 2
    assert "--out" in capsys.readouterr().err
    assert run_cli(["import", "labelme", "in", "--out", "out", "--overlap", "size"], monkeypatch) == 1
    assert "--overlap size: choose one of area, order" in capsys.readouterr().err


def test_it_does_not_wait_for_pytorch(tmp_path: Path) -> None:
    write_labelme(tmp_path / "in")
    code = (
        "import sys; sys.argv[1:] = ['import', 'labelme', 'in', '--out', 'out']\n"
        "from dinoseg import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "masks" / "a.png").is_file()
