"""The patch embedding of a backbone for pictures of any number of bands, made of that for red, green and blue."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

BAND_WEIGHTS = ("mean", "copy", "zero")
_KNOWN = 3

Kernel = Float[Tensor, "channels bands rows columns"]


@dataclass(frozen=True)
class PictureBands:
    """What pictures a backbone takes.

    Attributes:
        count: bands.
        weights: how the patch embedding is made for other than three; see ``widened``.
        trained: whether it is trained whatever the mode of the backbone.
    """

    count: int = 3
    weights: str = "mean"
    trained: bool = False


RGB = PictureBands()


def embedding_name(model: nn.Module) -> str:
    """The name of the convolution that takes the picture: of a ViT's patches, or a ConvNeXt's stem."""
    return "patch_embed.proj" if hasattr(model, "patch_embed") else "stem.0"


def picture_bands(model: nn.Module) -> int:
    """How many bands a model takes."""
    embedding: Any = model.get_submodule(embedding_name(model))
    return int(embedding.weight.shape[1])


def widen(model: nn.Module, bands: int, how: str) -> None:
    """Puts a patch embedding for so many bands in the place of the model's, which takes three.

    With ``mean``, a picture whose bands are all alike gives what it would as grey. With the others it need not: red,
    green and blue weigh as many bands as were made of each.

    Args:
        how: of ``BAND_WEIGHTS``; see ``widened``.
    """
    name = embedding_name(model)
    before: Any = model.get_submodule(name)
    options = {key: getattr(before, key) for key in ("kernel_size", "stride", "padding", "dilation")}
    after = nn.Conv2d(bands, before.out_channels, bias=before.bias is not None, **options)
    with torch.no_grad():
        after.weight.copy_(widened(before.weight, bands, how))
        if after.bias is not None:
            after.bias.copy_(before.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, after)


def widened(kernel: Float[Tensor, "channels 3 rows columns"], bands: int, how: str) -> Kernel:
    """A kernel for other bands.

    Args:
        kernel: for red, green and blue.
        how: ``mean``: every band gets the mean of the three; ``copy``: that of the three which lies nearest by
            position; both times 3 / bands, so that sums keep their size. ``zero``: the first three keep theirs, the
            others begin at zero.

    Raises:
        ValueError: another word.
    """
    if how not in BAND_WEIGHTS:
        raise ValueError(f"model.band_weights={how}: choose one of {', '.join(BAND_WEIGHTS)}")
    if how == "zero":
        found = torch.zeros(len(kernel), bands, *kernel.shape[2:])
        found[:, : min(bands, _KNOWN)] = kernel[:, : min(bands, _KNOWN)]
        return found
    if how == "mean":
        return kernel.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1) * (_KNOWN / bands)
    nearest = torch.linspace(0, _KNOWN - 1, bands).round().long() if bands > 1 else torch.tensor([_KNOWN // 2])
    return kernel[:, nearest] * (_KNOWN / bands)
