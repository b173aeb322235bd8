"""A run folder with a file that is another run's, was edited, or is missing: said with file and remedy, or harmless."""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import run_cli, tiny_settings, train_tiny_run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dinoseg.run_folder.checkpoint import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation")

VERBS: dict[str, tuple[str, ...]] = {
    "eval": ("eval", "RUN", "--split", "test", "device=cpu"),
    "predict": ("predict", "RUN", "DATA/test/images", "--out", "OUT", "--device", "cpu"),
    "export": ("export", "RUN", "OUT"),
    "report": ("report", "RUN"),
    "resume": ("train", "RUN", "--resume"),
}
LORA = ("model.mode=lora", "lora.rank=2", "trackers=[]")


@dataclass(frozen=True)
class Runs:
    """A run before its last step, and one of the same shapes that was trained otherwise, on the same data."""

    data: Path
    run: Path
    other: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data, run = train_tiny_run(tmp_path_factory, {"train": 4, "val": 2, "test": 1}, *LORA)
        other = run.with_name("other")
        settings = tiny_settings(data, other, *LORA, "lora.alpha=32", "optimizer.lr=0.01", "transforms.mean=[0,0,0]")
        classes = "datasets.classes={0: back, 2: red, 1: green}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(run.with_name("cache")))
            assert run_cli(["train", *settings, classes], patch) == 0
    for folder in (run, other):
        shutil.rmtree(folder / "checkpoints/last")
        (folder / "checkpoints/previous").rename(folder / "checkpoints/last")
    return Runs(data, run, other)


@dataclass(frozen=True)
class Spoilt:
    """A copy of the run to spoil, and the command line of a verb on it."""

    run: Path
    runs: Runs
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def ends(self, verb: str) -> tuple[int, str]:
        """Exit code and what was said as an error."""
        places = {"RUN": self.run, "OUT": self.run.with_name("out"), "DATA": self.runs.data}
        arguments = [re.sub("^[A-Z]+", lambda found: str(places[found[0]]), argument) for argument in VERBS[verb]]
        self.capsys.readouterr()
        code = run_cli(arguments, self.patch)
        return code, self.capsys.readouterr().err

    def refuses(self, verb: str) -> str:
        """The one message of a verb that fails and changes nothing."""
        before = _hashes(self.run)
        code, error = self.ends(verb)
        assert code == 1, f"{verb} went through"
        assert error.count("error: ") == 1 and "Traceback" not in error, error
        assert _hashes(self.run) == before
        return error


