"""Checkpoints: written whole or not at all, read without running code from the file.

A checkpoint is a folder: ``model.safetensors`` (trained weights and BatchNorm statistics; the frozen backbone by name
and hash, in the file's metadata) and ``trainer.pt`` (optimiser state, step, best metric).
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinoseg.models.segmenter import Segmenter

MODEL_FILE = "model.safetensors"
TRAINER_FILE = "trainer.pt"


def model_state(segmenter: Segmenter, whole: bool) -> dict[str, Tensor]:
    """What a checkpoint holds: everything when ``whole``, else all but the frozen part of the backbone."""
    trained = {f"backbone.{name}" for name, value in segmenter.backbone.named_parameters() if value.requires_grad}
    return {
        name: value.detach().cpu().contiguous()
        for name, value in segmenter.state_dict().items()
        if whole or not name.startswith("backbone.") or name in trained
    }


def write_checkpoint(
    folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str], trainer: dict[str, Any]
) -> None:
    """Writes the checkpoint beside ``folder`` and swaps it in by renaming; an older one stays until then."""
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(tensors, temporary / MODEL_FILE, metadata=metadata)
    torch.save(trainer, temporary / TRAINER_FILE)
    for file in temporary.iterdir():
        _flush(file)
    _flush(temporary)
    previous = _previous(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    temporary.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def find_checkpoint(folder: Path) -> Path:
    """The folder itself, or the previous version of it when a save was interrupted between its two renames.

    Raises:
        ValueError: there is neither.
    """
    for candidate in (folder, _previous(folder)):
        if (candidate / MODEL_FILE).is_file():
            return candidate
    raise ValueError(f"{folder}: no checkpoint there; train first, or name another with --checkpoint last|best")


def read_metadata(folder: Path) -> dict[str, str]:
    """The metadata of the weights file: backbone name, its hash, format.

    Raises:
        ValueError: the file is damaged.
    """
    file = folder / MODEL_FILE
    try:
        with safe_open(file, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: damaged or not a safetensors file ({error}); use another checkpoint") from None


def load_weights(folder: Path, segmenter: Segmenter) -> None:
    """Loads ``model.safetensors`` into the segmenter.

    Raises:
        ValueError: the file is damaged, or holds other tensors than this segmenter trains.
    """
    file = folder / MODEL_FILE
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: damaged or not a safetensors file ({error}); use another checkpoint") from None
    try:
        result = segmenter.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{file}: does not fit the run's config: {error}") from None
    missing = [name for name in result.missing_keys if name in model_state(segmenter, whole=False)]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{file}: does not fit the run's config: missing {missing[:3]}, unexpected {result.unexpected_keys[:3]}"
        )


def read_trainer(folder: Path) -> dict[str, Any]:
    """Optimiser state, step and best metric; tensors and plain values only (``weights_only``).

    Raises:
        ValueError: the file is missing, damaged, or holds anything else.
    """
    file = folder / TRAINER_FILE
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise ValueError(
            f"{file}: cannot be read ({str(error).splitlines()[0]}); start again without --resume"
        ) from None


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
