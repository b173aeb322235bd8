"""Trackers: what they are shown, what a resumed training shows again, what happens when one fails."""

import io
import json
import re
import resource
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from helpers.tiny import tiny_settings, write_tiny_dataset
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dinoseg.config.loading import load_config
from dinoseg.tracking import trackers
from dinoseg.tracking.services import MLflow, Trackio, Wandb
from dinoseg.tracking.tensorboard import TensorBoard
from dinoseg.tracking.trackers import Trackers
from dinoseg.training.journal import Journal
from dinoseg.training.loop import Trainer
from dinoseg.verbs.train import Start, train

# The packages' own interface, as far as it is used: every call becomes a line of calls.jsonl.
RECORDER = """
import json, os
def note(*call):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps(call, default=lambda value: type(value).__name__) + "\\n")
class Run:
    def log(self, values, step=None):
        if os.environ.get("FAILS_AT") == str(step):
            raise ConnectionError("no route to the service")
        note("log", values, step)
    def finish(self):
        note("finish")
class Image:
    def __init__(self, picture): self.size = picture.size
class Html:
    def __init__(self, text): self.text = text
class Markdown(Html): pass
config = {}
def init(**options):
    note("init", options)
    return Run()
"""
MLFLOW = """
from types import SimpleNamespace as Names
from mlflow import utils
def set_tracking_uri(uri): note("uri", uri)
def search_experiments(filter_string): return []
def create_experiment(name, artifact_location, tags): note("experiment", name, artifact_location); return "1"
def start_run(run_id, **options): note("start", run_id); return Names(info=Names(run_id=run_id or "made here"))
def log_params(values): note("params", values)
def log_metrics(values, step):  Run().log(values, step)
def log_image(image, key, step): note("image", key, step)
def log_text(text, file): note("text", text, file)
def end_run(): note("finish")
"""


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the three packages; the file of their calls."""
    packages = tmp_path / "packages"
    for name in ("wandb", "mlflow", "trackio"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text(RECORDER + (MLFLOW if name == "mlflow" else ""))
        monkeypatch.delitem(sys.modules, name, raising=False)
    (packages / "mlflow/utils.py").write_text(
        "from types import SimpleNamespace as Names\n"
        "validation = Names(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)\n"
    )
    (packages / "trackio/utils.py").write_text("import os\nTRACKIO_DIR = os.environ['TRACKIO_DIR']\n")
    (packages / "trackio/__init__.py").write_text(RECORDER + "from trackio import utils\n")
    monkeypatch.syspath_prepend(packages)
    for name in ("TRACKIO_DIR", "MLFLOW_TRACKING_URI", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.jsonl"))
    calls = tmp_path / "calls.jsonl"
    calls.touch()
    return calls


@pytest.fixture(autouse=True)
def _stand_ins_leave(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = {name for name in sys.modules if name.split(".")[0] in ("wandb", "mlflow", "trackio")}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("wandb", "mlflow", "trackio")]:
        if name not in before and not hasattr(sys.modules[name.split(".")[0]], "__version__"):
            del sys.modules[name]


def _settings(folder: Path, *more: str) -> list[str]:
    if not (folder / "data").exists():
        write_tiny_dataset(folder / "data", {"train": 3, "val": 3})
    return tiny_settings(folder / "data", folder / "run", "eval.num_visualizations=2", *more)


def _train(settings: list[str], how: str | None = None) -> str:
    out = io.StringIO()
    train(load_config(settings), Console(file=out, width=200), Start(how))
    return out.getvalue()


def _calls(file: Path) -> list[list[Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _events(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_has_what_the_run_folder_has(tmp_path: Path) -> None:
    _train(_settings(tmp_path))
    events, lines = _events(tmp_path / "run"), _lines(tmp_path / "run")
    for tag in ("loss", "images_per_second", "data_wait_share", "learning_rate"):
        points = [(event.step, event.value) for event in events.Scalars(f"train/{tag}")]
        assert points == [
            (line["step"], pytest.approx(line[tag], rel=1e-6)) for line in lines if line["kind"] == "train"
        ]
    evaluations = [line for line in lines if line["kind"] == "val"]
    for name in evaluations[0]["per_class_IoU"]:
        tag = "val/per_class_IoU/" + re.sub(r"[^-/\w.]", "_", name)
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(line["step"], pytest.approx(line["per_class_IoU"][name])) for line in evaluations]
    drawn = sorted(path.stem for path in (tmp_path / "run/overlays/val").iterdir())
    assert len(drawn) == 2 and sorted(events.Tags()["images"]) == [f"val/{name}" for name in drawn]
    assert [event.step for event in events.Images(f"val/{drawn[0]}")] == [2, 4]
    texts = {
        tag: event.tensor_proto.string_val[0].decode()
        for tag in ("labels", "config")
        for event in events.Tensors(f"{tag}/text_summary")
    }
    assert "| 2 | 2 | " in texts["labels"] and "scheduler:\n" in texts["config"]
    assert "    output_dir: " + str(tmp_path / "run") in texts["config"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package catches it."""


