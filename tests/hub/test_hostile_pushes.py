"""Files of strangers: what does not agree, or asks for more than a run may, is refused in words and never run."""

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hub_double import Answer, Repository, log_in, running_hub_double
from helpers.published import use_hub
from helpers.weight_files import Trap
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dinoseg.config.loading import load_config
from dinoseg.hub import pushed_run
from dinoseg.hub.layout import BackboneRecord, config_json
from dinoseg.hub.pushed_files import find_pushed_files
from dinoseg.hub.pushed_run import find_pushed_run
from dinoseg.inference.chosen_runs import choose_runs
from dinoseg.labels import LabelSpace
from dinoseg.models.segmenter import build_segmenter
from dinoseg.run_folder.checkpoint import model_state
from dinoseg.run_folder.trained_with import describe_training
from dinoseg.system import files
from dinoseg.system.tensor_files import save_tensors
from dinoseg.zoo.address import Address

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")
NAME = "somebody/else"


def _write(folder: Path) -> Path:
    """A pushed run that is in order, with its backbone."""
    folder.mkdir()
    config = load_config(["model.dino_hub=tiny_vit8", "transforms.train.crop_size=32"])
    space = LabelSpace.build({0: "rest", 1: "vein"}, None, None, ())
    segmenter = build_segmenter(load_config(["model.dino_hub=tiny_vit8", "model.weights=none"]), 2)
    backbone = BackboneRecord(name="tiny_vit8", sha256="0" * 64, weights="included")
    metadata = {"backbone": "tiny_vit8", "backbone_sha256": "0" * 64, "backbone_saved": "true"}
    tensors = model_state(segmenter, whole=True)
    save_tensors(tensors, folder / "model.safetensors", metadata | describe_training(config, space))
    space.save(folder / "labels.json")
    (folder / "config.json").write_text(config_json(config, backbone, folder))
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("pushed") / "good")


