"""Ctrl-C and SIGTERM: finish the running step, save, and say how to go on."""

import signal
from types import FrameType, TracebackType
from typing import Any


def ignore_signals(worker: int) -> None:
    """For data loading processes: a signal to the whole group (Ctrl-C, a scheduler) is the training process's affair.

    Workers that died of it would take the running step, and the checkpoint, with them. They end with their parent.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class Interruption:
    """Within the context a first signal sets ``requested``; a second Ctrl-C interrupts at once, as Python does."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
