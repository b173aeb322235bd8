"""What a training run writes down: console, train.log, metrics.jsonl and trackers. Only the main process writes."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dinoseg.config import Config
from dinoseg.labels import LabelSpace
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.training_records import read_training_records
from dinoseg.system.bars import ProgressLines
from dinoseg.system.files import flush_to_disk, named_errors, replace_text
from dinoseg.system.messages import duration_in_words
from dinoseg.tracking.trackers import Trackers, config_values, run_texts
from dinoseg.training.pace import Estimate, Pace


class Journal:
    """Records of one run.

    Args:
        run: where the files go.
        console: what the user watches.
        config: names the trackers, and is shown by them, as is ``label_space``.
        resume_step: the step that a resumed training goes on from: training lines after it are dropped from
            metrics.jsonl; None starts the files anew.
        evaluated_step: of a resumed training's last finished evaluation: those after it are dropped, too.

    Attributes:
        estimate: the plan's, for the time left until it is measured; to be set before ``start_progress``.

    Raises:
        ValueError: a tracker cannot be started.
        OSError: the files cannot be written; ``filename`` is the one.
    """

    def __init__(
        self,
        run: RunFolder,
        console: Console,
        config: Config,
        label_space: LabelSpace,
        resume_step: int | None = None,
        evaluated_step: int | None = None,
    ) -> None:
        self.console = console
        self._metrics = run.metrics
        last_steps = {"train": resume_step or 0, "val": evaluated_step or 0}
        every = [] if resume_step is None else read_training_records(self._metrics)
        recorded = [line for line in every if line["kind"] in last_steps]
        kept = [line for line in recorded if line["step"] <= last_steps[line["kind"]]]
        replace_text(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))
        if resume_step is None:
            replace_text(run.log, "")
        self._log_path = run.log
        self._log = run.log.open("a", encoding="utf-8")
        self._file_console = Console(file=self._log, width=120)
        self._interval = config.eval.eval_interval
        self.estimate = Estimate()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._pace: Pace | None = None
        self._validated: ProgressLines | None = None
        # An evaluation right after the checkpoint may have been shown, and is done again: its step is shown anew.
        next_step = None if resume_step is None else resume_step + (evaluated_step == resume_step)
        self._trackers = Trackers(
            config.trackers,
            run.path,
            config_values(config),
            run_texts(config, label_space),
            self.say,
            next_step=next_step,
            shown={line["kind"]: line["step"] for line in recorded},
        )
        for line in kept:
            if next_step is not None and line["step"] >= next_step:
                self._show(line)

    def say(self, message: Any) -> None:
        """To the console and to train.log; text or anything rich can draw."""
        # Paths and commands in plain text must stay in one piece to be copied.
        whole_lines = isinstance(message, str)
        self.console.print(message, soft_wrap=whole_lines, markup=not whole_lines)
        self.note(message)

    def note(self, message: Any) -> None:
        """To train.log alone."""
        whole_lines = isinstance(message, str)
        with named_errors(self._log_path):
            self._file_console.print(message, soft_wrap=whole_lines, markup=not whole_lines)
            self._log.flush()

    def record(self, kind: str, step: int, figures: dict[str, Any]) -> None:
        """One line of metrics.jsonl, and every number of it to the trackers."""
        if kind == "val" and self._pace and self._progress and self._task is not None:
            self._pace.evaluation_done(step)
            self._progress.update(self._task, description="")
            self._validated = None
        line = {"kind": kind, "step": step} | figures
        with named_errors(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._show(line)

    def show_pictures(self, kind: str, step: int, pictures: Mapping[str, Path]) -> None:
        """Picture files by name, to the trackers."""
        self._trackers.show_pictures(kind, step, pictures)

    def start_progress(self, step: int, total: int) -> None:
        """Shows the bar on a terminal; elsewhere the lines of ``report_step`` take its place."""
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, completed=step, left="")
        self._progress.start()
        self._pace = Pace(self.estimate, step, total, self._interval)

    def report_step(self, step: int, loss: float, learning_rate: float, images_per_second: float, log: bool) -> None:
        """Updates the bar; with ``log`` also writes the line to train.log, and to a console that is no terminal."""
        assert self._progress is not None and self._task is not None and self._pace is not None
        self._pace.step_done(step)
        seconds = self._pace.seconds_left(step)
        left = "" if seconds is None else f"{duration_in_words(seconds)} left"
        text = f"loss {loss:.4f}  lr {learning_rate:.2e}  {images_per_second:.1f} images/s"
        self._progress.update(self._task, completed=step, description=text, left=left)
        if log:
            total = int(self._progress.tasks[0].total or 0)
            self._log_line(f"step {step}/{total}  {text}{'  ' if left else ''}{left}")
        if correction := self._pace.correction(step):
            self.say(correction)

    def report_image(self, images: int) -> None:
        """One more of so many images of a validation is done: in the bar, elsewhere by a line now and then."""
        assert self._progress is not None and self._task is not None and self._pace is not None
        if self._validated is None:
            self._validated = ProgressLines(self._log_line, images, "validation", started=self._pace.last)
        self._validated.advance()
        self._progress.update(self._task, description=f"validation {self._validated.done}/{images}")

    def _log_line(self, text: str) -> None:
        """With the time of day, to train.log and to a console that is no terminal."""
        line = f"{time.strftime('%H:%M:%S')} {text}"
        with named_errors(self._log_path):
            self._file_console.print(line, highlight=False, markup=False, soft_wrap=True)
            self._log.flush()
        if not self.console.is_terminal:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def flush(self) -> None:
        """Returns when metrics.jsonl would outlive a loss of power: a checkpoint is of no later step than its lines."""
        flush_to_disk(self._metrics)

    def close(self) -> None:
        """Ends the bar and closes the files; can be called twice."""
        if self._progress is not None:
            self._progress.stop()
        self._trackers.close()
        # What could not be written before is tried once more, and fails without a name.
        with named_errors(self._log_path):
            self._log.close()

    def _show(self, line: dict[str, Any]) -> None:
        figures = {name: value for name, value in line.items() if name not in ("kind", "step")}
        self._trackers.show_scalars(line["kind"], line["step"], figures)
