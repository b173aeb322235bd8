"""Device and precision."""

import torch

DTYPES: dict[str, torch.dtype | None] = {"FLOAT32": None, "BFLOAT16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """The device for ``auto | cpu | cuda | mps``; ``auto`` takes the fastest there is.

    Raises:
        ValueError: the device asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available.get(name, False):
        raise ValueError(f"device={name}: PyTorch finds no such device on this machine; set device=auto or device=cpu")
    return torch.device(name)
