"""What libraries do with the exception that a signal raises."""

import atexit
import os
import signal
import sys
import threading
import time

from dinoseg.system import signals
from dinoseg.system.signals import Ended, ending_at_signals


def convert(number: int) -> None:
    """Makes an error of its own of it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ending_at_signals():
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except Ended:
            raise RuntimeError("an error of the library's own") from None


def swallow(number: int) -> None:
    """Goes on as if nothing had been."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals._PATIENCE_SECONDS = 0.2
    with ending_at_signals():
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except BaseException:
            pass
        time.sleep(30)


def at_work(number: int) -> None:
    """A thread that nobody waits for is still at work, and the interpreter's own end would be heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit.register(print, "the interpreter ends", file=sys.stderr)
    with ending_at_signals():
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        os.kill(os.getpid(), number)
        time.sleep(30)


def ignored() -> None:
    """Ctrl-C, where it was ignored before."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ending_at_signals():
        os.kill(os.getpid(), signal.SIGINT)
