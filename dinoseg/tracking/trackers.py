"""Everything that shows a training while it runs, beside the files of the run folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Protocol

from PIL import Image
from pydantic import Field, RootModel

from dinoseg.config import Config, all_keys, get_key
from dinoseg.config.loading import config_yaml
from dinoseg.config.option import show_value
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import show_label
from dinoseg.system.files import replace_text
from dinoseg.system.json_files import Record, is_finite_number, read_json
from dinoseg.tracking.services import MLflow, Trackio, Wandb
from dinoseg.tracking.tensorboard import TensorBoard

_SERVICES: dict[str, type[Wandb] | type[MLflow] | type[Trackio]] = {
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}
# What a service has is known from here: its run, and the last steps it was shown before the last start.
_STATE_FILE = "trackers.json"
_WIDEST = 2048  # pixels of a picture's longer side


class ServiceState(Record):
    """Of one service in trackers.json: its run, and the last step of each kind of line it was shown."""

    run: Annotated[str, Field(min_length=1)]
    shown: dict[str, Annotated[int, Field(ge=0)]]


class TrackersRecord(RootModel[dict[str, ServiceState]]):
    """The whole of trackers.json: services by name."""


class Tracker(Protocol):
    """What is shown of a training, in one place."""

    def show_scalars(self, scalars: Mapping[str, float], step: int) -> None: ...

    def show_pictures(self, pictures: Mapping[str, Image.Image], step: int) -> None: ...

    def show_texts(self, texts: Mapping[str, str]) -> None: ...

    def close(self) -> None: ...


def refuse_missing_packages(trackers: Sequence[str]) -> None:
    """Raises ValueError when the package of a tracker is not installed; names the extra that brings it."""
    for name in trackers:
        if name in _SERVICES and find_spec(name) is None:
            raise ValueError(
                f"trackers={name}: the package is not installed; pip install 'dinoseg[{name}]', "
                f"or take {name} out of trackers"
            )


def refuse_damaged_state(folder: Path) -> None:
    """Raises ValueError when a run folder's trackers.json is damaged; names file and key."""
    _read_state(folder / _STATE_FILE)