@pytest.fixture
def spoilt(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spoilt:
    shutil.copytree(runs.run, tmp_path / "run")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Spoilt(tmp_path / "run", runs, monkeypatch, capsys)


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


MODEL, MANIFEST, TRAINER = "model.safetensors", "checkpoint.json", "trainer.pt"
READ_BY: dict[str, tuple[str, ...]] = {
    "config.yaml": ("eval", "predict", "export", "report", "resume"),
    "labels.json": ("eval", "predict", "export", "report", "resume"),
    f"checkpoints/best/{MODEL}": ("eval", "predict", "export", "report"),
    f"checkpoints/best/{MANIFEST}": ("eval", "predict", "export", "report"),
    f"checkpoints/last/{MODEL}": ("resume",),
    f"checkpoints/last/{MANIFEST}": ("resume",),
    f"checkpoints/last/{TRAINER}": ("resume",),
    "eval/val/metrics.json": ("report",),
    "metrics.jsonl": ("report", "resume"),
}


def _replace(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _put(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def put(file: Path) -> None:
        file.unlink()
        make(file)

    return put


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda file: _replace(file, b""),
    "garbage": lambda file: _replace(file, bytes(range(1, 256)) * 5),
    "folder": _put(Path.mkdir),
    "fifo": _put(os.mkfifo),
}
# What a verb can do without, or makes good; the damages that it then may meet.
WITHOUT: dict[tuple[str, str], tuple[str, ...]] = {
    # A model that was put together by hand has no hashes.
    **{(f"checkpoints/best/{MANIFEST}", verb): ("missing",) for verb in ("eval", "predict", "export", "report")},
    # Curves are drawn from the lines that are whole, and a training goes on without those before.
    ("metrics.jsonl", "report"): ("missing", "empty", "garbage"),
    ("metrics.jsonl", "resume"): ("missing", "empty", "garbage"),
    # The best checkpoint is gone on from where the last one is none.
    (f"checkpoints/last/{MODEL}", "resume"): ("missing", "folder", "fifo"),
}


def _grid() -> list[tuple[str, str, str]]:
    """Every damage meets every file; where many verbs read it, two of them a verb, in turn."""
    names, found = list(DAMAGES), []
    for file, verbs in READ_BY.items():
        for row, verb in enumerate(verbs):
            met = names if len(verbs) < 3 else [names[(2 * row + more) % len(names)] for more in range(2)]
            found += [(file, verb, damage) for damage in met]
    return found


@pytest.mark.parametrize(("file", "verb", "damage"), _grid())
def test_a_file_that_is_none_is_named(file: str, verb: str, damage: str, spoilt: Spoilt) -> None:
    DAMAGES[damage](spoilt.run / file)
    if damage in WITHOUT.get((file, verb), ()):
        assert spoilt.ends(verb)[0] == 0
        return
    error = spoilt.refuses(verb)
    assert file.rpartition("/")[2] in error or (file, verb) == ("eval/val/metrics.json", "report"), error
    assert any(word in error for word in ("copy", "use another", "give", "dinoseg eval", "remove", "train")), error


@pytest.mark.parametrize(
    ("file", "verb", "message"),
    [
        (
            "config.yaml",
            "eval",
            r"config\.yaml: not the config that the checkpoint was trained with: lora\.alpha: 16\.0 t",
        ),
        ("config.yaml", "predict", r"lora\.alpha: 16\.0 there, 32\.0 in the file; copy the whole folder"),
        ("config.yaml", "export", r"lora\.alpha: 16\.0 there, 32\.0"),
        ("config.yaml", "report", r"lora\.alpha: 16\.0 there, 32\.0"),
        ("config.yaml", "resume", r"not the config that the checkpoint was trained with: lora\.alpha: 16\.0 there"),
        (
            "labels.json",
            "eval",
            r"labels\.json: not the labels .*: classes: class 0 = \['class_0', \[0\]\] there, class 0 =",
        ),
        (
            "labels.json",
            "predict",
            r"classes: class 0 = \['class_0', \[0\]\] there, class 0 = \['back', \[0\]\] in the",
        ),
        ("labels.json", "export", r"labels\.json: not the labels that the checkpoint was trained with"),
        ("labels.json", "report", r"are not those of labels\.json"),
        ("labels.json", "resume", r"labels\.json: not the labels that the checkpoint was trained with"),
        (f"checkpoints/best/{MODEL}", "eval", r"model\.safetensors: damaged"),
        (f"checkpoints/best/{MANIFEST}", "predict", r"model\.safetensors: damaged"),
        (f"checkpoints/last/{TRAINER}", "resume", r"trainer\.pt: damaged"),
        ("checkpoints/best", "eval", r"labels\.json: not the labels that the checkpoint was trained with"),
        ("checkpoints/last", "resume", r"labels\.json: not the labels that the checkpoint was trained with"),
        ("eval/val", "report", r"are not those of labels\.json"),
    ],
)
def test_what_is_of_another_run_is_named(file: str, verb: str, message: str, spoilt: Spoilt) -> None:
    target, source = spoilt.run / file, spoilt.runs.other / file
    if source.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    assert re.search(message, spoilt.refuses(verb))


def _edit_labels(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((run / "labels.json").read_text())
    change(document)
    (run / "labels.json").write_text(json.dumps(document))


def _exchange(document: dict[str, Any], key: str) -> None:
    first, second = document["classes"][1], document["classes"][2]
    first[key], second[key] = second[key], first[key]


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "names exchanged": (
        lambda d: _exchange(d, "name"),
        r"class 1 = ['class_1', [1]] there, class 1 = ['class_2', [1]]",
    ),
    "ids exchanged": (
        lambda d: _exchange(d, "label_ids"),
        "class 1 = ['class_1', [1]] there, class 1 = ['class_1', [2]]",
    ),
    "an id more": (lambda d: d["classes"][2]["label_ids"].append(9), "class 2 = ['class_2', [2]] there, class 2 ="),
    "a class more": (
        lambda d: (
            d["classes"].append({"index": 3, "name": "x", "label_ids": [9], "colour": [1, 2, 3]}),
            d.update(num_classes=4),
        ),
        "no more classes there, class 3 = ['x', [9]] in the file",
    ),
    "a class fewer": (
        lambda d: (d["classes"].pop(), d.update(num_classes=2)),
        "class 2 = ['class_2', [2]] there, no more classes in the file",
    ),
    "ignored": (lambda d: d["ignored_ids"].append(77), "ignored_ids: [255] there, [255, 77] in the file"),
}


@pytest.mark.parametrize("verb", ["eval", "predict", "export", "resume"])
@pytest.mark.parametrize("edit", EDITS)
def test_labels_that_were_edited_are_named(edit: str, verb: str, spoilt: Spoilt) -> None:
    change, message = EDITS[edit]
    _edit_labels(spoilt.run, change)
    error = spoilt.refuses(verb)
    assert str(spoilt.run / "labels.json") in error and message in error, error


def test_a_head_starts_from_no_run_whose_labels_were_edited(spoilt: Spoilt) -> None:
    _edit_labels(spoilt.run, EDITS["a class more"][0])
    new = tiny_settings(spoilt.runs.data, spoilt.run.with_name("new"), f"load_from={spoilt.run}")
    assert run_cli(["train", *new], spoilt.patch) == 1
    assert "no more classes there, class 3" in spoilt.capsys.readouterr().err


def test_colours_may_be_chosen_anew(spoilt: Spoilt) -> None:
    _edit_labels(spoilt.run, lambda document: document["classes"][1].update(colour=[9, 99, 199]))
    assert spoilt.ends("eval")[0] == spoilt.ends("predict")[0] == 0


def test_settings_that_give_the_output_no_meaning_may_differ(spoilt: Spoilt) -> None:
    path = spoilt.run / "config.yaml"
    path.write_text(path.read_text().replace("total_iter: 4", "total_iter: 40"))
    assert spoilt.ends("eval")[0] == 0
    assert "config.yaml: not the config that the checkpoint was trained with: scheduler.total_iter: 4 there, 40" in (
        spoilt.refuses("resume")
    )


def test_overrides_are_no_edits(spoilt: Spoilt) -> None:
    code = run_cli(["eval", spoilt.run, "--split", "test", "device=cpu", "transforms.mean=[0.1,0.1,0.1]"], spoilt.patch)
    assert code == 0


def test_a_checkpoint_that_does_not_say_what_it_was_trained_with_is_evaluated(spoilt: Spoilt) -> None:
    _rewrite_model(spoilt.run, lambda tensors, metadata: [metadata.pop(key) for key in ("settings", "labels")])
    assert spoilt.ends("eval")[0] == 0


def _rewrite_model(run: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> None:
    """The weights of ``best`` changed, and without hashes that would tell."""
    file = run / "checkpoints/best" / MODEL
    with safe_open(file, framework="pt") as opened:
        metadata = dict(opened.metadata())
    tensors = load_file(file)
    change(tensors, metadata)
    save_file(tensors, file, metadata=metadata)
    (file.parent / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("entry", "message"),
    [("", "settings: damaged (it is empty)"), ("[]", "settings: a list of 0 found"), ("{", "settings: damaged")],
)
def test_damaged_metadata_is_named(entry: str, message: str, spoilt: Spoilt) -> None:
    _rewrite_model(spoilt.run, lambda tensors, metadata: metadata.update(settings=entry))
    assert f"the checkpoint's metadata: {message}" in spoilt.refuses("eval")


def test_weights_that_are_no_numbers_are_named(spoilt: Spoilt) -> None:
    _rewrite_model(spoilt.run, lambda tensors, metadata: tensors["head.conv.bias"].fill_(float("nan")))
    for verb in ("eval", "predict", "export"):
        assert "model.safetensors: head.conv.bias holds 3 values that are NaN or infinite" in spoilt.refuses(verb)


def _optimiser_of(state: dict[str, Any]) -> dict[str, Any]:
    return next(iter(state["optimizer"]["state"].values()))


STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "NaN": (lambda s: _optimiser_of(s)["exp_avg"].fill_(float("nan")), "values that are NaN or infinite"),
    "sparse": (lambda s: _optimiser_of(s).update(exp_avg=torch.eye(3).to_sparse()), "where plain numbers are expected"),
    "meta": (lambda s: _optimiser_of(s).update(exp_avg=torch.empty(3, device="meta")), "has no values"),
    "shape": (lambda s: _optimiser_of(s).update(exp_avg=torch.zeros(5, 7)), "not the state of this training"),
    "text": (lambda s: _optimiser_of(s).update(exp_avg="text"), "not the state of this training"),
    "left out": (lambda s: _optimiser_of(s).pop("exp_avg"), "not the state of this training"),
    "no groups": (lambda s: s["optimizer"].pop("param_groups"), "not the state of this training"),
    "odd groups": (lambda s: s["optimizer"].update(param_groups=[3]), "not the state of this training"),
    "itself": (lambda s: s["optimizer"].update(state=s["optimizer"]), "not the state of this training"),
    "no optimiser": (lambda s: s.pop("optimizer"), "optimizer: missing or no optimiser state"),
}


@pytest.mark.parametrize("kind", STATES)
def test_an_optimiser_state_of_another_form_is_named(kind: str, spoilt: Spoilt) -> None:
    change, message = STATES[kind]
    folder = spoilt.run / "checkpoints/last"
    state = dict(Checkpoint(folder).trainer_state())
    change(state)
    torch.save(state, folder / TRAINER)
    (folder / MANIFEST).write_text(json.dumps(_manifest(folder)))
    error = spoilt.refuses("resume")
    assert "trainer.pt: " in error and message in error and "--resume previous" in error, error


def _manifest(folder: Path) -> dict[str, Any]:
    """That of the files as they are now: whoever forges a file may forge its hashes."""
    contents = json.loads((folder / MANIFEST).read_text())
    for name in contents["files"]:
        data = (folder / name).read_bytes()
        contents["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del contents["sha256"]
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return contents | {"sha256": digest}


OUTWARD = ("../../other/eval/val", "..", "/etc", "val/../val", "", "val\n")


@pytest.mark.parametrize("name", OUTWARD)
def test_names_of_splits_and_checkpoints_do_not_lead_out_of_the_run_folder(name: str, spoilt: Spoilt) -> None:
    before = _hashes(spoilt.run.parent)
    for command in (
        ["eval", spoilt.run, "--split", name],
        ["eval", spoilt.run, "--split", name, "--shard", "1/2"],
        ["eval", spoilt.run, "--split", name, "--merge"],
        ["report", spoilt.run, "--split", name],
        ["compare", spoilt.run, spoilt.run, "--split", name],
    ):
        assert run_cli(command, spoilt.patch) == 1
        assert f"error: --split {name}: choose train, val, test" in spoilt.capsys.readouterr().err
    for command in (
        ["eval", spoilt.run, "--checkpoint", name],
        ["predict", spoilt.run, spoilt.runs.data / "test/images", "--out", spoilt.run / "out", "--checkpoint", name],
        ["export", spoilt.run, spoilt.run / "out", "--checkpoint", name],
    ):
        assert run_cli(command, spoilt.patch) == 1
        assert "choose best, last, previous" in spoilt.capsys.readouterr().err
    assert _hashes(spoilt.run.parent) == before
