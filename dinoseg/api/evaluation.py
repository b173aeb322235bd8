"""Evaluation from Python."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from dinoseg.api.settings import key_values
from dinoseg.data.items import OwnDataset
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.inference.opening import ChosenRun
from dinoseg.verbs.evaluate import evaluate_own_data, evaluate_run, evaluate_split


def evaluate(
    run: str | os.PathLike[str],
    split: str = "val",
    *,
    data: OwnDataset | None = None,
    checkpoint: str = "best",
    device: str = "auto",
    overrides: Mapping[str, Any] | Iterable[str] = (),
    write: bool = False,
    console: Console | None = None,
) -> Evaluation:
    """Evaluates a run at native size, as ``dinoseg eval`` does.

    Args:
        run: a run folder, or the ``Run`` that ``train`` returned.
        split: ``train``, ``val`` or ``test`` of the run's data.
        data: a data set of your own in place of a split; see ``OwnDataset``. It holds label ids of the run.
        checkpoint: ``best`` or ``last``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        overrides: changes of the run's config, e.g. ``{"datasets.root": "elsewhere", "eval.use_tta": True}``.
        write: writes ``eval/<split>/`` into the run folder, where ``dinoseg report`` and ``compare`` find it.
        console: shows a progress bar, and the table with ``write``; nothing is shown when left out.

    Returns:
        The figures: ``evaluation.metrics`` (percent), ``evaluation.matrix`` (pixels), ``evaluation.to_dict()`` (the
        contents of metrics.json).

    Raises:
        ValueError: not a run folder, no such split or checkpoint, a mask that is missing or holds a label id outside
            the label space.
    """
    chosen, shown = ChosenRun(run, checkpoint, device, tuple(key_values(overrides))), console or Console(quiet=True)
    if data is not None:
        if write:
            raise ValueError("write=True is for a split of the run's own data; leave it out with data")
        return evaluate_own_data(chosen, data, shown)
    return evaluate_run(chosen, split, shown) if write else evaluate_split(chosen, split, shown)
