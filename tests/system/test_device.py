"""Devices that are not there, and launches that training does not support, are one message."""

import pytest
import torch
from accelerate.utils import DistributedType

from dinoseg.system.device import pick_device, refuse_sharded_weights


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda if name == "cuda" else torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device={name}: PyTorch finds no such device.*set device=auto or device=cpu"):
        pick_device(name)


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_weights_split_over_processes_are_refused(kind: DistributedType) -> None:
    with pytest.raises(ValueError, match=f"launched with {kind.name}.*model.mode=lora or freeze"):
        refuse_sharded_weights(kind.name)
    for fine in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        refuse_sharded_weights(fine.name)
