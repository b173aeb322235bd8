"""The hash by which the weights of a head are known again, in whatever form a run lies."""

from collections.abc import Mapping

from torch import Tensor

from dinoseg.backbone import backbone_hash

# Counts of batches, which decide nothing, and which published heads lack.
_COUNTER = "num_batches_tracked"


def head_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over a head's tensors, under its own names; in half and in single precision the same for equal values.

    Backbone and file differ between a checkpoint, its export with merged adapters and what is pushed of it: this does
    not.
    """
    return backbone_hash({name: tensor.float() for name, tensor in state.items() if not name.endswith(_COUNTER)})