@pytest.mark.parametrize("after_evaluation", [True, False])
def test_points_are_there_once_after_a_kill(
    after_evaluation: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, services: Path
) -> None:
    # A checkpoint at step 2 before its evaluation and after it: the kill comes in between, or three steps on.
    settings = _settings(
        tmp_path, "scheduler.total_iter=6", "train.checkpoint_interval=2", "trackers=[tensorboard, wandb, mlflow]"
    )
    original = Trainer.save

    def save(trainer: Trainer, name: str) -> None:
        evaluated = trainer.progress.evaluated_step == trainer.progress.step
        if trainer.progress.step == 4 and name == "last" and evaluated != (not after_evaluation):
            raise Killed
        original(trainer, name)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "save", save)
        _train(settings)
    _train(settings, "last")
    events, lines = _events(tmp_path / "run"), _lines(tmp_path / "run")
    for kind, steps in (("train", [1, 2, 3, 4, 5, 6]), ("val", [2, 4, 6])):
        assert [line["step"] for line in lines if line["kind"] == kind] == steps
        tag = {"train": "train/loss", "val": "val/mIoU"}[kind]
        assert [event.step for event in events.Scalars(tag)] == steps
        logged = [call[2] for call in _calls(services) if call[0] == "log" and tag in call[1]]
        # Two services, each shown every point once; the stand-ins keep all they are told.
        assert sorted(logged) == sorted(steps * 2)
    picture = events.Tags()["images"][0]
    assert [event.step for event in events.Images(picture)] == [2, 4, 6]


def test_a_start_from_the_beginning_shows_nothing_of_what_was_there(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path / "run/tensorboard", None)
    first.show_scalars({"train/loss": 5.0}, 99)
    first.close()
    _train(_settings(tmp_path))
    assert [event.step for event in _events(tmp_path / "run").Scalars("train/loss")] == [1, 2, 3, 4]


def test_services_are_shown_all_of_it_in_the_run_folder(tmp_path: Path, services: Path) -> None:
    _train(_settings(tmp_path, "trackers=[wandb, mlflow, trackio]"))
    run = tmp_path / "run"
    assert not (run / "tensorboard").exists()
    calls = _calls(services)
    wandb, trackio = (call[1] for call in calls if call[0] == "init")
    assert wandb["dir"] == str(run) and wandb["project"] == "dinoseg" and wandb["name"] == "run"
    assert wandb["config"]["scheduler.total_iter"] == trackio["config"]["scheduler.total_iter"] == "4"
    assert ["uri", f"sqlite:///{run}/mlflow/mlflow.db"] in calls and ["uri", None] in calls
    assert ["experiment", "dinoseg", (run / "mlflow/artifacts").as_uri()] in calls
    assert Path(sys.modules["trackio"].utils.TRACKIO_DIR) == run / "trackio"
    images = [call[1:] for call in calls if call[0] == "image"]
    assert len(images) == 4 and {step for _, step in images} == {2, 4}
    logs = [call[1:] for call in calls if call[0] == "log"]
    for tag in ("train/loss", "train/data_wait_share", "val/mIoU", "labels", "config"):
        shown = [step for values, step in logs if tag in values]
        times = {"labels": 2, "config": 2}.get(tag, 3 * (2 if tag == "val/mIoU" else 4))
        assert len(shown) == times, tag
    assert any(name.startswith("val/per_class_IoU/") for values, _ in logs for name in values)
    assert any(value == ["Image"] for values, _ in logs for value in values.values())
    assert {call[2] for call in calls if call[0] == "text"} == {"labels.md", "config.md"}
    assert sum(call == ["finish"] for call in calls) == 3
    state = json.loads((run / "trackers.json").read_text())
    assert {name: entry["run"] for name, entry in state.items()} == {
        "wandb": wandb["id"],
        "mlflow": "made here",
        "trackio": trackio["name"],
    }


