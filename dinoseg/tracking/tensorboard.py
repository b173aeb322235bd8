"""TensorBoard's event files of a run."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from dinoseg.system.files import named_errors

_PREFIX = "events.out.tfevents."


class TensorBoard:
    """Writes one event file; what is shown is in the file when the call returns, so that no kill takes it back.

    Args:
        folder: of the run's event files, one a start.
        next_step: what earlier starts showed of this step and of later ones is taken back; None removes their files.

    Raises:
        OSError: the file cannot be written; ``filename`` is the one.
    """

    def __init__(self, folder: Path, next_step: int | None) -> None:
        # Readers take the files by name: the time in it tells even two starts of one second apart.
        self._path = folder / f"{_PREFIX}{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        with named_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"{_PREFIX}*") if next_step is None else []:
                old.unlink()
            self._file = self._path.open("wb")
        self._writer = RecordWriter(self._file)
        self._add(Event(step=next_step or 0, file_version="brain.Event:2"))
        if next_step is not None:
            self._add(Event(step=next_step, session_log=SessionLog(status=SessionLog.START)))

    def show_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Points of the curves."""
        for name, value in scalars.items():
            self._add(Event(step=step, summary=summary.scalar(name, value)))

    def show_pictures(self, pictures: Mapping[str, Image.Image], step: int) -> None:
        """Pictures by name."""
        for name, picture in pictures.items():
            drawn: Summary = summary.image(name, np.asarray(picture), dataformats="HWC")
            self._add(Event(step=step, summary=drawn))

    def show_texts(self, texts: Mapping[str, str]) -> None:
        """Texts in Markdown by name."""
        for name, text in texts.items():
            self._add(Event(step=0, summary=summary.text(name, text)))

    def close(self) -> None:
        """Ends the file."""
        with named_errors(self._path):
            self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        with named_errors(self._path):
            self._writer.write(event.SerializeToString())
            self._writer.flush()
