"""Runs on their way to a Hub and back: what is sent, what stays, and that what was loaded predicts the same."""

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from filelock import FileLock
from helpers.hub_double import HubDouble, Repository, log_in, running_hub_double
from helpers.published import use_hub, write_backbone, write_hub_cache
from helpers.tiny import run_cli, save_tiny_weights, tiny_settings, train_tiny_run, write_tiny_dataset
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import dinoseg
from dinoseg.backbone.timm_models import find_or_describe
from dinoseg.run_folder.checkpoint import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")
NAME = "user/retina"
WHOLE = {"README.md", "calibration.json", "config.json", "labels.json", "metrics.json", "model.safetensors"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A data set, a run on a backbone from a file, evaluated on test and calibrated; and that file."""
    weights = save_tiny_weights(tmp_path_factory.mktemp("weights"))
    more = (f"model.weights={weights}", "eval.compute_metric_per_image=true")
    data, run = train_tiny_run(tmp_path_factory, {"train": 3, "val": 2, "test": 2}, *more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(run.parent / "cache"))
        assert run_cli(["eval", run, "--split", "test"], patch) == 0
        assert run_cli(["calibrate", run], patch) == 0
    return data, run, weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubDouble]:
    with running_hub_double() as hub:
        use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint=hub.endpoint)
        log_in(monkeypatch, tmp_path)
        yield hub


def _maps(folder: Path) -> dict[str, bytes]:
    maps = {path.name: np.asarray(Image.open(path)) for path in sorted((folder / "labels").glob("*.png"))}
    return {name: pixels.tobytes() for name, pixels in maps.items()}


def _failed(arguments: list[str | Path], patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that ends in an error."""
    capsys.readouterr()
    assert run_cli(arguments, patch) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said
    return " ".join(said.split())


def test_what_was_trained_is_sent_and_predicts_the_same(
    trained: tuple[Path, Path, Path],
    hub: HubDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run, weights = trained
    assert run_cli(["push", run, NAME, "--private"], monkeypatch) == 0
    said, sent = capsys.readouterr().out, hub.repositories[NAME]
    assert sent.private and sent.files.keys() == WHOLE
    for name, content in sent.files.items():
        assert any(line.endswith(f"B  {name}") for line in said.splitlines())
        # No path, no name of an image, in whatever file.
        for secret in (str(run), str(data), str(weights), str(tmp_path), "train_0", "val_0", "test_0", "test_1"):
            assert secret.encode() not in content, f"{name} tells {secret}"
    assert f"https://huggingface.co/{NAME} (new, private)" in said and "NOT SENT: its weights are a file" in said
    assert "no paths, no names of images, no pictures" in said and "figures  test, checkpoint best" in said
    (tmp_path / "model.safetensors").write_bytes(sent.files["model.safetensors"])
    of_run = load_file(run / "checkpoints" / "best" / "model.safetensors")
    pushed = load_file(tmp_path / "model.safetensors")
    assert pushed.keys() == of_run.keys() and all(torch.equal(pushed[name], of_run[name]) for name in of_run)
    assert not any(name.startswith("backbone.") for name in pushed)

    images, address, file = data / "test" / "images", f"hf:{NAME}", f"model.weights={weights}"
    assert run_cli(["predict", run, images, "--out", tmp_path / "of_run"], monkeypatch) == 0
    said = _failed(["predict", address, images, "--out", tmp_path / "pushed"], monkeypatch, capsys)
    assert f"{address}: its backbone, tiny_vit8, had its weights from a file that was not pushed" in said
    assert run_cli(["predict", address, images, file, "--out", tmp_path / "pushed"], monkeypatch) == 0
    assert _maps(tmp_path / "pushed") == _maps(tmp_path / "of_run") and len(_maps(tmp_path / "pushed")) == 2
    other = f"model.weights={write_backbone(tmp_path / 'other.safetensors', seed=9)}"
    said = _failed(["predict", address, images, other, "--out", tmp_path / "other"], monkeypatch, capsys)
    assert f"{address}/checkpoints/best: trained on other weights of tiny_vit8 than {other} holds" in said
    # From the cache, and with its calibration.
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    predictor = dinoseg.load(address, device="cpu", overrides=[file])
    assert predictor.temperatures == dinoseg.load(run, device="cpu").temperatures != (1.0,)
    log_in(monkeypatch, tmp_path, None)
    use_hub(monkeypatch, tmp_path / "elsewhere", offline=False, endpoint=hub.endpoint)
    said = _failed(["predict", address, images, file], monkeypatch, capsys)
    assert f"{address}: the Hub has no such repository, or a private one" in said and "hf auth login" in said


def test_it_is_evaluated_exported_averaged_and_a_start(
    trained: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder of the same files stands for the repository."""
    data, run, weights = trained
    monkeypatch.chdir(tmp_path)
    assert run_cli(["push", run, NAME, "--with-backbone", "--dry-run", "whole"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "nothing is sent, and hf:whole loads it" in said and "tiny_vit8, sent with the rest" in said
    assert {path.name for path in Path("whole").iterdir()} == WHOLE
    # A second dry run takes the place of the first; where something else lies, none does.
    Path("whole/notes.txt").touch()
    again = ["push", run, NAME, "--with-backbone", "--dry-run", "whole"]
    refused = _failed(again, monkeypatch, capsys)
    assert "--dry-run whole: exists, and is neither empty nor of an earlier dry run" in refused
    Path("whole/notes.txt").unlink()
    Path("whole/README.md").write_text("of before")
    Path("whole/pictures").mkdir()
    Path("whole/pictures/1.png").touch()
    assert run_cli(again, monkeypatch) == 0
    assert {path.name for path in Path("whole").iterdir()} == WHOLE
    assert "of before" not in Path("whole/README.md").read_text()
    root = f"datasets.root={data}"
    # Not in the folder itself: figures tell names of images, and it would be no dry run's any more.
    said = _failed(["eval", "hf:whole", root], monkeypatch, capsys)
    assert "hf:whole has no folder of its own for figures; give one with --out" in said
    assert said.endswith("--out figures/whole/val")
    assert run_cli(["eval", "hf:whole", root, "--split", "test", "--out", "figures"], monkeypatch) == 0
    figures, before = (
        json.loads((folder / "metrics.json").read_text()) for folder in (Path("figures"), run / "eval" / "test")
    )
    assert figures["mIoU"] == before["mIoU"] and figures["checkpoint"] == "best"
    assert run_cli(["export", "hf:whole", "exported"], monkeypatch) == 0
    images = data / "test" / "images"
    assert run_cli(["predict", "exported", images, "--out", "of_export"], monkeypatch) == 0
    assert run_cli(["predict", "hf:whole", images, "--out", "of_pushed"], monkeypatch) == 0
    assert _maps(Path("of_export")) == _maps(Path("of_pushed"))
    assert run_cli(["push", run, NAME, "--dry-run", "head"], monkeypatch) == 0
    file = f"model.weights={weights}"
    settings = [*tiny_settings(data, tmp_path / "next"), file, "load_from=hf:head", "scheduler.total_iter=0"]
    capsys.readouterr()
    assert run_cli(["train", *settings], monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "load_from=hf:head: " in said and "all 3 classes kept" in said and ".cache" not in said
    started, pushed = (
        load_file(path) for path in ("next/checkpoints/best/model.safetensors", "head/model.safetensors")
    )
    assert all(torch.equal(started[name], pushed[name]) for name in pushed)
    other = _failed(["train", *settings, "decoder_head.type=dense", "output_dir=other"], monkeypatch, capsys)
    assert "load_from=hf:head: " in other and "decoder_head.type=linear" in other
    assert "which has no folder for calibration.json; export it first" in _failed(
        ["calibrate", "hf:head", file], monkeypatch, capsys
    )
    assert "hf:head holds one checkpoint alone" in _failed(
        ["predict", "hf:head", images, "--checkpoint", "last"], monkeypatch, capsys
    )


def test_a_published_backbone_is_named_and_not_sent(
    hub: HubDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run on weights that the Hub has, given as ``hub`` or as a file, with adapters or with the backbone saved."""
    backbone = "timm:test_vit"
    model = timm.create_model("test_vit", pretrained=False, num_classes=0)
    published = find_or_describe(backbone).origin.removeprefix("https://huggingface.co/")
    weights = _in_cache(model.state_dict(), tmp_path / "hub", published)
    data = write_tiny_dataset(tmp_path / "data", {"train": 2, "val": 1})
    sent: dict[str, dict[str, bytes]] = {}
    for name, more in {
        "saved": ("model.weights=hub", "model.save_backbone=true"),
        "file": (f"model.weights={weights}", "model.mode=lora"),
    }.items():
        settings = tiny_settings(data, tmp_path / name, f"model.dino_hub={backbone}", "scheduler.total_iter=1", *more)
        assert run_cli(["train", *settings], monkeypatch) == 0
        capsys.readouterr()
        assert run_cli(["push", tmp_path / name, f"user/{name}"], monkeypatch) == 0
        assert f"not sent: whoever loads the run fetches it from https://huggingface.co/{published}" in (
            capsys.readouterr().out
        )
        sent[name] = hub.repositories[f"user/{name}"].files
        assert json.loads(sent[name]["config.json"])["backbone"]["weights"] == "hub"
        card = ModelCard(sent[name]["README.md"].decode()).data
        assert card.base_model == published and card.library_name == "dinoseg"
        images = data / "val" / "images"
        assert run_cli(["predict", tmp_path / name, images, "--out", tmp_path / f"{name}_run"], monkeypatch) == 0
        assert run_cli(["predict", f"hf:user/{name}", images, "--out", tmp_path / f"{name}_hub"], monkeypatch) == 0
        assert _maps(tmp_path / f"{name}_run") == _maps(tmp_path / f"{name}_hub")
    adapters = [name for name in _keys(sent["file"], tmp_path) if name.startswith("backbone.")]
    assert adapters and all("lora" in name for name in adapters)
    assert not [key for key in _keys(sent["saved"], tmp_path) if key.startswith("backbone.")]
    whole = tmp_path / "whole"
    assert run_cli(["push", tmp_path / "file", NAME, "--with-backbone", "--dry-run", whole], monkeypatch) == 0
    merged = [key for key in _keys({"model.safetensors": (whole / "model.safetensors").read_bytes()}, tmp_path)]
    assert len([key for key in merged if key.startswith("backbone.")]) == len(model.state_dict())
    assert not any("lora" in key for key in merged)


def _in_cache(state: dict[str, torch.Tensor], cache: Path, repository: str) -> Path:
    cache.mkdir()
    save_file(state, cache / "file.safetensors")
    snapshot = write_hub_cache(cache, repository, {"model.safetensors": cache / "file.safetensors"})
    return snapshot / "model.safetensors"


def _keys(files: dict[str, bytes], folder: Path) -> list[str]:
    (folder / "sent.safetensors").write_bytes(files["model.safetensors"])
    with safe_open(folder / "sent.safetensors", framework="pt") as opened:
        return list(opened.keys())


def test_pushed_again_it_is_the_newest_that_is_loaded_and_what_is_left_over_goes(
    trained: tuple[Path, Path, Path],
    hub: HubDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, run, _ = trained
    whole = ["--with-backbone"]
    assert run_cli(["push", run, NAME, "--with-pictures", *whole], monkeypatch) == 0
    said, first = capsys.readouterr().out, hub.repositories[NAME]
    assert "pictures of the validation, class names" in said and "public unless its owner's default is private" in said
    # Under numbers, not names.
    assert first.files.keys() == WHOLE | {"pictures/1.png", "pictures/2.png"}
    assert "](pictures/1.png)" in first.files["README.md"].decode()
    assert dinoseg.load(f"hf:{NAME}", device="cpu").temperatures != (1.0,)
    old, changed = next(iter(first.versions)), tmp_path / "changed"
    shutil.copytree(run, changed)
    (changed / "calibration.json").unlink()
    assert run_cli(["push", changed, f"hf:{NAME}", *whole], monkeypatch) == 0
    assert f"https://huggingface.co/{NAME} (public)" in capsys.readouterr().out
    assert hub.repositories[NAME].files.keys() == WHOLE - {"calibration.json"}
    assert dinoseg.load(f"hf:{NAME}", device="cpu").temperatures == (1.0,)
    asked = len(hub.asked)
    assert dinoseg.load(f"hf:{NAME}@{old}", device="cpu").temperatures != (1.0,)
    # That is in the cache, and a commit stays what it is.
    assert len(hub.asked) == asked
    use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint="http://127.0.0.1:9")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert dinoseg.load(f"hf:{NAME}", device="cpu").temperatures == (1.0,)
    assert any("the Hub was not reached" in str(note.message) for note in told)


def test_figures_of_other_weights_are_not_those_of_the_run(
    trained: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = shutil.copytree(trained[1], tmp_path / "run")
    file = run / "eval" / "test" / "metrics.json"
    metrics = json.loads(file.read_text())
    best = Checkpoint.open(run / "checkpoints" / "best")
    assert metrics["weights_sha256"] == best.weights_sha256
    file.write_text(json.dumps(metrics | {"weights_sha256": "0" * 64}))
    assert run_cli(["push", run, NAME, "--dry-run", tmp_path / "sent"], monkeypatch) == 0
    # Those of the training's last evaluation are.
    others = "those in eval/test are of other weights"
    assert f"figures  val, checkpoint best; {others}: dinoseg eval {run} --split test\n" in capsys.readouterr().out
    (run / "eval" / "val" / "metrics.json").unlink()
    last = ["push", run, NAME, "--dry-run", tmp_path / "last", "--checkpoint", "last"]
    assert run_cli(last, monkeypatch) == 0
    evaluate = f"dinoseg eval {run} --split test --checkpoint last"
    assert f"figures  none of checkpoint last; {others}: {evaluate}\n" in capsys.readouterr().out
    assert run_cli(["report", run, "--split", "test", "--max-images", "0"], monkeypatch) == 0
    assert "checkpoint best (as it was then: another one lies there now)" in (run / "report-test.html").read_text()


def test_what_cannot_be_pushed_says_why_and_what_to_do(
    trained: tuple[Path, Path, Path],
    hub: HubDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, run, _ = trained
    monkeypatch.chdir(tmp_path)

    def said(*arguments: str | Path) -> str:
        return _failed(["push", *arguments], monkeypatch, capsys)

    assert "retina: whose? Write USER/retina" in said(run, "retina")
    assert "user/re..tina: no name on the Hub; write USER/NAME" in said(run, "user/re..tina")
    assert "user/a@v1: a run is pushed to the main branch" in said(run, "user/a@v1")
    assert "nowhere: no such folder; give the output_dir of a training" in said("nowhere", NAME)
    assert "hf:user/x: is on the Hub already, or ready for it; `dinoseg export hf:user/x FOLDER`" in said(
        "hf:user/x", NAME
    )
    with FileLock(run / ".lock"):
        assert f"{run}: is being trained (" in said(run, NAME)
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("config.yaml", "labels.json"):
        (empty / name).write_bytes((run / name).read_bytes())
    assert "empty/checkpoints/best: no checkpoint there" in said("empty", NAME)
    (tmp_path / "both").mkdir()
    members = [{"folder": name, "weights_sha256": "0" * 64} for name in ("1_a", "2_b")]
    (tmp_path / "both" / "ensemble.json").write_text(json.dumps({"members": members}))
    assert (
        "both: several runs as one, and a repository holds one; push each: dinoseg push both/1_a user/retina-1, "
        "dinoseg push both/2_b user/retina-2; whoever predicts names them all: dinoseg predict hf:user/retina-1 "
        "hf:user/retina-2 IMAGES" in said("both", NAME)
    )
    assert f"--dry-run {empty}: exists, and is neither empty nor of an earlier dry run; give a new one" in said(
        run, NAME, "--dry-run", empty
    )

    assert "other/retina: not sent: no right to write there (You don't have the rights" in said(run, "other/retina")
    hub.repositories["other/retina"] = Repository()
    assert "other/retina: not sent: no right to write there (Forbidden" in said(run, "other/retina")
    hub.repositories["user/bert"] = Repository()
    hub.repositories["user/bert"].commit({"config.json": b"{}", "pytorch_model.bin": b""})
    assert "user/bert: holds something else than a run of dinoseg (pytorch_model.bin)" in said(run, "user/bert")
    hub.repositories["user/open"] = Repository()
    assert "user/open: is there already and public, and --private is given" in said(run, "user/open", "--private")
    monkeypatch.setattr("helpers.hub_double.LICENCES", ())
    assert f'{NAME}: not sent: the Hub refused it (Invalid metadata in README.md. - "license" must be' in said(
        run, NAME
    )
    log_in(monkeypatch, tmp_path, "hf_of_nobody")
    assert f"{NAME}: not sent: the Hub does not know the token" in said(run, NAME)
    log_in(monkeypatch, tmp_path, None)
    assert f"{NAME}: not sent: not logged in to the Hub; run `hf auth login`, or set HF_TOKEN" in said(run, NAME)
    log_in(monkeypatch, tmp_path)
    use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint="http://127.0.0.1:9")
    assert f"{NAME}: not sent: the Hub was not reached (" in said(run, NAME)
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    assert f"{NAME}: not sent: HF_HUB_OFFLINE is set; unset it, or --dry-run FOLDER" in said(run, NAME)
    # Made, and left empty: the next push fills it.
    assert hub.repositories[NAME].files == {}
