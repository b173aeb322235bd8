"""The state dict of a Plain Mask Transformer as its authors publish it: its tensors, and the sizes they tell.

Names are ``network.bn.*`` and ``network.decoder.*``; what stands beside them, ``network.encoder.*`` say, is not read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dinoseg.backbone.catalogue import BackboneSpec, list_backbones
from dinoseg.models.pmt_head import PmtHead
from dinoseg.system.messages import list_names
from dinoseg.system.state_dicts import named_tensors, read_state, refuse_not_finite, show_name

PREFIX = "network."
# Of the FFNs to the width, in what is published.
FFN_RATIO = 4
_PARTS = ("bn.", "decoder.")
_NAMES_SHOWN = 4
_REMEDY = "give the file of a Plain Mask Transformer's decoder (network.decoder.*)"
_BLOCK = re.compile(r"decoder\.blocks\.(\d+)\.")
_DOUBLING = re.compile(r"decoder\.upscale\.(\d+)\.")
_CLASS_WEIGHT = "decoder.class_head.weight"
_QUERIES, _CLASSES, _FFN = "decoder.q.weight", "decoder.class_head.bias", "decoder.blocks.0.mlp.up_proj.bias"


@dataclass(frozen=True)
class PmtSizes:
    """What a decoder's tensors tell.

    Attributes:
        width: channels of its backbone.
        layers: of the backbone that it sees.
        queries, blocks, ffn_dim: of the decoder.
        doublings: how often it doubles the grid of patches.
        num_classes: without "no object".
    """

    width: int
    layers: int
    queries: int
    blocks: int
    ffn_dim: int
    doublings: int
    num_classes: int

    @staticmethod
    def of(state: Mapping[str, Tensor], source: str) -> "PmtSizes":
        """The sizes of a decoder's tensors, named as by ``decoder_tensors``.

        Raises:
            ValueError: tensors that tell them are missing, or of another form; names the first.
        """
        for name, axes in ((_QUERIES, 2), (_CLASSES, 1), (_FFN, 1)):
            if name not in state or state[name].ndim != axes or not state[name].numel():
                raise ValueError(f"{source}: not a whole decoder: {PREFIX}{name} is missing or no weight; {_REMEDY}")
        rows, weight = len(state[_CLASSES]), state.get(_CLASS_WEIGHT)
        if weight is not None and weight.shape != (rows, state[_QUERIES].shape[1]):
            raise ValueError(
                f"{source}: not a whole decoder: {PREFIX}{_CLASS_WEIGHT} is {tuple(weight.shape)}, where "
                f"{(rows, state[_QUERIES].shape[1])} is expected; {_REMEDY}"
            )
        return PmtSizes(
            width=state[_QUERIES].shape[1],
            layers=sum(name.startswith("bn.") and name.endswith(".weight") for name in state),
            queries=len(state[_QUERIES]),
            blocks=_count(_BLOCK, state),
            ffn_dim=len(state[_FFN]),
            doublings=_count(_DOUBLING, state),
            num_classes=rows - 1,
        )

    def settings(self) -> list[str]:
        """The ``key=value`` settings of a head of these sizes."""
        return [
            "decoder_head.type=pmt",
            f"decoder_head.num_queries={self.queries}",
            f"decoder_head.decoder_layers={self.blocks}",
            f"decoder_head.decoder_ffn_dim={self.ffn_dim}",
        ]

    def fitting_backbones(self) -> list[str]:
        """Names of the ViTs of its width."""
        return [known.name for known in list_backbones() if known.kind == "vit" and known.embed_dim == self.width]

    def refuse_other_backbone(self, spec: BackboneSpec, source: str) -> None:
        """Raises ValueError for a backbone of another width; names those that would fit."""
        if spec.embed_dim == self.width:
            return
        fitting = self.fitting_backbones()
        advice = f"model.dino_hub={fitting[0]}" if fitting else f"a ViT of {self.width} channels as model.dino_hub"
        more = f" (or {list_names(fitting[1:])})" if len(fitting) > 1 else ""
        raise ValueError(
            f"{source}: a decoder for a backbone of {self.width} channels, and model.dino_hub={spec.name} has "
            f"{spec.embed_dim}; give {advice}{more}, the one it was trained on"
        )


def _count(pattern: re.Pattern[str], names: Iterable[str]) -> int:
    return len({found[1] for name in names if (found := pattern.match(name))})


def read_decoder(file: Path, source: str) -> dict[str, Tensor]:
    """The decoder's tensors of a file, under the head's own names; code in the file is not run.

    Args:
        source: names the file in messages.

    Raises:
        ValueError: the file cannot be read, holds code, or no decoder.
    """
    state = named_tensors(read_state(file, source, _REMEDY), source, _REMEDY)
    tensors = decoder_tensors(state)
    if not tensors:
        shown = list_names((show_name(name) for name in state), _NAMES_SHOWN)
        raise ValueError(f"{source}: holds no decoder of a Plain Mask Transformer, but {shown}; {_REMEDY}")
    refuse_not_finite(tensors, source, _REMEDY)
    return tensors


def decoder_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's entries of a state dict, under the head's own names."""
    named = {name.split(PREFIX, 1)[1]: tensor for name, tensor in state.items() if PREFIX in name}
    return {name: tensor for name, tensor in named.items() if name.startswith(_PARTS)}


def load_decoder(head: PmtHead, state: Mapping[str, Tensor], source: str) -> None:
    """Loads the tensors into a head of the same sizes; half precision becomes single.

    Raises:
        ValueError: a tensor is missing, too many or of another form; the head is unchanged then.
    """
    ours = head.state_dict()
    unfit = [show_name(n) for n, t in state.items() if n not in ours or not _fits(ours[n], t)]
    missing = [name for name in ours if name not in state and not name.endswith("num_batches_tracked")]
    if unfit or missing:
        said = [f"missing {list_names(missing, _NAMES_SHOWN)}"] if missing else []
        said += [f"not fitting {list_names(unfit, _NAMES_SHOWN)}"] if unfit else []
        raise ValueError(
            f"{source}: the decoder does not fit a pmt head on this backbone: {', '.join(said)}; give the backbone it "
            "was trained on as model.dino_hub, with patches of the same size"
        )
    head.load_state_dict(dict(state), strict=False)


def _fits(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and ours.is_floating_point() == theirs.is_floating_point()
