"""The warning that a training waits for its data, and the memory it reports."""

import pytest
import torch

from dinoseg.training import data_watch
from dinoseg.training.data_watch import DataWatch, gpu_memory


def test_waiting_is_said_once_after_fifty_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_watch, "available_cores", lambda: 16)
    waiting = DataWatch(num_workers=2)
    said = [waiting.observe(0.5) for _ in range(200)]
    assert [step for step, text in enumerate(said, start=1) if text] == [50]
    assert said[49] == (
        "warning: the data loader is the bottleneck: 50% of the last 50 steps was spent waiting for images. "
        "Raise num_workers (2 now, 16 CPU cores here). Images much larger than the crop cost most: store them smaller, "
        "or as tiles, and on a disk of this machine"
    )


def test_a_slow_start_is_no_bottleneck() -> None:
    waiting = DataWatch(num_workers=0)
    assert not any(waiting.observe(share) for share in [1.0] * 5 + [0.2] * 100)


def test_only_the_last_steps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_watch, "available_cores", lambda: 4)
    waiting = DataWatch(num_workers=4)
    said = [waiting.observe(share) for share in [0.0] * 100 + [1.0] * 50]
    # 16 of 50 steps that waited are the first share above 30 %.
    assert [step for step, text in enumerate(said) if text] == [115]
    assert "32% of the last 50 steps" in said[115] and "num_workers=4 keeps all 4 CPU cores busy already." in said[115]


def test_no_gpu_memory_without_a_gpu() -> None:
    assert gpu_memory(torch.device("cpu")) == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpu_memory_is_the_peak_so_far() -> None:
    device = torch.device("cuda", 0)
    before = gpu_memory(device)["gpu_memory_gb"]
    held = torch.empty(int(before * 1e9) + 200_000_000, dtype=torch.uint8, device=device)
    peak = gpu_memory(device)["gpu_memory_gb"]
    assert peak >= before + 0.2
    del held
    assert gpu_memory(device)["gpu_memory_gb"] == peak
