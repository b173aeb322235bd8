"""Every file of a run folder that is read back, damaged in every way: one message that names it, nothing changed."""

import copy
import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import run_cli, train_tiny_run
from rich.console import Console

from dinoseg.evaluation.metrics import FIGURES
from dinoseg.evaluation.shards import merge_shards
from dinoseg.report.html import build_report
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.recorded_evaluation import read_evaluation
from dinoseg.tracking.trackers import refuse_damaged_state
from dinoseg.training.resume import read_resume_progress

Keys = tuple[str | int, ...]

NAN = float("nan")
WRONG = [None, True, 0.5, "text", [], {}, [None], NAN, -1, 10**30]
DEEP = "[" * 10_000 + "]" * 10_000


@dataclass(frozen=True)
class Runs:
    """A finished run with two shards and a tracker's state, the same before its last step, and one of four classes."""

    data: Path
    whole: Path
    interrupted: Path
    other: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    counts = {"train": 4, "val": 3, "test": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data, whole = train_tiny_run(tmp_path_factory, counts, "trackers=[]")
        _, other = train_tiny_run(tmp_path_factory, counts, "trackers=[]", "datasets.ignore=[2, 255]")
        with pytest.MonkeyPatch.context() as patch:
            for run in (whole, other):
                for shard in ("1/2", "2/2"):
                    command = ["eval", run, "--split", "test", "--shard", shard, "device=cpu"]
                    assert (
                        run_cli([*command, "eval.boundary_iou=true", "eval.compute_metric_per_image=true"], patch) == 0
                    )
    for run in (whole, other):
        state = {"wandb": {"run": "a1b2c3d4", "shown": {"train": 4, "val": 4}}}
        (run / "trackers.json").write_text(json.dumps(state))
    interrupted = whole.with_name("interrupted")
    shutil.copytree(whole, interrupted)
    shutil.rmtree(interrupted / "checkpoints/last")
    (interrupted / "checkpoints/previous").rename(interrupted / "checkpoints/last")
    return Runs(data, whole, interrupted, other)


def _read_shards(run: Path) -> None:
    merge_shards(run / "eval/test", "`dinoseg eval`")


def _read_metrics(run: Path) -> None:
    folder = RunFolder(run)
    read_evaluation(folder, "val", folder.read_labels())


def _show_metrics(run: Path) -> None:
    build_report(run, "val", Console(quiet=True), max_images=0)


def _read_checkpoint(run: Path) -> None:
    checkpoint = Checkpoint.open(run / "checkpoints/last")
    checkpoint.weights()
    read_resume_progress(checkpoint)


READERS: dict[str, Callable[[Path], Any]] = {
    "labels.json": lambda run: RunFolder(run).read_labels(),
    "checkpoints/last/checkpoint.json": _read_checkpoint,
    "eval/val/metrics.json": _read_metrics,
    "eval/test/shards/2-of-2.json": _read_shards,
    "trackers.json": refuse_damaged_state,
}

# Whatever passes must not fail later, where it is shown.
SHOWN_BY: dict[str, Callable[[Path], Any]] = {"eval/val/metrics.json": _show_metrics}

# What may stand in a file and change nothing but itself, with the reason; the key is as messages write it.
ACCEPTED = {
    "labels.json": {
        r"classes\[\d\]\.name": "any text is a name",
        r"ignored_ids(\[\d\])?": "none is ignored, or a negative id",
        r"reduce_zero_label": "true or false, either fits: it is worked into the rest already",
    },
    "eval/val/metrics.json": {
        rf"fwIoU|aAcc|{'|'.join(f.mean for f in FIGURES)}|mIoU_by_policy\.\w+": "null or another percentage",
        r"mIoU_by_policy": "null, or none: not every version wrote it",
        r"confidence\.mIoU": "null: of one image",
        r"constant": "null: no true pixel, or an evaluation of an earlier version",
        r"constant\.(mIoU|mAcc|aAcc|mDice)": "null or another percentage",
        rf"per_class\[\d\]\.({'|'.join(f.name for f in FIGURES)}|IoU_interval)": "null or another percentage",
        r"per_class\[\d\]\.IoU_interval\[\d\]|confidence\.mIoU\[\d\]": "another percentage",
        r"policy\.(resolution|window\.(mode|blend)|beta)": "free text, or another number",
        r"policy\.(window|window\.tta|window\.crop|window\.stride|window\.img_size)": "left out, or not shown",
        r"policy\.window": "an empty object says nothing of windows",
        r"policy\.(ignored_label_ids(\[\d\])?|reduce_zero_label)": "none or a negative id is ignored; true or false",
        r"checkpoint": "any text is a name",
    },
    "eval/test/shards/2-of-2.json": {
        r"images\[\d\]": "names are taken from the arrays",
        r"extra\.\w+|extra\.overrides\[\d\]|policy\..*": "another text, which must be that of the other shard",
    },
    "trackers.json": {
        r"": "no service was ever shown anything",
        r"wandb\.run": "any text is a name",
        r"wandb\.shown": "nothing was shown yet",
    },
    "checkpoints/last/checkpoint.json": {},
}


def _walk(document: Any, keys: Keys = ()) -> Iterator[Keys]:
    yield keys
    if isinstance(document, dict | list):
        # Entries of a list are alike: the first and another one stand for all.
        entries = document.items() if isinstance(document, dict) else enumerate(document[:2])
        for key, value in entries:
            yield from _walk(value, (*keys, key))


def _replaced(document: Any, keys: Keys, value: Any) -> Any:
    if not keys:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return changed


def _show(keys: Keys) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second


def test_a_constant_of_no_class_is_named(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    path = run / "eval/val/metrics.json"
    path.write_text(json.dumps(_replaced(json.loads(path.read_text()), ("constant", "class_index"), 3)))
    with pytest.raises(ValueError, match=r"metrics.json: constant.class_index: 3 found, one of 3 classes \(0 to 2\)"):
        _read_metrics(run)


@pytest.mark.parametrize("file", READERS)
def test_a_wrong_value_at_any_key_is_named(file: str, runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    path, read = run / file, READERS[file]
    document = json.loads(path.read_text())
    read(run)
    before = {name: digest for name, digest in _hashes(run).items() if name not in (file, "report.html")}
    unexplained, used, shown_places = [], set(), set()
    for keys in _walk(document):
        original = document
        for key in keys:
            original = original[key]
        for value in WRONG:
            if _same(value, original):
                continue
            path.write_text(json.dumps(_replaced(document, keys, value)))
            shown = f"{_show(keys)} = {str(value)[:20]}"
            try:
                read(run)
            except ValueError as error:
                message = str(error)
                assert file.split("/")[-1] in message or "shards 1/2 and 2/2 differ" in message, f"{shown}: {message}"
                named = [key for key in keys if isinstance(key, str)]
                # The hash over checkpoint.json covers its values; a wrong list is named by its entry.
                explained = not named or "SHA-256" in message or any(key in message for key in named[-2:])
                assert explained, f"{shown}: {message}"
                assert "\n" not in message, shown
            else:
                found = [pattern for pattern in ACCEPTED[file] if re.fullmatch(pattern, _show(keys))]
                used.update(found)
                if not found:
                    unexplained.append(shown)
                # Once for the places that are alike, such as a figure of each class.
                place = (re.sub(r"\d+", "0", _show(keys)), str(value))
                if file in SHOWN_BY and place not in shown_places:
                    shown_places.add(place)
                    SHOWN_BY[file](run)
    assert not unexplained
    assert used == set(ACCEPTED[file]), "reasons that nothing needs"
    assert {name: digest for name, digest in _hashes(run).items() if name not in (file, "report.html")} == before


@pytest.mark.parametrize("file", READERS)
def test_a_missing_key_is_named(file: str, runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    document, shown_places = json.loads((run / file).read_text()), set()
    for keys in _walk(document):
        parent = document
        for key in keys[:-1]:
            parent = parent[key]
        if not keys or not isinstance(parent, dict):
            continue
        changed = copy.deepcopy(document)
        inner = changed
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        (run / file).write_text(json.dumps(changed))
        try:
            READERS[file](run)
        except ValueError as error:
            assert file.split("/")[-1] in str(error) or "shards 1/2 and 2/2 differ" in str(error)
        else:
            place = re.sub(r"\d+", "0", _show(keys))
            if file in SHOWN_BY and place not in shown_places:
                shown_places.add(place)
                SHOWN_BY[file](run)


@pytest.mark.parametrize("file", READERS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged (it is empty)"),
        (b"\xff\xfe{}", "damaged (not UTF-8 text, from byte 0 on)"),
        (DEEP.encode(), "damaged (nested more than 64 deep)"),
        (b"[" * 100 + b"]" * 100, "damaged (nested more than 64 deep)"),
        (b"9" * 10_000, "inf found, an object expected"),
        (b"7", "7 found, an object expected"),
        (None, "damaged (cut short or not JSON"),
    ],
)
def test_what_is_no_json_object_is_named(
    file: str, content: bytes | None, reason: str, runs: Runs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    path = run / file
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(ValueError) as met:
        READERS[file](run)
    assert str(met.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize("file", READERS)
def test_a_folder_in_place_of_a_file_is_named(file: str, runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    (run / file).unlink()
    (run / file).mkdir()
    with pytest.raises(ValueError, match=rf"{file.split('/')[-1]}|val is not evaluated yet"):
        READERS[file](run)


@dataclass(frozen=True)
class Command:
    """A command line that reads a file, and the run it is given."""

    file: str
    arguments: tuple[str, ...]
    run: str = "whole"


COMMANDS = [
    Command("labels.json", ("eval", "RUN", "--split", "test", "device=cpu")),
    Command("labels.json", ("predict", "RUN", "DATA/test/images", "--out", "OUT", "--device", "cpu")),
    Command("labels.json", ("report", "RUN", "--max-images", "0")),
    Command("labels.json", ("export", "RUN", "OUT")),
    Command("labels.json", ("train", "RUN", "--resume"), "interrupted"),
    Command("checkpoints/best/checkpoint.json", ("eval", "RUN", "--split", "test", "device=cpu")),
    Command("checkpoints/last/checkpoint.json", ("train", "RUN", "--resume"), "interrupted"),
    Command("eval/val/metrics.json", ("report", "RUN", "--max-images", "0")),
    Command("eval/val/metrics.json", ("compare", "RUN", "WHOLE")),
    Command("eval/test/shards/1-of-2.json", ("eval", "RUN", "--split", "test", "--merge")),
    Command("trackers.json", ("train", "RUN", "--resume"), "interrupted"),
]
DAMAGES: dict[str, Callable[[str], str]] = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "deep": lambda text: DEEP,
    "list": lambda text: f"[{text}]",
    "nulls": lambda text: json.dumps(dict.fromkeys(json.loads(text))),
}


def _refused(
    command: Command, runs: Runs, run: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The one message of a command that fails and leaves the run folder as it is."""
    places = {"RUN": run, "WHOLE": runs.whole, "OUT": run.with_name("out"), "DATA": runs.data}
    arguments = [re.sub("^[A-Z]+", lambda found: str(places[found[0]]), argument) for argument in command.arguments]
    patch.setenv("XDG_CACHE_HOME", str(run.with_name("cache")))
    before = _hashes(run)
    capsys.readouterr()
    assert run_cli(arguments, patch) == 1
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and "Traceback" not in error
    assert _hashes(run) == before
    return error


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.file}-{command.arguments[0]}")
def test_a_command_names_a_damaged_file_and_changes_nothing(
    command: Command, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole if command.run == "whole" else runs.interrupted, run)
    path = run / command.file
    good = path.read_text()
    for damage in DAMAGES.values():
        path.write_text(damage(good))
        assert str(path) in _refused(command, runs, run, monkeypatch, capsys)


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (COMMANDS[0], "labels.json: not the labels that the checkpoint was trained with"),
        (COMMANDS[2], "are not those of labels.json"),
        (COMMANDS[4], "labels.json: not the labels that the checkpoint was trained with"),
        (COMMANDS[5], "model.safetensors: damaged"),
        (COMMANDS[7], "are not those of labels.json"),
        (COMMANDS[8], "are not those of labels.json"),
        (COMMANDS[9], "is of another evaluation"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.file}-{value.arguments[0]}",
)
def test_the_file_of_another_run_is_named(
    command: Command,
    message: str,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole if command.run == "whole" else runs.interrupted, run)
    shutil.copy(runs.other / command.file, run / command.file)
    assert message in _refused(command, runs, run, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": np.array(["a"])}, r"names: <U1 of shape \(1,\) found, texts of shape \(3,\) expected"),
        ({"names": np.array([{}, {}, {}])}, r"names: object of shape \(3,\) found"),
        ({"counts": np.zeros((3, 3, 3))}, r"counts: float64 of shape \(3, 3, 3\) found, whole numbers"),
        ({"counts": np.full((3, 3, 3), -1)}, "counts: -1 found, 0 or more expected"),
        ({"counts": np.zeros((1000, 1000, 100), np.int8)}, r"counts: int8 of shape \(1000, 1000, 100\) found"),
        ({}, "counts: missing"),
    ],
)
def test_arrays_of_another_form_are_named(arrays: dict[str, Any], message: str, runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    path = run / "eval/val/per_image.npz"
    kept = dict(np.load(path)) if arrays else {"names": np.array(["a", "b", "c"])}
    np.savez_compressed(path, **kept | arrays)
    with pytest.raises(ValueError, match=rf"per_image\.npz: {message}.*dinoseg eval"):
        _read_metrics(run)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", None])
def test_a_damaged_array_file_is_named(content: bytes | None, runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    path = run / "eval/val/per_image.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] if content is None else content)
    with pytest.raises(ValueError, match=r"per_image\.npz: damaged .*dinoseg eval"):
        _read_metrics(run)
    # A byte in the midst: whichever it is, it is found or does not matter.
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            _read_metrics(run)
        except ValueError as error:
            assert "per_image.npz" in str(error)


@pytest.mark.parametrize(
    "content", ["", "a", "a,b\n1", "truth,back\nback,1", "x" * 200_000, '"' * 9, "\x00", "t,a\na," + "9" * 30]
)
def test_a_damaged_matrix_is_named(content: str, runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    (run / "eval/val/confusion.csv").write_text(content)
    with pytest.raises(ValueError, match=r"confusion\.csv: .*dinoseg eval"):
        _read_metrics(run)


def test_lines_of_metrics_that_are_no_records_are_named(runs: Runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    path = run / "metrics.jsonl"
    whole = path.read_text()
    for line, message in [
        ("[]", "a list of 0 found, an object expected"),
        ('{"kind": "train"}', "step: missing"),
        ('{"kind": "train", "step": 1e400}', "step: inf found, a whole number expected"),
        ('{"kind": null, "step": 1}', "kind: null found, a text expected"),
    ]:
        path.write_text(f"{line}\n{whole}")
        with pytest.raises(ValueError) as met:
            _show_metrics(run)
        assert str(met.value) == f"{path}: line 1: {message}; remove the line"
    # Cut short by a kill or a loss of power, or with figures of whatever kind: the curves are drawn from the rest.
    odd = '{"kind": "train", "step": 1, "loss": ' + "9" * 500 + ', "learning_rate": [1]}'
    path.write_bytes(f'{whole}{DEEP}\n{odd}\n{{"kind": "tr'.encode() + b"\xff\n\x00\x00")
    _show_metrics(run)


def test_a_checkpoint_reads_its_manifest_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    read, hashed = [], []
    opened = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return opened(path)

    from dinoseg.run_folder import checkpoint_manifest

    original = checkpoint_manifest.file_sha256
    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(checkpoint_manifest, "file_sha256", lambda file: hashed.append(file.name) or original(file))
    checkpoint = Checkpoint.open(runs.whole / "checkpoints/last")
    for _ in range(2):
        checkpoint.weights()
        checkpoint.trainer_state()
        _ = checkpoint.progress, checkpoint.metadata, checkpoint.weights_sha256
    assert read == ["checkpoint.json"] and sorted(hashed) == ["model.safetensors", "trainer.pt"]


def test_a_checkpoint_without_a_manifest_is_evaluated(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs.whole, run)
    (run / "checkpoints/best/checkpoint.json").unlink()
    assert run_cli(["eval", run, "--split", "test", "device=cpu"], monkeypatch) == 0