@pytest.fixture
def bad(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, to be spoilt; and the working folder, in which nothing may appear."""
    folder = tmp_path / "bad"
    folder.mkdir()
    for file in good.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def _change(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / "config.json").read_text())
    change(document)
    (folder / "config.json").write_text(json.dumps(document))


def _as_named(folder: Path, name: str, content: bytes) -> None:
    """Another file, for which config.json has size and hash."""
    (folder / name).write_bytes(content)
    described = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    _change(folder, lambda document: document["files"].update({name: described}))


def _refused(folder: Path) -> str:
    with pytest.raises(ValueError) as met:
        find_pushed_run(Address.parse(f"hf:{folder}"))
    said = str(met.value)
    assert said.startswith(f"hf:{folder}: ")
    assert not list(Path.cwd().iterdir()) and not (folder.parent / "trapped").exists()
    return said.removeprefix(f"hf:{folder}: ")


def test_what_is_in_order_is_taken(good: Path) -> None:
    opened = choose_runs(f"hf:{good}").open()
    assert opened.label_space.class_names == ("rest", "vein") and opened.config.model.weights == "hub"
    assert next(iter(opened.load_ensemble(torch.device("cpu")).members)).config.output_dir == "runs/dinoseg"


def test_processes_that_load_it_at_once_do_no_harm(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_another(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(files, "flush_to_disk", flush)
                patch.setattr(tempfile, "mkdtemp", make)
                patch.setattr(pushed_run, "write_contents", write)
                child = os.fork()
                if child == 0:
                    try:
                        find_pushed_run(Address.parse(f"hf:{good}"))
                        os._exit(0)
                    finally:
                        os._exit(1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            return original(*arguments, **options)

        return call

    def while_it_lies_there(*arguments: Any) -> Path:
        assert (arguments[0].parent / "checkpoint.json").is_file()
        return write(*arguments)

    flush, make, write = files.flush_to_disk, tempfile.mkdtemp, pushed_run.write_contents
    with monkeypatch.context() as patch:
        patch.setattr(files, "flush_to_disk", after_another(flush))
        assert find_pushed_run(Address.parse(f"hf:{good}")) is not None
    found = find_pushed_run(Address.parse(f"hf:{good}"))
    assert found is not None
    checkpoint = found.folder / "checkpoints" / "best"
    for file in checkpoint.iterdir():
        file.unlink()
    monkeypatch.setattr(tempfile, "mkdtemp", after_another(make))
    monkeypatch.setattr(pushed_run, "write_contents", while_it_lies_there)
    assert find_pushed_run(Address.parse(f"hf:{good}")) is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("output_dir", "../../escaped"),
        ("load_from", "/etc/passwd"),
        ("trackers", ["wandb"]),
        ("model.weights", "/etc/passwd"),
        ("datasets.root", "/etc"),
        ("datasets.split", "../splits.json"),
        ("datasets.classes", "/etc/passwd"),
        ("train.cache_folder", "/elsewhere"),
    ],
)
def test_a_config_that_names_places_is_refused(key: str, value: Any, bad: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        *sections, last = key.split(".")
        node = document["config"]
        for section in sections:
            node = node[section]
        node[last] = value

    _change(bad, change)
    assert _refused(bad).startswith(f"config.json: config.{key}: says what is of one machine alone, and is not taken")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["config"].update(seed="${oc.env:HOME}"), "config: '${oc.env:HOME}' refers to something outside"),
        (lambda d: d["config"]["decoder_head"].update({"${x}": 1}), "config: '${x}' refers to something outside"),
        (lambda d: d["config"].update(callback="os.system"), "config: unknown key 'callback'"),
        (lambda d: d["config"].update(bs=-1), "bs=-1 is too small"),
        (lambda d: d["files"].update({"../../evil": d["files"]["labels.json"]}), "files: '../../evil' is no file of"),
        (lambda d: d["files"].pop("model.safetensors"), "files: model.safetensors is missing"),
        (lambda d: d["files"]["labels.json"].update(bytes=-1), "files.labels.json.bytes: -1 found, 0 or more expected"),
        (lambda d: d["backbone"].update(sha256="abc"), 'backbone.sha256: "abc" found, a text of the form'),
        (lambda d: d["backbone"].update(name="dinov2_vits14"), "backbone.name: 'dinov2_vits14' found, 'tiny_vit8' exp"),
        (lambda d: d["backbone"].update(sha256="1" * 64), "metadata: backbone_sha256 is '000"),
        (
            lambda d: d["backbone"].update(weights="hub"),
            "metadata: backbone_saved is 'true', where config.json says 'f",
        ),
        (lambda d: d.update(format=2, version="9.9"), "format 2 of dinoseg 9.9, which is newer; update dinoseg"),
        (lambda d: d.pop("backbone"), "config.json: backbone: missing"),
    ],
)
def test_a_config_that_does_not_agree_is_refused(
    change: Callable[[dict[str, Any]], None], said: str, bad: Path
) -> None:
    _change(bad, change)
    assert said in _refused(bad)


def test_files_that_are_no_json_are_refused(bad: Path) -> None:
    (bad / "config.json").write_bytes(b"{" * 5000)
    assert "config.json: damaged (" in _refused(bad)
    (bad / "config.json").write_bytes(b"\xff{}")
    assert "config.json: damaged (not UTF-8 text, from byte 0 on)" in _refused(bad)


def test_labels_are_checked_like_those_of_a_run(bad: Path) -> None:
    _as_named(bad, "labels.json", b"{}")
    assert _refused(bad).startswith("labels.json: kind: missing; fetch it again, or ask whoever pushed it")
    (bad / "labels.json").write_bytes(b"[]")
    assert _refused(bad).startswith("labels.json damaged: 2 bytes found") or "SHA-256" in _refused(bad)
    space = LabelSpace.build({0: "rest", 1: "red \x1b[31m"}, None, None, ())
    _as_named(bad, "labels.json", json.dumps(space.to_dict()).encode())
    assert _refused(bad).startswith("labels.json: classes[1].name: 'red \\\\x1b[31m' holds control characters")
    other = LabelSpace.build({0: "rest", 1: "other"}, None, None, ())
    other.save(bad / "labels.json")
    _as_named(bad, "labels.json", (bad / "labels.json").read_bytes())
    with pytest.raises(ValueError, match=rf"^hf:{bad}/labels\.json: not the labels that the checkpoint was trained"):
        choose_runs(f"hf:{bad}").open()


def test_a_pickle_is_not_run_whatever_it_is_called(bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bad.parent / "here")
    _as_named(bad, "model.safetensors", pickle.dumps({"x": Trap()}))
    assert _refused(bad).startswith("model.safetensors refused: no safetensors file (its header would have ")
    torch.save({"x": Trap()}, bad / "model.safetensors")
    _as_named(bad, "model.safetensors", (bad / "model.safetensors").read_bytes())
    assert "nothing in it is run" in _refused(bad)
    (bad / "pytorch_model.bin").write_bytes((bad / "model.safetensors").read_bytes())
    assert "nothing in it is run" in _refused(bad)


@pytest.mark.parametrize(
    "content",
    [
        (2**62).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"nope" + bytes(16),
        b"",
        b"abc",
    ],
)
def test_a_model_file_with_a_header_that_is_none_is_refused(content: bytes, bad: Path) -> None:
    _as_named(bad, "model.safetensors", content)
    said = _refused(bad)
    assert said.startswith("model.safetensors refused: ") or said.startswith("model.safetensors: metadata: backbone is")


def test_a_model_file_of_another_run_is_refused(bad: Path) -> None:
    file = bad / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-4] + b"evil")
    assert _refused(bad).startswith("model.safetensors damaged: SHA-256 ")
    file.write_bytes(content[:-4])
    assert _refused(bad).startswith(f"model.safetensors damaged: {len(content) - 4} bytes found, {len(content)} exp")
    file.write_bytes(content)
    tensors = load_file(file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    # A backbone with a hole would be filled in at random.
    tensors.pop(next(name for name in tensors if name.startswith("backbone.")))
    save_file(tensors, file, metadata)
    _as_named(bad, "model.safetensors", file.read_bytes())
    opened_run = choose_runs(f"hf:{bad}").open()
    with pytest.raises(ValueError, match=rf"^hf:{bad}/checkpoints/best/model\.safetensors: does not fit the run's"):
        opened_run.load_segmenter()


def test_of_a_hub_no_more_is_fetched_than_is_known(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {file.name: file.read_bytes() for file in good.iterdir()}
    with running_hub_double() as hub:
        use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint=hub.endpoint)
        log_in(monkeypatch, tmp_path, None)
        repository = hub.repositories[NAME] = Repository()
        more = {"pytorch_model.bin": pickle.dumps(Trap()), "setup.py": b"", "README.md": b"", "metrics.json": b"{}"}
        repository.commit(files | more)
        assert choose_runs(f"hf:{NAME}").open().label_space.num_classes == 2
        fetched = {line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line}
        assert fetched == {"config.json", "labels.json", "model.safetensors"}
        repository.commit(files | {"labels.json": files["labels.json"] + b" "})
        with pytest.raises(ValueError, match=f"^hf:{NAME}: labels.json damaged: .* bytes found"):
            choose_runs(f"hf:{NAME}")
        repository.commit({name: files[name] for name in ("config.json", "labels.json")})
        with pytest.raises(ValueError, match=f"^hf:{NAME}: model.safetensors is missing in the repository"):
            choose_runs(f"hf:{NAME}")
        # What was damaged is asked for anew: there may be a better one by now.
        repository.commit(files)
        assert choose_runs(f"hf:{NAME}").read_labels().num_classes == 2
        # Other people's models have a config.json, too.
        hub.repositories["some/bert"] = Repository()
        hub.repositories["some/bert"].commit({"config.json": b'{"model_type": "bert"}', "model.safetensors": b""})
        with pytest.raises(ValueError, match=r"^hf:some/bert: none of the heads that are known by name"):
            choose_runs("hf:some/bert").open()
        with pytest.raises(ValueError, match=r"^hf:some/bert@v7: some/bert has no revision 'v7'; give a branch"):
            choose_runs("hf:some/bert@v7")
        with pytest.raises(ValueError, match=r"^hf:no/body: the Hub has no such repository, or a private one"):
            choose_runs("hf:no/body")
    with pytest.raises(ValueError, match="no/body: no such folder; give the output_dir of a training"):
        choose_runs("no/body").open()
    use_hub(monkeypatch, tmp_path / "empty", offline=True)
    with pytest.raises(ValueError) as met:
        choose_runs(f"hf:{NAME}@v2")
    assert str(met.value) == (
        f"hf:{NAME}@v2: cannot be fetched: HF_HUB_OFFLINE is set, and it is not in the Hub's cache. With network, `hf "
        f"download {NAME} --revision v2 --local-dir else` fetches it: give that folder, hf:else, in its place; or copy "
        f"the Hub's cache of a machine that has it to {tmp_path / 'empty'}"
    )


@pytest.mark.parametrize("moment", ["/api/models/somebody/else", "/somebody/else/resolve/main/config.json"])
def test_files_are_of_one_commit_whatever_is_pushed_meanwhile(
    moment: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {file.name: file.read_bytes() for file in good.iterdir()}
    with running_hub_double() as hub:
        use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint=hub.endpoint)
        log_in(monkeypatch, tmp_path, None)
        repository = hub.repositories[NAME] = Repository()
        first = repository.commit(files)
        answered = hub.answer

        def pushed_after(method: str, path: str, token: str, body: bytes) -> Answer:
            found = answered(method, path, token, body)
            if (method, path) == ("GET", moment) and len(repository.versions) == 1:
                # Another label space, of another length; config.json says so.
                folder = _changed_copy(good, tmp_path)
                repository.commit({file.name: file.read_bytes() for file in folder.iterdir()})
            return found

        monkeypatch.setattr(hub, "answer", pushed_after)
        taken = find_pushed_files(Address.parse(f"hf:{NAME}"))
        assert taken is not None and len(repository.versions) == 2
        of_the_first = moment.endswith("config.json")
        assert (taken.key == first) == of_the_first
        assert taken.paths["labels.json"].read_bytes().endswith(b" ") != of_the_first
    # The branch is known to the cache.
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    cached = find_pushed_files(Address.parse(f"hf:{NAME}"))
    assert cached is not None and cached.key == taken.key


def _changed_copy(good: Path, place: Path) -> Path:
    folder = place / "changed"
    shutil.copytree(good, folder)
    _as_named(folder, "labels.json", (folder / "labels.json").read_bytes() + b" ")
    return folder


def test_a_run_folder_behind_hf_is_told(tmp_path: Path) -> None:
    for name in ("config.yaml", "labels.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=rf"^hf:{tmp_path}: a run folder; give it without hf:, as {tmp_path}"):
        choose_runs(f"hf:{tmp_path}")
