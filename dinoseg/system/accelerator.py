"""Accelerate's view of the device and of the processes of this launch."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from dinoseg.system.processes import process_count


def start_accelerator(device: torch.device) -> Accelerator:
    """An accelerator for the processes of this launch, on this kind of device.

    Accelerate keeps to the device that it was first started for. A program of one process may go on with another one,
    for instance train on a GPU and evaluate on the CPU.
    """
    if process_count() == 1 and AcceleratorState._shared_state and AcceleratorState().device.type != device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device.type == "cpu")
