"""What became of each input of a prediction."""

from collections.abc import Iterable
from dataclasses import dataclass

from dinoseg.inference.files import InputImage


@dataclass(frozen=True)
class Outcome:
    """What became of one input: predicted, kept from before, or failed with an error.

    ``suffix`` is that of the label map; ``completed``: it was kept, and what was missing beside it was made.
    """

    image: InputImage
    kept: bool = False
    error: str | None = None
    suffix: str = ".png"
    completed: bool = False


@dataclass(frozen=True)
class PredictionSummary:
    """What happened to each input, by its path.

    Attributes:
        written: label maps, those kept from before included; paths under the output folder.
        failed: messages of the inputs without an output.
        kept: inputs whose label map was there already.
        completed: those of them of which something else was missing, and was made.
    """

    written: dict[str, str]
    failed: dict[str, str]
    kept: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()


def summarise(outcomes: Iterable[Outcome]) -> PredictionSummary:
    """The summary in the order of the outcomes."""
    written, failed, kept, completed = {}, {}, [], []
    for outcome in outcomes:
        path = str(outcome.image.path)
        if outcome.error is not None:
            failed[path] = outcome.error
            continue
        written[path] = f"labels/{outcome.image.name}{outcome.suffix}"
        if outcome.kept:
            kept.append(path)
        if outcome.completed:
            completed.append(path)
    return PredictionSummary(written, failed, tuple(kept), tuple(completed))
