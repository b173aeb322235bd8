"""Which layers of a backbone are tapped: by the name of a set, or by index."""

import itertools
from collections.abc import Sequence

LAYER_SETS = ("LAST", "FOUR_LAST", "FOUR_EVEN_INTERVALS", "FOUR_QUARTERS")


def layer_indices(layers: str | Sequence[int], depth: int) -> tuple[int, ...]:
    """Indices of the tapped layers of a backbone with ``depth`` layers.

    ``layers`` is one of ``LAYER_SETS``, or a strictly increasing list of indices from 0. FOUR_QUARTERS are the ends of
    the four quarters, and so are FOUR_EVEN_INTERVALS, but for 4, 11, 17, 23 of depth 24, as in the DINOv3 configs.

    Raises:
        ValueError: unknown set, or indices out of range or out of order.
    """
    if isinstance(layers, str):
        name = layers.upper()
        if name not in LAYER_SETS:
            raise ValueError(
                f"decoder_head.backbone_out_layers: {layers!r} is not one of {', '.join(LAYER_SETS)}, "
                "nor a list of indices"
            )
        if name == "LAST":
            return (depth - 1,)
        if depth < 4:
            raise ValueError(f"decoder_head.backbone_out_layers: {name} needs 4 layers, the backbone has {depth}")
        if name == "FOUR_LAST":
            return tuple(range(depth - 4, depth))
        if name == "FOUR_EVEN_INTERVALS" and depth == 24:
            return (4, 11, 17, 23)
        return tuple(quarter * depth // 4 - 1 for quarter in range(1, 5))
    indices = tuple(layers)
    increasing = all(first < second for first, second in itertools.pairwise(indices))
    if not indices or not increasing or indices[0] < 0 or indices[-1] >= depth:
        raise ValueError(
            f"decoder_head.backbone_out_layers: {list(indices)} must be increasing indices between 0 and {depth - 1}"
        )
    return indices