class Trackers:
    """The trackers of one run.

    A service that fails while the training runs is named once and shown nothing more; the training goes on, and
    metrics.jsonl has what is missing there. TensorBoard's files belong to the run: an error of theirs is raised.

    Args:
        names: which ones.
        folder: the run folder.
        config: values by key.
        texts: in Markdown, by name; shown when a tracker is new to the run.
        say: takes the warning.
        next_step: of a resumed training: what TensorBoard was shown of this step and of later ones is taken back.
        shown: of a resumed training: by kind of line the last step that was shown before. A service keeps its points
            for good, so it is shown nothing up to there.

    Raises:
        ValueError: a service cannot be started.
        OSError: a file cannot be written; ``filename`` is the one.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        config: Mapping[str, str],
        texts: Mapping[str, str],
        say: Callable[[str], None],
        *,
        next_step: int | None = None,
        shown: Mapping[str, int] | None = None,
    ) -> None:
        self._folder, self._texts, self._say = folder, texts, say
        self._trackers: dict[str, Tracker] = {}
        state_file = folder / _STATE_FILE
        state = {} if next_step is None else _read_state(state_file)
        if "tensorboard" in names:
            self._open_tensorboard(next_step)
        self._shown: dict[str, dict[str, int]] = {}
        for name in (name for name in names if name in _SERVICES):
            before = state.get(name)
            run = self._start_service(name, before["run"] if before else None, config)
            self._shown[name] = _later_steps(before["shown"], shown or {}) if before else {}
            state[name] = {"run": run, "shown": self._shown[name]}
        if state:
            replace_text(state_file, json.dumps(state, indent=2) + "\n")

    def show_scalars(self, kind: str, step: int, figures: Mapping[str, Any]) -> None:
        """Every number as ``kind/name``, and those within a mapping as ``kind/name/name of the entry``."""
        scalars: dict[str, float] = {}
        for name, value in figures.items():
            inner = value.items() if isinstance(value, Mapping) else ()
            entries = {name: value} | {f"{name}/{key}": entry for key, entry in inner}
            scalars |= {f"{kind}/{key}": entry for key, entry in entries.items() if is_finite_number(entry)}
        self._show(lambda tracker: tracker.show_scalars(scalars, step), kind, step)

    def show_pictures(self, kind: str, step: int, pictures: Mapping[str, Path]) -> None:
        """Picture files by name; large ones smaller than they are."""
        if not self._trackers:
            return
        drawn = {}
        for name, file in pictures.items():
            with Image.open(file) as picture:
                picture.thumbnail((_WIDEST, _WIDEST))
                drawn[f"{kind}/{name}"] = picture.convert("RGB")
        self._show(lambda tracker: tracker.show_pictures(drawn, step), kind, step)

    def close(self) -> None:
        """Ends all; can be called twice."""
        while self._trackers:
            name, tracker = self._trackers.popitem()
            self._attempt(name, tracker.close)

    def _open_tensorboard(self, next_step: int | None) -> None:
        folder = self._folder / "tensorboard"
        new = next_step is None or not folder.exists()
        tracker = TensorBoard(folder, None if new else next_step)
        self._trackers["tensorboard"] = tracker
        if new:
            tracker.show_texts(self._texts)

    def _start_service(self, name: str, run: str | None, config: Mapping[str, str]) -> str:
        try:
            service = _SERVICES[name](self._folder, run, config)
            self._trackers[name] = service
            if run is None:
                service.show_texts(self._texts)
        except Exception as error:
            self.close()
            raise ValueError(
                f"trackers: {name} cannot be started ({error}); set it up, or take it out of trackers"
            ) from error
        return service.run_id

    def _show(self, action: Callable[[Tracker], None], kind: str, step: int) -> None:
        for name, tracker in list(self._trackers.items()):
            # -1: an evaluation of step 0 is shown, too.
            if step > self._shown.get(name, {}).get(kind, -1):
                self._attempt(name, partial(action, tracker))

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            if name not in _SERVICES:
                raise
            self._trackers.pop(name, None)
            self._say(
                f"warning: {name} failed ({type(error).__name__}: {error}) and is shown nothing from here on; "
                "the training goes on, metrics.jsonl has every figure"
            )


def _later_steps(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {kind: max(first.get(kind, 0), second.get(kind, 0)) for kind in first.keys() | second.keys()}


def _read_state(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    states = read_json(file, TrackersRecord, "remove it, and wandb, mlflow and trackio start new runs")
    return {name: {"run": state.run, "shown": dict(state.shown)} for name, state in states.root.items()}


def config_values(config: Config) -> dict[str, str]:
    """Every dotted key with its value, as YAML would write it."""
    return {entry.key: show_value(get_key(config, entry.key)) for entry in all_keys()}


def run_texts(config: Config, label_space: LabelSpace) -> dict[str, str]:
    """``labels``, a Markdown table, and ``config``, YAML as a Markdown code block."""
    rows = ["| class index | label ids | name | colour |", "| ---: | --- | --- | --- |"]
    for index, label in enumerate(label_space.classes):
        ids = ", ".join(show_label(label_id, label_space.kind) for label_id in label.label_ids)
        colour = "#{:02x}{:02x}{:02x}".format(*label.colour)
        rows.append(f"| {index} | {ids} | {label.name.replace('|', chr(92) + '|')} | {colour} |")
    ignored = ", ".join(show_label(label_id, label_space.kind) for label_id in label_space.ignored_ids) or "none"
    yaml = config_yaml(config)
    return {
        "labels": "\n".join([*rows, "", f"ignored: {ignored}", ""]),
        "config": "".join(f"    {line}\n" for line in yaml.splitlines()),
    }
