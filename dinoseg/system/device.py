"""Device, precision, and what a launcher asks for beside them."""

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


def refuse_sharded_weights(launch: str) -> None:
    """Checkpoints and the optimiser take every weight whole, in each process; a launch that splits weights is refused.

    Args:
        launch: name of accelerate's ``DistributedType``.

    Raises:
        ValueError: the launch asks for FSDP, DeepSpeed or the like.
    """
    if launch in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise ValueError(
            f"launched with {launch}: checkpoints here need whole weights in each process; launch without it, and "
            "where a backbone does not fit one GPU take model.mode=lora or freeze, or a smaller model.dino_hub"
        )
