"""What a recipe depends on: of the machine."""

import os
import time
from dataclasses import dataclass

import torch

from dinoseg.backbone import Backbone
from dinoseg.system.device import DTYPES
from dinoseg.system.processes import available_cores

# Side of the blank image that is timed, in pixels, before it is rounded to patches.
_SIDE = 448
# Attention grows with the square of the patches: a large image takes more a pixel than the one that is timed.
LARGE_IMAGE_FACTOR = 1.3


@dataclass(frozen=True)
class Machine:
    """Where a training is going to run.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        cores, threads: of the CPU that this process may use, and that PyTorch uses.
        memory: of the device, in GB; 0 where it is not known.
        patch: side of the backbone's patches, in pixels; ``channels`` of its last layer.
        seconds_per_megapixel: of the backbone's forward pass, by ``model_dtype``.
    """

    device: str
    cores: int
    threads: int
    memory: float
    patch: int
    channels: int
    seconds_per_megapixel: dict[str, float]

    @property
    def quickest_dtype(self) -> str:
        """Of ``model_dtype``."""
        return min(self.seconds_per_megapixel, key=lambda name: self.seconds_per_megapixel[name])

    def feature_seconds(self, size: tuple[int, int], scale: float, dtype: str) -> float:
        """What the features of an image of this height and width take, told from those of a small one."""
        pace = self.seconds_per_megapixel.get(dtype, max(self.seconds_per_megapixel.values()))
        return size[0] * size[1] * scale**2 / 1e6 * pace * LARGE_IMAGE_FACTOR


def measure_machine(backbone: Backbone, device: torch.device) -> Machine:
    """Times the backbone's forward pass on a small blank image, in every precision, twice; takes a second or less."""
    backbone = backbone.to(device).eval()
    patch = backbone.spec.patch_size
    side = max(patch, round(_SIDE / patch) * patch)
    image = torch.zeros(1, backbone.bands, side, side, device=device)
    paces = {}
    for name, dtype in DTYPES.items():
        seconds = min(_forward_seconds(backbone, image, dtype) for _ in range(2))
        paces[name] = seconds / (side * side / 1e6)
    return Machine(
        device=device.type,
        cores=available_cores(),
        threads=torch.get_num_threads(),
        memory=round(_memory(device) / 1e9, 1),
        patch=patch,
        channels=backbone.out_channels[-1],
        seconds_per_megapixel=paces,
    )


def _forward_seconds(backbone: Backbone, image: torch.Tensor, dtype: torch.dtype | None) -> float:
    started = time.perf_counter()
    with torch.no_grad(), torch.autocast(image.device.type, dtype, enabled=dtype is not None):
        # Waits for the device, too.
        backbone.forward_fitted(image)[-1].map.float().sum().item()
    return time.perf_counter() - started


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return 0.0
