"""How a run turns a picture into what its model takes."""

from dataclasses import dataclass

from dinoseg.data.transforms import EvalTransform


@dataclass(frozen=True)
class Reading:
    """What is white in 16 bits (None where the run saw none), and the normalisation."""

    white_level: int | None
    transform: EvalTransform
