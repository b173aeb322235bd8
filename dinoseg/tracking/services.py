"""wandb, mlflow and trackio, started through accelerate's tracker classes; all they keep lies in the run folder.

A service that the user has configured by its own environment variables (WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_DIR,
...) goes where these say. The packages are imported when a service is started.
"""

import html
import importlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from accelerate import tracking
from PIL import Image

_PROJECT = "dinoseg"


class Wandb:
    """A Weights & Biases run.

    Args:
        folder: the run folder; ``wandb/`` is made in it.
        run_id: of the run to go on with; None starts one.
        config: values by key, of a run that is started.
    """

    def __init__(self, folder: Path, run_id: str | None, config: Mapping[str, str]) -> None:
        self._package = importlib.import_module("wandb")
        self.run_id = run_id or secrets.token_hex(4)
        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._tracker = tracking.WandBTracker(
            project,
            dir=str(folder),
            id=self.run_id,
            name=folder.name,
            resume="allow",
            config=dict(config) if run_id is None else None,
        )
        self._tracker.start()

    def show_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Points of the curves."""
        self._tracker.log(dict(scalars), step=step)

    def show_pictures(self, pictures: Mapping[str, Image.Image], step: int) -> None:
        """Pictures by name."""
        self._tracker.log_images({name: [picture] for name, picture in pictures.items()}, step=step)

    def show_texts(self, texts: Mapping[str, str]) -> None:
        """Texts by name."""
        pages = {name: self._package.Html(f"<pre>{html.escape(text)}</pre>") for name, text in texts.items()}
        self._tracker.log(pages, step=0)

    def close(self) -> None:
        """Ends the run; waits until everything is sent."""
        self._tracker.finish()


class MLflow:
    """An MLflow run: in an SQLite file of the run folder, with its pictures beside it.

    Args:
        folder: the run folder; ``mlflow/`` is made in it.
        run_id: of the run to go on with; None starts one.
        config: values by key, of a run that is started.
    """

    def __init__(self, folder: Path, run_id: str | None, config: Mapping[str, str]) -> None:
        self._package = importlib.import_module("mlflow")
        self._is_local = "MLFLOW_TRACKING_URI" not in os.environ
        store = (folder / "mlflow").absolute()
        if self._is_local:
            store.mkdir(parents=True, exist_ok=True)
            self._package.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
        self._tracker = tracking.MLflowTracker(
            _PROJECT,
            logging_dir=(store / "artifacts").as_uri() if self._is_local else None,
            run_id=run_id,
            run_name=folder.name,
        )
        self._tracker.start()
        self.run_id: str = self._tracker.tracker.info.run_id
        if run_id is None:
            self._tracker.store_init_configuration(dict(config))

    def show_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Points of the curves."""
        self._tracker.log({_plain(name): value for name, value in scalars.items()}, step=step)

    def show_pictures(self, pictures: Mapping[str, Image.Image], step: int) -> None:
        """Pictures by name."""
        for name, picture in pictures.items():
            self._package.log_image(picture, key=_plain(name), step=step)

    def show_texts(self, texts: Mapping[str, str]) -> None:
        """Texts in Markdown by name."""
        for name, text in texts.items():
            self._package.log_text(text, f"{name}.md")

    def close(self) -> None:
        """Ends the run."""
        self._tracker.finish()
        if self._is_local:
            # It would be the store of the next training of this process, and of the processes it starts.
            self._package.set_tracking_uri(None)


class Trackio:
    """A Trackio run.

    Args:
        folder: the run folder; ``trackio/`` is made in it.
        run_id: name of the run to go on with; None starts one.
        config: values by key, of a run that is started.

    Raises:
        ValueError: trackio already writes to another folder, and keeps to it until the process ends.
    """

    def __init__(self, folder: Path, run_id: str | None, config: Mapping[str, str]) -> None:
        self._package = _import_trackio((folder / "trackio").absolute())
        self.run_id = run_id or f"{folder.name}-{secrets.token_hex(4)}"
        self._tracker = tracking.TrackioTracker(
            _PROJECT,
            name=self.run_id,
            resume="never" if run_id is None else "allow",
            config=dict(config) if run_id is None else None,
            embed=False,
        )
        self._tracker.start()

    def show_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Points of the curves."""
        self._tracker.log(dict(scalars), step=step)

    def show_pictures(self, pictures: Mapping[str, Image.Image], step: int) -> None:
        """Pictures by name."""
        self._tracker.log({name: self._package.Image(picture) for name, picture in pictures.items()}, step=step)

    def show_texts(self, texts: Mapping[str, str]) -> None:
        """Texts in Markdown by name."""
        self._tracker.log({name: self._package.Markdown(text) for name, text in texts.items()}, step=0)

    def close(self) -> None:
        """Ends the run; waits until everything is written."""
        self._tracker.finish()


def _import_trackio(store: Path) -> ModuleType:
    """The package, writing to ``store`` unless the user named another place."""
    if "TRACKIO_DIR" in os.environ:
        return importlib.import_module("trackio")
    # Read when the package is imported, and never again.
    os.environ["TRACKIO_DIR"] = str(store)
    try:
        package = importlib.import_module("trackio")
    finally:
        del os.environ["TRACKIO_DIR"]
    kept = Path(package.utils.TRACKIO_DIR)
    if kept != store:
        raise ValueError(f"it keeps writing to {kept} until this process ends; train in a process of its own")
    return package


def _plain(name: str) -> str:
    """A name of the characters that MLflow takes."""
    return re.sub(r"[^A-Za-z0-9_\-./ ]", "_", name)
