"""Ctrl-C and SIGTERM wherever a command stands: one line, the exit code of the signal, no traceback."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# A library may swallow what the handler raises; it is then raised again, so long as the command goes on.
_PATIENCE_SECONDS = 3


class Ended(BaseException):
    """A signal asks the command to end. No KeyboardInterrupt: libraries have words of their own for that."""


class _Asked:
    """Which signal asked, if one did."""

    number: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            sys.unraisablehook = lambda unraisable: None
            if os.environ.get("RANK", "0") == "0":
                # Past Python's buffers, in which the signal may have met another line half written.
                os.write(2, f"\nstopped by {signal.Signals(number).name}\n".encode())
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS, _PATIENCE_SECONDS)
        if _within_an_import(frame):
            # An extension whose start is broken off may abort the process; nothing is written yet that could be lost.
            os._exit(128 + self.number)
        raise Ended


@contextmanager
def ending_at_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the process with 130 and 143 after its files are tidied up, and one line says so.

    For the outermost block of a command, in the main thread. SIGINT that was ignored (``nohup``) stays ignored.
    """
    asked = _Asked()
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    for number in (*numbers, signal.SIGALRM):
        signal.signal(number, asked.handle)
    try:
        yield
    except BaseException:
        if asked.number is None:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        # The interpreter's own end is no place for a handler.
        for number in (*numbers, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
    if asked.number is not None:
        _leave(128 + asked.number)


def _leave(code: int) -> None:
    """Ends the process; at once where threads are still at work that nobody waits for.

    One that comes back from native code while the interpreter ends would abort the process with words of its own.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            # Whoever read it may be gone.
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _within_an_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
