"""Data loading in worker processes: signals and errors reach the user as they would without workers."""

import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

_GRACE_SECONDS = 20


def outlive_signals(worker: int) -> None:
    """For data loading processes: a signal to the whole group (Ctrl-C, a scheduler) is the main process's affair.

    Workers that died of it at once would take the running step, and the checkpoint, with them. After a SIGTERM they
    end a little later: Python sends one at its own exit, too, and waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_GRACE_SECONDS))


def samples_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """What the loader yields; an error of a worker without the worker's traceback.

    Raises:
        ValueError: a file cannot be read, or holds a label id outside the label space.
    """
    # At once, not at the first sample: starting the workers draws from the random state, which a step seeds.
    return _plain_errors(iter(loader))


def _plain_errors(iterator: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from iterator
        return
    except (ValueError, OSError) as error:
        # PyTorch wraps the message of a worker in its traceback; the last "...Error: " starts the message itself.
        message = str(error).rstrip().rsplit("Error: ", 1)[-1]
    # Only now nothing holds the iterator any more, and its workers end.
    del iterator
    raise ValueError(message)
