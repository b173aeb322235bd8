"""What a training run writes down: console, train.log, metrics.jsonl and TensorBoard. Only the main process writes."""

import json
import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from dinoseg.atomic_file import flush_to_disk, named_errors, replace_text
from dinoseg.run_folder import RunFolder


class Journal:
    """Records of one run.

    Args:
        run: where the files go.
        console: what the user watches.
        resume_step: the step that a resumed training goes on from: training lines after it are dropped from
            metrics.jsonl; None starts the files anew.
        evaluated_step: of a resumed training's last finished evaluation: those after it are dropped, too.

    Raises:
        OSError: the files cannot be written; ``filename`` is the one.
    """

    def __init__(
        self, run: RunFolder, console: Console, resume_step: int | None = None, evaluated_step: int | None = None
    ) -> None:
        self.console = console
        self._metrics = run.metrics
        if resume_step is None:
            replace_text(self._metrics, "")
            replace_text(run.log, "")
        else:
            _drop_after(self._metrics, {"train": resume_step, "val": evaluated_step or 0})
        self._log_path = run.log
        self._log = run.log.open("a", encoding="utf-8")
        self._file_console = Console(file=self._log, width=120)
        self._tensorboard = SummaryWriter(
            run.path / "tensorboard", purge_step=None if resume_step is None else resume_step + 1
        )
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def say(self, message: Any) -> None:
        """To the console and to train.log; text or anything rich can draw."""
        # Paths and commands in plain text must stay in one piece to be copied.
        whole_lines = isinstance(message, str)
        self.console.print(message, soft_wrap=whole_lines, markup=not whole_lines)
        with named_errors(self._log_path):
            self._file_console.print(message, soft_wrap=whole_lines, markup=not whole_lines)
            self._log.flush()

    def record(self, kind: str, step: int, figures: dict[str, Any]) -> None:
        """One line of metrics.jsonl, and every number of it as a TensorBoard scalar ``kind/name``."""
        line = {"kind": kind, "step": step} | figures
        with named_errors(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in figures.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def start_progress(self, step: int, total: int) -> None:
        """Shows the bar on a terminal; elsewhere the lines of ``report_step`` take its place."""
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, completed=step)
        self._progress.start()

    def report_step(self, step: int, loss: float, learning_rate: float, images_per_second: float, log: bool) -> None:
        """Updates the bar; with ``log`` also writes the line to train.log, and to a console that is no terminal."""
        assert self._progress is not None and self._task is not None
        text = f"loss {loss:.4f}  lr {learning_rate:.2e}  {images_per_second:.1f} images/s"
        self._progress.update(self._task, completed=step, description=text)
        if log:
            total = self._progress.tasks[0].total or 0
            line = f"{time.strftime('%H:%M:%S')} step {step}/{total:.0f}  {text}"
            with named_errors(self._log_path):
                self._file_console.print(line, highlight=False)
                self._log.flush()
            if not self.console.is_terminal:
                self.console.print(line, highlight=False)

    def flush(self) -> None:
        """Returns when metrics.jsonl would outlive a loss of power: a checkpoint is of no later step than its lines."""
        flush_to_disk(self._metrics)

    def close(self) -> None:
        """Ends the bar and closes the files; can be called twice."""
        if self._progress is not None:
            self._progress.stop()
        self._tensorboard.close()
        self._log.close()


def _drop_after(metrics: Path, last_steps: dict[str, int]) -> None:
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []:
        try:
            record = json.loads(line)
            if record["step"] <= last_steps[record["kind"]]:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            continue  # the line a kill cut short
    replace_text(metrics, "".join(line + "\n" for line in kept))
