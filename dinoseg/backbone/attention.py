"""Attention of a frozen backbone in bfloat16 on a CPU, by blocks of rows.

PyTorch's fused attention keeps its scores in float32 there, and spends most of a forward pass on them where patches are
thousands. Two plain products and a softmax between, over as many rows as the processor's cache holds, are about twice
as fast. Scores are then rounded to bfloat16, as all else of such a pass is.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Scores of a block, 2 MiB in bfloat16, and rows below which products are too thin to be quick.
_BLOCK_SCORES = 2**20
_LEAST_ROWS = 48


def quick_attention(image: Tensor) -> AbstractContextManager[Any]:
    """Within, attention is computed by blocks wherever that is quicker: on a CPU, in bfloat16, without gradients."""
    if image.device.type != "cpu" or torch.is_grad_enabled() or not torch.is_autocast_enabled("cpu"):
        return nullcontext()
    return _ByBlocks() if torch.get_autocast_dtype("cpu") == torch.bfloat16 else nullcontext()


class _ByBlocks(TorchFunctionMode):
    """Answers calls of PyTorch's attention; timm's models of every kind make those."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _is_plain(args, kwargs):
            return attention_by_blocks(*args[:3])
        return func(*args, **kwargs)


def _is_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call gives queries, keys and values in bfloat16 and nothing that changes what is asked for."""
    if len(args) != 3 or any(not isinstance(value, Tensor) or value.dtype != torch.bfloat16 for value in args):
        return False
    defaults = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None, "enable_gqa": False}
    return all(name in defaults and value == defaults[name] for name, value in kwargs.items())


def attention_by_blocks(
    queries: Float[Tensor, "batch heads rows channels"],
    keys: Float[Tensor, "batch heads columns channels"],
    values: Float[Tensor, "batch heads columns channels"],
    block_scores: int = _BLOCK_SCORES,
    least_rows: int = _LEAST_ROWS,
) -> Float[Tensor, "batch heads rows channels"]:
    """softmax(queries keys^T / sqrt(channels)) values, ``block_scores`` scores at a time, of ``least_rows`` rows at
    least."""
    batch, heads, rows, channels = queries.shape
    across, values = keys.transpose(-1, -2).contiguous(), values.contiguous()
    queries = queries * channels**-0.5
    step = max(least_rows, block_scores // (batch * heads * keys.shape[2]))
    blocks = [
        torch.softmax(queries[:, :, start : start + step] @ across, dim=-1) @ values for start in range(0, rows, step)
    ]
    return torch.cat(blocks, dim=2)
