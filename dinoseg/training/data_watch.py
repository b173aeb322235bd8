"""What a training says about the machine it runs on: GPU memory, and whether it waits for its data."""

from collections import deque

import torch

from dinoseg.system.processes import available_cores

_STEPS = 50
_TOLERATED_SHARE = 0.3


def gpu_memory(device: torch.device) -> dict[str, float]:
    """``gpu_memory_gb``: the most this process had allocated so far, in units of 10^9 bytes; nothing without CUDA."""
    return {"gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {}


class DataWatch:
    """Notices when the steps wait for their data, and says so once.

    Args:
        num_workers: data loading processes.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._shares: deque[float] = deque(maxlen=_STEPS)
        self._said = False

    def observe(self, wait_share: float) -> str:
        """Takes the share (0..1) of a step that was spent waiting for data; returns the warning, or an empty text."""
        self._shares.append(wait_share)
        mean = sum(self._shares) / len(self._shares)
        if self._said or len(self._shares) < _STEPS or mean <= _TOLERATED_SHARE:
            return ""
        self._said = True
        workers = _workers_advice(self._num_workers, available_cores())
        return (
            f"warning: the data loader is the bottleneck: {mean:.0%} of the last {_STEPS} steps was spent waiting for "
            f"images. {workers} Images much larger than the crop cost most: store them smaller, or as tiles, and on a "
            "disk of this machine"
        )


def _workers_advice(workers: int, cores: int) -> str:
    if workers < cores:
        return f"Raise num_workers ({workers} now, {cores} CPU cores here)."
    return f"num_workers={workers} keeps all {cores} CPU cores busy already."
