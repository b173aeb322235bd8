"""How masked attention is taken back in the course of a training (Kerssies et al. 2025, EoMT, section 3.3)."""

from collections.abc import Sequence

# Of the polynomial by which the share of queries whose mask counts falls.
_POWER = 0.9


def annealed_shares(progress: float, spans: Sequence[tuple[float, float]]) -> list[float]:
    """The share of queries whose mask counts in each block, after ``progress`` (0 to 1) of a training.

    From 1 to 0, as ``(1 - x) ** 0.9`` of the block's own span.

    Args:
        spans: begin and length of each block's annealing, as shares of the training.
    """
    return [(1 - min(1.0, max(0.0, (progress - first) / length))) ** _POWER for first, length in spans]
