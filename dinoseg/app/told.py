"""Work in a thread of its own, whose progress is told to whoever waits for it."""

from collections import deque
from collections.abc import Callable, Generator
from threading import Event, Thread
from typing import TypeVar

Said = TypeVar("Said")
Result = TypeVar("Result")
_SECONDS = 0.1


class Left(Exception):
    """Nobody waits for the work any more."""


def told(work: Callable[[Callable[[Said], None]], Result]) -> Generator[Said, None, Result]:
    """Runs ``work`` with a function that it calls on its way; yields what it said last, ten times a second at most.

    Whoever closes the generator ends the work where it speaks next.

    Returns:
        The result of the work.

    Raises:
        Exception: whatever the work raises.
    """
    latest: deque[Said] = deque(maxlen=1)
    left, results, errors = Event(), list[Result](), list[BaseException]()

    def tell(said: Said) -> None:
        if left.is_set():
            raise Left
        latest.append(said)

    def run() -> None:
        try:
            results.append(work(tell))
        except BaseException as error:  # raised again where the result is awaited
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_SECONDS)
            if latest:
                yield latest.pop()
    finally:
        left.set()
    if errors:
        raise errors[0]
    return results[0]
