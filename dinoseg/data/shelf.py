"""What was read of files last, kept for those who ask for another part of it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")

# What a process keeps of a data set.
MOST_BYTES = 512 * 2**20
# A file that is mapped into memory takes none for good, but one of the files that a process may hold open.
_MOST_THINGS = 64


class Shelf(Generic[T]):
    """Things by key: those asked for last, at most 64 and so many bytes, and always the very last.

    Each process has its own: a copy that is sent to another begins empty.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._refused: dict[Hashable, str] = {}
        self._lock = Lock()

    def get(self, key: Hashable, read: Callable[[], tuple[T, int]]) -> T:
        """What stands under a key; else what ``read`` gives, together with how many bytes of memory it takes.

        Raises:
            ValueError: ``read`` raised it; again whenever the key is asked for, without another try.
        """
        # One reads at a time: what several threads ask for is most often the same.
        with self._lock:
            if key in self._refused:
                raise ValueError(self._refused[key])
            if key not in self._kept:
                try:
                    self._kept[key] = read()
                except ValueError as error:
                    # A damaged volume is unpacked up to the damage once, not for each of its slices.
                    self._refused[key] = str(error)
                    raise
                while len(self._kept) > 1 and (self.held_bytes > self.most_bytes or len(self._kept) > _MOST_THINGS):
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key][0]

    @property
    def held_bytes(self) -> int:
        """The memory that all of it takes."""
        return sum(size for _, size in self._kept.values())

    def __getstate__(self) -> int:
        return self.most_bytes

    def __setstate__(self, state: int) -> None:
        Shelf.__init__(self, state)
