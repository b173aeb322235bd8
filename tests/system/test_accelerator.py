"""One process may use one device after another."""

import pytest
import torch

from dinoseg.system.accelerator import start_accelerator


def test_the_same_device_twice() -> None:
    for _ in range(2):
        assert start_accelerator(torch.device("cpu")).device == torch.device("cpu")


@pytest.mark.gpu
def test_one_device_after_another() -> None:
    for name in ("cuda", "cpu", "cuda", "cpu"):
        assert start_accelerator(torch.device(name)).device.type == name
