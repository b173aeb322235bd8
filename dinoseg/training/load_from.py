"""``load_from``: a training that starts from the head of another run, or of a state dict saved by DINOv3's code."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dinoseg.models.dinov3_state import load_dinov3_state
from dinoseg.models.linear_head import LinearHead
from dinoseg.models.segmenter import Segmenter
from dinoseg.training.checkpoint import MODEL_FILE, find_checkpoint


def load_head(segmenter: Segmenter, source: Path) -> str:
    """Loads the head from a run folder (its best checkpoint) or a state dict file; returns what was done, in words.

    The class layer is initialised anew when the source scores another number of classes; the rest must fit.

    Raises:
        ValueError: nothing there, a damaged file, or a head of other sizes.
    """
    if source.is_dir():
        folder = find_checkpoint(source / "checkpoints" / "best")
        state = _read(folder / MODEL_FILE)
        own = {name.removeprefix("head."): tensor for name, tensor in state.items() if name.startswith("head.")}
        return f"load_from={source}: {_load_own(segmenter.head, own, source)}"
    state = _read(source)
    if isinstance(segmenter.head, LinearHead):
        # DINOv3's linear training saves the head as the second part of its model.
        own = {
            name.split("segmentation_model.1.")[1]: v for name, v in state.items() if "segmentation_model.1." in name
        }
        own.pop("batchnorm_layer.num_batches_tracked", None)
        return f"load_from={source}: {_load_own(segmenter.head, own, source)}"
    return f"load_from={source}: {load_dinov3_state(segmenter.head, state)}"


def _load_own(head: nn.Module, state: dict[str, Tensor], source: Path) -> str:
    ours = head.state_dict()
    class_layer = "conv" if isinstance(head, LinearHead) else "predictor.class_embed"
    renewed = [name for name in state if name.startswith(f"{class_layer}.") and state[name].shape != ours[name].shape]
    kept = {name: tensor for name, tensor in state.items() if name not in renewed}
    unknown = [name for name in kept if name not in ours or ours[name].shape != kept[name].shape]
    missing = [name for name in ours if name not in state and not name.endswith("num_batches_tracked")]
    if unknown or missing:
        raise ValueError(
            f"load_from={source}: the head there does not fit: missing {missing[:3]}, not fitting {unknown[:3]}; "
            "give the same decoder_head options and backbone as it was trained with"
        )
    head.load_state_dict(kept, strict=False)
    text = f"{len(kept)} tensors of the head loaded"
    if renewed:
        classes = state[f"{class_layer}.bias"].shape[0], ours[f"{class_layer}.bias"].shape[0]
        text += f"; its class layer has {classes[0]} outputs there and {classes[1]} here, so it STARTS ANEW"
    return text


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"load_from={file}: no such file; give a run folder or a state dict") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"load_from={file}: cannot be read ({error})") from None
    except Exception as error:  # torch raises many types for a damaged file, or one that holds code
        reason = str(error).splitlines()[0]
        raise ValueError(f"load_from={file}: not a plain state dict, and code in it is not run ({reason})") from None
    while isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        loaded = loaded["model"]
    tensors = (
        {name: value for name, value in loaded.items() if isinstance(value, Tensor)} if isinstance(loaded, dict) else {}
    )
    if not tensors:
        raise ValueError(f"load_from={file}: holds no tensors; give a run folder or a state dict")
    return tensors
