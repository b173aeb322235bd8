"""Measuring in benchmarks: interleaved repeats, medians, and one JSON line a figure."""

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each function; they take turns, so that a noisy moment hits all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()  # the first call pays for allocations
    for _ in range(repeats):
        for name, function in functions.items():
            _synchronise()
            started = time.perf_counter()
            function()
            _synchronise()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(figure: str, value: float, unit: str, **facts: object) -> None:
    """One JSON line: the figure, what it was measured with, and the machine."""
    print(json.dumps({"figure": figure, "value": round(value, 4), "unit": unit, **facts, **machine()}), flush=True)


def machine() -> dict[str, object]:
    """What a figure was measured on."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "cores": os.cpu_count(),
    }


def peak_kilobytes() -> int:
    """The process's own high-water mark; ``ru_maxrss`` would start at the size of the process that started this one."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
