"""How PyTorch's threads on a CPU wait for each other."""

import os

# Rounds of a loop, some ten microseconds. OpenMP's own choice is thirty times as many, in which a thread that waits for
# one whose core is taken keeps the other core busy, too.
_ROUNDS = "10000"


def wait_briefly() -> None:
    """Lets threads of GNU's OpenMP sleep soon where they wait. To be called before PyTorch is imported.

    A step takes as long as before on a machine that does nothing else, and less than half beside other work. Whoever
    has set how threads wait (``GOMP_SPINCOUNT``, ``OMP_WAIT_POLICY``) keeps that.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _ROUNDS)
