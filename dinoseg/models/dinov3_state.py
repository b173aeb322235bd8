"""State dicts of DINOv3's segmentation models: ``segmentation_model.0.*`` adapter, ``segmentation_model.1.*`` head."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dinoseg.models.mask2former_head import Mask2FormerHead

_WRAPPERS = ("module.", "segmentation_model.")
_ADAPTER, _HEAD = "segmentation_model.0.", "segmentation_model.1."
_BACKBONE = "adapter.backbone."
_CLASS_LAYER = ("predictor.class_embed.weight", "predictor.class_embed.bias")


@dataclass(frozen=True)
class HeadReport:
    """What was done with the entries of a state dict.

    Attributes:
        loaded: entries that the head took over.
        ignored: entries of the backbone, which has its own weights.
        reinitialised: names of the head's entries that do not come from the state dict.
        classes_in_state: number of classes that the state dict's class layer scores, without "no object".
        classes_in_head: likewise for the head.
    """

    loaded: int
    ignored: int
    reinitialised: tuple[str, ...]
    classes_in_state: int
    classes_in_head: int

    def __str__(self) -> str:
        text = f"head: {self.loaded} tensors loaded"
        if self.reinitialised:
            text += (
                f"; the class layer starts anew ({self.classes_in_state} classes in the file, "
                f"{self.classes_in_head} in the model)"
            )
        return text + (f"; {self.ignored} tensors of a backbone ignored" if self.ignored else "")


def load_dinov3_state(head: Mask2FormerHead, state: Mapping[str, Tensor]) -> HeadReport:
    """Loads a state dict in DINOv3's layout into adapter and head, whatever its floating type.

    Prefixes ``module.`` and ``segmentation_model.`` are optional; entries of a backbone are ignored. With another
    number of classes the class layer is initialised anew, and the rest is kept. The head is unchanged on error.

    Raises:
        ValueError: anything else is missing, left over or of another shape.
    """
    theirs, ignored = _own_names(state)
    ours = head.state_dict()
    classes = [_class_count(entries) for entries in (theirs, ours)]
    renewed: tuple[str, ...] = ()
    if classes[0] != classes[1] and all(_same_but_rows(theirs, ours, name) for name in _CLASS_LAYER):
        renewed = _CLASS_LAYER
    _refuse_mismatch({name: tensor for name, tensor in theirs.items() if name not in renewed}, ours, renewed)
    if renewed:
        head.predictor.class_embed.reset_parameters()
    with torch.no_grad():
        for name, target in head.state_dict().items():
            if name not in renewed:
                target.copy_(theirs[name])
    return HeadReport(len(ours) - len(renewed), ignored, renewed, classes[0], classes[1])


def dinov3_state(head: Mask2FormerHead) -> dict[str, Tensor]:
    """The head's weights and running statistics under DINOv3's names; tensors share memory with the head."""
    return {
        _ADAPTER + name.removeprefix("adapter.") if name.startswith("adapter.") else _HEAD + name: tensor
        for name, tensor in head.state_dict().items()
    }


def _own_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """The entries under the head's names, without those of a backbone, and how many of these there were."""
    renamed = {}
    for name, tensor in state.items():
        while name.startswith(_WRAPPERS):
            name = name.split(".", 1)[1]
        if name.startswith("0."):
            name = "adapter." + name.removeprefix("0.")
        renamed[name.removeprefix("1.")] = tensor
    kept = {name: tensor for name, tensor in renamed.items() if not name.startswith(_BACKBONE)}
    return kept, len(renamed) - len(kept)


def _class_count(state: Mapping[str, Tensor]) -> int:
    weight = state.get(_CLASS_LAYER[0])
    return len(weight) - 1 if weight is not None and weight.ndim else 0


def _same_but_rows(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], name: str) -> bool:
    return name in theirs and theirs[name].ndim > 0 and theirs[name].shape[1:] == ours[name].shape[1:]


def _refuse_mismatch(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], renewed: tuple[str, ...]) -> None:
    problems = {
        "missing": [name for name in ours if name not in theirs and name not in renewed],
        "not of this head": [name for name in theirs if name not in ours],
        "of another shape": [
            f"{name} {list(tensor.shape)} in place of {list(ours[name].shape)}"
            for name, tensor in theirs.items()
            if name in ours and tensor.shape != ours[name].shape
        ],
        "of whole numbers in place of weights": [
            name
            for name, tensor in theirs.items()
            if name in ours and ours[name].is_floating_point() and not tensor.is_floating_point()
        ],
    }
    found = [f"{len(names)} {kind} (first: {', '.join(names[:3])})" for kind, names in problems.items() if names]
    if found:
        raise ValueError(
            f"the state dict does not fit the Mask2Former head: {'; '.join(found)}. Build the head with the sizes "
            "of the state dict (embedding width, hidden_dim, num_heads, layers, FFN widths, num_queries)"
        )
