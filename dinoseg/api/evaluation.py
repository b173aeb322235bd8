"""Evaluation from Python."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from dinoseg.api.settings import key_values
from dinoseg.data.items import OwnDataset
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.inference.chosen_runs import Runs, choose_runs
from dinoseg.verbs.evaluate import evaluate_own_data
from dinoseg.verbs.evaluate_folds import count_chosen, evaluate_chosen


def evaluate(
    run: Runs,
    split: str = "val",
    *,
    data: OwnDataset | None = None,
    checkpoint: str = "best",
    device: str = "auto",
    overrides: Mapping[str, Any] | Iterable[str] = (),
    write: bool | str | os.PathLike[str] = False,
    console: Console | None = None,
) -> Evaluation:
    """Evaluates a run at native size, as ``dinoseg eval`` does; or several, whose probabilities are averaged.

    Args:
        run: a run folder, the ``Run`` that ``train`` returned, a folder that ``export`` wrote, a pushed run or
            a published head (``hf:owner/name``, with ``datasets.root`` among the overrides), or a list of such. Of
            several the first says where the data lies and what is measured. ``val`` of the folder of a cross-validation
            is scored out of fold.
        split: ``train``, ``val`` or ``test`` of the run's data.
        data: a data set of your own in place of a split; see ``OwnDataset``. It holds label ids of the run.
        checkpoint: ``best`` or ``last``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        overrides: changes of the run's config, e.g. ``{"datasets.root": "elsewhere", "eval.use_tta": True}``.
        write: writes ``eval/<split>/`` into the run folder, where ``dinoseg report`` and ``compare`` find it; or into
            this folder, which a list of runs and a published head need.
        console: shows a progress bar, and the table with ``write``; nothing is shown when left out.

    Returns:
        The figures: ``evaluation.metrics`` (percent), ``evaluation.matrix`` (pixels), ``evaluation.to_dict()`` (the
        contents of metrics.json).

    Raises:
        ValueError: not a run folder, no such split or checkpoint, a mask that is missing or holds a label id outside
            the label space.
    """
    chosen, shown = choose_runs(run, checkpoint, device, tuple(key_values(overrides))), console or Console(quiet=True)
    if data is not None:
        if write is not False:
            raise ValueError("write is for a split of the run's own data; leave it out with data")
        return evaluate_own_data(chosen, data, shown)
    if write is False:
        return count_chosen(chosen, split, shown)
    return evaluate_chosen(chosen, split, shown, None if write is True else Path(write))
