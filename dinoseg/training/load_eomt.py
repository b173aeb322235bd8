"""A whole EoMT from a state dict: its head, and the backbone whose last blocks are part of it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dinoseg.backbone import Backbone
from dinoseg.backbone.dialects import State
from dinoseg.backbone.eomt_dialect import are_differences, split_eomt
from dinoseg.backbone.weights import fitted_state
from dinoseg.models.segmenter import Segmenter
from dinoseg.system.messages import list_names
from dinoseg.system.state_dicts import refuse_not_finite, show_name
from dinoseg.training.class_rows import ClassRows
from dinoseg.training.head_state import classes_in, load_head

_NAMES_SHOWN = 4
_REMEDY = "give a run folder, or a state dict of a whole EoMT, as its authors or transformers write it"


def load_eomt(segmenter: Segmenter, state: Mapping[str, Tensor], source: str, names: tuple[str, ...]) -> str:
    """Loads head and backbone; returns what was done, in words.

    The backbone's part may be weights, or differences from those that ``model.weights`` gave, which are added to them.

    Args:
        segmenter: with an eomt head; unchanged on error.
        source: names the file in messages, with the key it was given under.
        names: of our classes, which take theirs by position where there are as many.

    Raises:
        ValueError: no EoMT, or one of other sizes; a backbone that may not change, or differences from unknown weights.
    """
    parts = split_eomt(state)
    if parts is None:
        shown = list_names((show_name(name) for name in state), _NAMES_SHOWN)
        raise ValueError(f"{source}: holds no EoMT (network.q.weight, or query.weight), but {shown}; {_REMEDY}")
    refuse_not_finite(parts.head, source, _REMEDY)
    backbone = segmenter.backbone
    _refuse_other_patches(backbone, parts.patch_size, source)
    ours = backbone.plain_state()
    theirs, dialect = fitted_state(parts.backbone, ours, source, backbone.spec.name, remedy=_REMEDY, any_grid=True)
    added = are_differences(theirs, ours)
    if added:
        _refuse_random_base(backbone, source)
        theirs = {name: ours[name] + tensor.to(ours[name]) for name, tensor in theirs.items()}
    _refuse_kept_backbone(backbone, ours, theirs, source)
    head = {f"network.{name}": tensor for name, tensor in parts.head.items()}
    text = load_head(segmenter.head, head, source, ClassRows(None, names, classes_in(segmenter.head, head)))
    if backbone.mode == "full":
        backbone.model.load_state_dict(theirs)
    how = "added to those of model.weights" if added else "loaded"
    return f"{text}; {len(theirs)} tensors of the backbone {how} ({dialect} dialect)"


def _refuse_other_patches(backbone: Backbone, found: int | None, source: str) -> None:
    if found not in (None, backbone.spec.patch_size):
        raise ValueError(
            f"{source}: its patches have {found} pixels, those of {backbone.spec.name} {backbone.spec.patch_size} "
            f"here; give model.patch_size={found}, or the backbone of the file as model.dino_hub"
        )


def _refuse_random_base(backbone: Backbone, source: str) -> None:
    if backbone.weights_report is None:
        raise ValueError(
            f"{source}: its backbone holds differences from published weights, and model.weights=none has none to add "
            f"them to; give the weights of {backbone.spec.name} as model.weights"
        )


def _refuse_kept_backbone(backbone: Backbone, ours: State, theirs: State, source: str) -> None:
    """What is not trained comes from ``model.weights`` again wherever the run is used: it cannot come from here."""
    if backbone.mode == "full" or all(torch.equal(ours[name], theirs[name].to(ours[name])) for name in theirs):
        return
    raise ValueError(
        f"{source}: its backbone differs from that of model.weights, which model.mode={backbone.mode} keeps; set "
        "model.mode=full, or give a file of a whole EoMT as model.weights, too"
    )
