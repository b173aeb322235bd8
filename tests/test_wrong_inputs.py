"""Every verb refuses every kind of wrong input: one message that names it and what to do, and nothing left behind."""

import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import run_cli, tiny_settings, write_tiny_dataset
from helpers.wrong_inputs import WrongInput, wrong_inputs
from PIL import Image

CASES = wrong_inputs()
_MOST_SECONDS = 20
# An imperative, or the values to choose from. A finding of the check has its advice on a line of its own.
_REMEDY = re.compile(
    r"\b(give|given? one|use|choose|one of|between|from -?[\d.]+ to|or more|at most|rename|write|expected|did you mean|"
    r"add|remove|move|leave out|copy|set|make|list|start with|repair|replace|train again|raise|lower|exchange|"
    r"evaluate|run|finds keys|try|convert|put|delete|correct|free|save|check|name|--help|missing argument)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a finished run on it, and label maps; all paths within are relative."""
    base = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(base)
        write_tiny_dataset(Path("data"), {"train": 3, "val": 2, "test": 1})
        assert run_cli(["train", *tiny_settings(Path("data"), Path("run")), "trackers=[]"], patch) == 0
    (base / "maps").mkdir()
    for path in (base / "data/val/masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path))).save(base / "maps" / path.name)
    return base


def _working_folder(case: WrongInput, original: Path, copy: Path) -> Path:
    """The original, which a refused command leaves as it is; a copy of it where the case spoils it first."""
    return shutil.copytree(original, copy, symlinks=True) if case.spoil else original


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    def give_up(number: int, frame: object) -> None:
        raise AssertionError(f"not refused within {_MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_MOST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_it_is_refused_with_the_name_and_a_remedy_and_nothing_is_left(
    case: WrongInput,
    original: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = _working_folder(case, original, tmp_path_factory.getbasetemp() / "spoilt")
    monkeypatch.chdir(folder)
    if case.spoil:
        case.spoil()
    before = _snapshot(folder)
    try:
        code = run_cli([*case.verb.split()[:1], *case.arguments], monkeypatch)
        left = _snapshot(folder)
    finally:
        if case.spoil:
            monkeypatch.chdir(original)
            shutil.rmtree(folder)
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert code in (1, 2), said
    assert "Traceback" not in said and 'File "' not in said
    assert any(name in said for name in case.names), said
    assert _REMEDY.search(said), said
    assert left == before


def test_there_are_enough_of_them() -> None:
    """Prints the table of counts, with ``-s``."""
    counts = Counter((case.kind, case.verb) for case in CASES)
    verbs = sorted({case.verb for case in CASES})
    print(f"\n{'':24}" + "".join(f"{verb[-14:]:>15}" for verb in verbs))
    for kind in sorted({case.kind for case in CASES}):
        print(f"{kind:24}" + "".join(f"{counts[kind, verb] or '':>15}" for verb in verbs))
    print(f"{'all ' + str(len(CASES)):24}" + "".join(f"{sum(c.verb == verb for c in CASES):>15}" for verb in verbs))
    assert len(CASES) >= 400


def _snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, and the folders."""
    return {
        str(path.relative_to(folder)): (0, 0) if path.is_dir() else (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }
