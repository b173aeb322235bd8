"""Training from Python."""

import time

from rich.console import Console

from dinoseg.api.run import Run
from dinoseg.api.settings import Settings, config_of, key_values
from dinoseg.config import Config
from dinoseg.config.loading import is_given
from dinoseg.data.items import OwnDataset
from dinoseg.verbs.fit_data import OwnData
from dinoseg.verbs.plan import train_within
from dinoseg.verbs.train import Start
from dinoseg.verbs.train import train as run_training


def train(
    config: Settings = (),
    *,
    train_data: OwnDataset | None = None,
    val_data: OwnDataset | None = None,
    resume: str | None = None,
    console: Console | None = None,
) -> Run:
    """Trains and returns the run, as ``dinoseg train`` does.

    Args:
        config: a mapping of keys (``{"datasets.root": "data/retina", "bs": 4}``, or nested), a list of ``key=value``
            texts, or a ``Config``. ``config`` among the keys names a YAML file. The keys are those of the command line,
            ``minutes`` among them: what is not given is then planned, and the training done by then.
        train_data, val_data: data sets of your own, in place of ``datasets.root``; see ``OwnDataset`` for their items.
            They hold label ids. Each is read once before the first step, for what the classes are and how many pixels
            each has. ``num_workers`` above 0 reads them in processes of their own.
        resume: ``last``, ``auto``, ``previous`` or ``best``: goes on with the training in ``output_dir``.
        console: shows the plan, the progress and the evaluations; nothing is shown when left out.

    Raises:
        ValueError: the data is not fit for training, or an option is wrong. The run exists already, or does not fit
            what is to be resumed. Weights are not to be had, or the loss became not finite.
    """
    if (train_data is None) != (val_data is None):
        given, missing = ("val_data", "train_data") if train_data is None else ("train_data", "val_data")
        raise ValueError(f"{given} is given without {missing}; a training needs both")
    started = time.monotonic()
    texts = [] if isinstance(config, Config) else key_values(config)
    shown = console or Console(quiet=True)
    if is_given("minutes", texts):
        if train_data is not None:
            raise ValueError(
                "minutes with data sets of your own: a plan is made of folders; give datasets.root, or steps"
            )
        return Run(train_within(texts, resume, shown, started).path)
    own_data = None if train_data is None or val_data is None else OwnData(train_data, val_data)
    folder = run_training(config_of(config if isinstance(config, Config) else texts), shown, Start(resume, own_data))
    return Run(folder.path)