def test_a_service_goes_on_with_its_run(tmp_path: Path, services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(tmp_path, "trackers=[wandb, mlflow]", "train.checkpoint_interval=1")
    original = Trainer._step

    def step(trainer: Trainer, batches: Any) -> None:
        if trainer.progress.step == 3:
            raise Killed
        original(trainer, batches)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_step", step)
        _train(settings)
    _train(settings, "last")
    first, second = (call[1] for call in _calls(services) if call[0] == "init")
    assert first["id"] == second["id"] and second["config"] is None
    assert [call for call in _calls(services) if call[0] == "start"] == [["start", None], ["start", "made here"]]
    kept = [key for call in _calls(services) if call[0] == "params" for key in call[1]]
    assert len(kept) == len(set(kept)) > 50


def test_a_service_that_fails_is_named_once_and_the_training_goes_on(
    tmp_path: Path, services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS_AT", "2")
    said = _train(_settings(tmp_path, "trackers=[wandb, tensorboard]"))
    words = "warning: wandb failed (ConnectionError: no route to the service) and is shown nothing from here on"
    assert said.count(words) == 1 == (tmp_path / "run/train.log").read_text().count(words)
    assert [line["step"] for line in _lines(tmp_path / "run") if line["kind"] == "train"] == [1, 2, 3, 4]
    assert len(_events(tmp_path / "run").Scalars("train/loss")) == 4


def test_a_service_that_does_not_start_ends_the_training_before_its_first_step(
    tmp_path: Path, services: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS_AT", "0")
    with pytest.raises(ValueError, match=r"trackers: wandb cannot be started \(no route to the service\); set it up"):
        _train(_settings(tmp_path, "trackers=[wandb]"))
    assert not (tmp_path / "run/checkpoints").exists()


def test_no_trackers(tmp_path: Path) -> None:
    _train(_settings(tmp_path, "trackers=[]"))
    assert not (tmp_path / "run/tensorboard").exists() and not (tmp_path / "run/trackers.json").exists()
    assert len(_lines(tmp_path / "run")) == 6


def test_unknown_and_missing_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="trackers='wandbb' is unknown; choose any of tensorboard, wandb, mlflow, tra"):
        load_config(["trackers=[tensorboard, wandbb]"])
    with pytest.raises(ValueError, match="trackers='mlflow' is given twice"):
        load_config(["trackers=[mlflow, mlflow]"])
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"trackers=mlflow: .* not installed; pip install 'dinoseg\[mlflow\]', or take"
    ):
        _train(_settings(tmp_path, "trackers=[tensorboard, mlflow]"))
    assert not (tmp_path / "run").exists()


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "trackers.json").write_text("{")
    with pytest.raises(ValueError, match=r"trackers\.json: damaged .* remove it"):
        Trackers([], tmp_path, {}, {}, print, next_step=1)


@pytest.mark.parametrize("file", ["tensorboard", "metrics.jsonl"])
def test_a_full_disk_is_named(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(tmp_path, f"trackers=[{'tensorboard' if file == 'tensorboard' else ''}]")
    original = Journal.record

    def record(journal: Journal, *arguments: Any) -> None:
        # No file of this process grows from here on, as on a full disk.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000 if file == "tensorboard" else 0, hard))
        try:
            original(journal, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(Journal, "record", record)
    with pytest.raises(OSError) as met:
        _train(settings)
    assert met.value.strerror == "File too large"
    assert str(met.value.filename).startswith(str(tmp_path / "run" / file))


def _show_all(tracker: Wandb | MLflow | Trackio) -> None:
    from PIL import Image

    tracker.show_texts({"labels": "| a |\n| - |\n", "config": "    bs: 2\n"})
    tracker.show_scalars({"train/loss": 1.5, "val/per_class_IoU/straße": 3.0}, 1)
    tracker.show_pictures({"val/straße 1": Image.new("RGB", (8, 4))}, 1)
    tracker.close()


@pytest.mark.parametrize("service", [Wandb, MLflow, Trackio])
def test_the_packages_themselves(
    service: type[Wandb] | type[MLflow] | type[Trackio], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(service.__name__.lower()) is None:
        pytest.skip(f"{service.__name__.lower()} is not installed")
    Accelerator(cpu=True)  # whose process writes
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    first = service(tmp_path / "run", None, {"bs": "2"})
    _show_all(first)
    second = service(tmp_path / "run", first.run_id, {"bs": "4"})
    second.show_scalars({"train/loss": 1.0}, 2)
    second.close()
    assert second.run_id == first.run_id
    assert [path.name for path in (tmp_path / "run").iterdir()] == [service.__name__.lower()]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
