"""Ctrl-C and SIGTERM: finish the running step, save, and say how to go on."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Within the context a first signal sets ``requested``; a second Ctrl-C interrupts at once, as Python does."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            # Python lets the main thread alone take signals.
            return self
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
        if number == signal.SIGINT and os.environ.get("RANK", "0") == "0":
            # Past Python's buffers, in which the signal may have met another line half written.
            os.write(2, b"\nstopping after the running step, to save; Ctrl-C again quits at once, without saving\n")
        self.requested = True
