"""State dicts of a whole Encoder-only Mask Transformer (Kerssies et al. 2025): its authors' and transformers'.

Both hold the backbone among the rest, of which the head's blocks are part.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dinoseg.backbone.dialects import State

_OWN, _OWN_BACKBONE = "network.", "network.encoder.backbone."
_OWN_HEAD = ("q.", "class_head.", "mask_head.", "upscale.", "attn_mask_probs")
# Of DINOv3, which its authors take from transformers and rename in part; of DINOv2 they have timm's names.
_OWN_TO_TRANSFORMERS = ((r"^patch_embed\.(?!proj\.)", "embeddings."), (r"^blocks\.", "layer."))
_TRANSFORMERS_HEAD = (
    (r"^query\.", "q."),
    (r"^class_predictor\.", "class_head."),
    (r"^mask_head\.fc1\.", "mask_head.0."),
    (r"^mask_head\.fc2\.", "mask_head.2."),
    (r"^mask_head\.fc3\.", "mask_head.4."),
    (r"^upscale_block\.block\.(\d+)\.layernorm2d\.", r"upscale.\1.norm."),
    (r"^upscale_block\.block\.(\d+)\.", r"upscale.\1."),
    (r"^(attn_mask_probs)$", r"\1"),
)
_TRANSFORMERS_BACKBONE = ((r"^layers\.", "layer."), (r"\.attention\.out_proj\.", ".attention.o_proj."))
_POSITIONS = "embeddings.position_embeddings.weight"
# Of the first block's norms, which are near 1 or above in a trained model.
_SMALL = 0.25


@dataclass(frozen=True)
class EomtParts:
    """A state dict of a whole model, in two.

    Attributes:
        head: under its authors' names, without ``network.``.
        backbone: under the names of a backbone's own file, in transformers' dialect or timm's.
    """

    head: State
    backbone: State

    @property
    def patch_size(self) -> int | None:
        """Pixels a patch: of a ViT's tensors the patch embedding's kernel alone has four axes."""
        return next((tensor.shape[-1] for tensor in self.backbone.values() if tensor.ndim == 4), None)


def split_eomt(state: Mapping[str, Tensor]) -> EomtParts | None:
    """The two parts of a state dict of a whole EoMT; None where it is of something else."""
    if f"{_OWN}q.weight" in state and any(name.startswith(_OWN_BACKBONE) for name in state):
        return _split_own(state)
    if "query.weight" in state and "class_predictor.weight" in state:
        return _split_transformers(state)
    return None


def are_differences(state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> bool:
    """Whether tensors of a backbone are what is to be added to those of another, as published for DINOv3.

    Args:
        state, base: under timm's names.
    """
    names = [f"blocks.0.norm{number}.weight" for number in (1, 2)]
    if any(name not in state or name not in base for name in names):
        return False
    found, expected = (sum(float(tensors[name].float().abs().mean()) for name in names) for tensors in (state, base))
    return found < _SMALL * expected


def _split_own(state: Mapping[str, Tensor]) -> EomtParts:
    backbone = {
        name.removeprefix(_OWN_BACKBONE): tensor for name, tensor in state.items() if name.startswith(_OWN_BACKBONE)
    }
    if "patch_embed.proj.weight" not in backbone:
        backbone = {_renamed(name, _OWN_TO_TRANSFORMERS): tensor for name, tensor in backbone.items()}
    head = {name.removeprefix(_OWN): tensor for name, tensor in state.items() if name.startswith(_OWN)}
    return EomtParts({name: tensor for name, tensor in head.items() if name.startswith(_OWN_HEAD)}, backbone)


def _split_transformers(state: Mapping[str, Tensor]) -> EomtParts:
    head: State = {}
    backbone: State = {}
    for name, tensor in state.items():
        if any(re.match(pattern, name) for pattern, _ in _TRANSFORMERS_HEAD):
            head[_renamed(name, _TRANSFORMERS_HEAD)] = tensor
        elif not name.startswith("criterion."):
            backbone[_renamed(name, _TRANSFORMERS_BACKBONE)] = tensor
    if _POSITIONS in backbone:
        positions = backbone.pop(_POSITIONS)
        # The class token of an EoMT has no place; a DINOv2's has one, before those of the patches.
        backbone["embeddings.position_embeddings"] = torch.cat([torch.zeros_like(positions[:1]), positions])[None]
    return EomtParts(head, backbone)


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
