"""A head's own state dict, loaded into a head with the same options and perhaps other classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dinoseg.models.head import Head
from dinoseg.system.state_dicts import show_name
from dinoseg.training.class_rows import ClassRows, fits


def load_head(head: Head[Any], state: Mapping[str, Tensor], source: str, classes: ClassRows) -> str:
    """Loads a state dict under the head's own names; returns what was done, in words.

    Args:
        head: unchanged on error.
        source: names the file in messages, with the key it was given under.
        classes: which of its classes become which.

    Raises:
        ValueError: a head of other sizes.
    """
    ours = head.state_dict()
    extra = rows_after_classes(head)
    class_tensors = [f"{layer}.{part}" for layer in head.class_layers for part in ("weight", "bias")]
    unfit = [
        name
        for name, tensor in state.items()
        if name not in ours
        or (not fits(ours[name], tensor, extra) if name in class_tensors else ours[name].shape != tensor.shape)
        or tensor.is_floating_point() != ours[name].is_floating_point()
        or (name in class_tensors and len(tensor) != classes.their_count + extra)
    ]
    missing = [name for name in ours if name not in state and not name.endswith("num_batches_tracked")]
    if unfit or missing:
        shown = [f"{show_name(name)} {list(state[name].shape)}" for name in unfit[:3]]
        raise ValueError(
            f"{source}: the head there does not fit: missing {missing[:3]}, not fitting {shown}; "
            "give the same decoder_head options and backbone as it was trained with"
        )
    carried = {name: classes.carry_over(ours[name], state[name]) for name in class_tensors}
    head.load_state_dict({**state, **carried}, strict=False)
    return f"{len(state)} tensors of the head loaded; {classes}"


def classes_in(head: Head[Any], state: Mapping[str, Tensor]) -> int:
    """How many classes a state dict of such a head has."""
    bias = state.get(f"{head.class_layers[-1]}.bias")
    return 0 if bias is None or bias.ndim == 0 else len(bias) - rows_after_classes(head)


def rows_after_classes(head: Head[Any]) -> int:
    """Masks have a row more: "no object"."""
    return 1 if head.predicts == "masks" else 0
