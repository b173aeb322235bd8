"""Why a training was in vain: each cause is found in a run that shows it, and not in one that does not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import tiny_settings, write_tiny_dataset
from rich.console import Console

from dinoseg.config.loading import load_config
from dinoseg.training.diagnosis import Ended, likely_causes
from dinoseg.verbs.train import train

NAMES = ("back", "artery", "vein")
FALLEN = tuple(np.linspace(1.1, 0.2, 6).tolist() + [0.2] * 14)
# Right in nine of ten pixels, 50 % background in truth and training.
GOOD = np.array([[460, 20, 20], [10, 280, 10], [10, 10, 180]])


def ended(*settings: str, **changes: Any) -> Ended:
    """A run in which nothing is odd but what is given."""
    config = load_config(["scheduler.total_iter=5000", *settings])
    steps = config.scheduler.total_iter
    pixels, scores = (5000, 3000, 2000), (40.0, 42.0, 41.0)
    usual = Ended(config, NAMES, GOOD, pixels, FALLEN, scores, steps, 50.0, (600, 600), pixels)
    changes.setdefault("val_pixels", tuple(changes.get("matrix", GOOD).sum(axis=1).tolist()))
    return replace(usual, **changes)


ALL_BACKGROUND = np.array([[930, 0, 0], [40, 0, 0], [30, 0, 0]])
NO_BACKGROUND = np.array([[100, 500, 330], [0, 40, 0], [0, 0, 30]])
MOSTLY_BACKGROUND = (9300, 400, 300)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (ended("model.weights=none"), ["random and not trained", "model.weights=none, model.mode=freeze"]),
        (ended("optimizer.lr=0"), ["optimizer.lr=0 (0.001 is usual", "too low", "raise it"]),
        (ended("optimizer.lr=1e-6", losses=(1.1, 1.099)), ["optimizer.lr=1e-06", "too low", "from 1.1 to 1.1"]),
        (ended("optimizer.lr=2", losses=(1.1, 7.0)), ["optimizer.lr=2", "too high", "from 1.1 to 7", "lower it"]),
        (
            ended("decoder_head.type=m2f", "optimizer.lr=0.1", losses=(1.1, 7.0)),
            ["optimizer.lr=0.1 (0.0001 is usual", "too high"],
        ),
        (
            ended("scheduler.total_iter=20", epochs=0.4, losses=tuple(np.linspace(1.1, 0.7, 20).tolist())),
            ["20 steps, which show each training image 0.4 times", "loss still fell", "raise scheduler.total_iter"],
        ),
        (
            ended("scheduler.total_iter=40000", "train.early_stopping=2", steps=200, epochs=1.0, stopped_early=True),
            ["200 steps, which show each training image 1.0 times", "train.early_stopping=2 ended it before its 40000"],
        ),
        (
            ended("scheduler.total_iter=40000", steps=200, epochs=1.0),
            ["200 steps, which show each training image 1.0 times", "it ended before its 40000: give it more time"],
        ),
        (
            ended("scheduler.total_iter=400", "train.early_stopping=9", steps=200, epochs=1.0, budget=5.0),
            ["200 steps, which show each training image 1.0 times", "; give it more than minutes=5"],
        ),
        (
            ended(matrix=NO_BACKGROUND, train_pixels=MOSTLY_BACKGROUND),
            ["max_class_share=0.75", "back is 93.0 % of the training pixels", "predicted for 10.0 %", "set it to 1"],
        ),
        (
            ended(
                "train.class_weights=auto",
                "transforms.train.max_class_share=1",
                matrix=NO_BACKGROUND,
                train_pixels=MOSTLY_BACKGROUND,
            ),
            ["train.class_weights=auto makes rare classes dearer than back", "try none"],
        ),
        (
            ended("transforms.train.max_class_share=1", matrix=ALL_BACKGROUND, train_pixels=MOSTLY_BACKGROUND),
            ["nearly all is predicted as back (100.0 %)", "class_weights=auto or train.diceloss_weight=1"],
        ),
        (
            # One pixel in two thousand, and a head whose Dice loss does not weigh every pixel the same.
            ended(
                "decoder_head.type=dense",
                "transforms.train.max_class_share=1",
                matrix=np.array([[9995, 0, 0], [4, 0, 0], [1, 0, 0]]),
                train_pixels=(9995, 4, 1),
            ),
            [
                "nearly all is predicted as back (100.0 %): 100.0 % of the pixels trained on are of it; "
                "give train.class_weights=auto or transforms.train.foreground_share=0.5"
            ],
        ),
        (
            ended(matrix=GOOD[[1, 0, 2]], train_pixels=(3000, 5000, 2000)),
            ["classes look exchanged: artery as back, back as artery", "accuracy would be 92.0 in place of 21.0"],
        ),
        (
            ended(matrix=NO_BACKGROUND, train_pixels=(500, 5000, 4500)),
            ["back is 5.0 % of the pixels in train and 93.0 % in val"],
        ),
        (
            ended("transforms.train.img_size=256", image_size=(2048, 2048)),
            ["short side of 128 to 512 px, evaluation at 2048"],
        ),
        (ended("transforms.train.crop_size=64"), ["a crop of 64 px shows 1.1 % of an image"]),
        (
            ended("load_from=head.pth", "scheduler.total_iter=0", losses=()),
            ["nothing was trained (scheduler.total_iter=0)", "load_from=head.pth"],
        ),
    ],
)
def test_the_cause_that_the_run_shows_comes_first(run: Ended, words: list[str]) -> None:
    first = likely_causes(run)[0].text
    for part in words:
        assert part in first


def test_advice_does_not_contradict_what_was_chosen() -> None:
    def said(run: Ended) -> str:
        return " ".join(cause.text for cause in likely_causes(run))

    # Features of whole images were computed before: a small crop hides nothing.
    assert "a crop of" not in said(ended("transforms.train.crop_size=64", "train.cache_features=true"))
    # A rate above the usual one that changed nothing is not called too low.
    assert "too low" not in said(ended("optimizer.lr=5e-3", losses=(1.1, 1.1)))
    # Four images that happened to be validated are another mix, and all of the split are not.
    assert "masks differ" not in said(ended(matrix=ALL_BACKGROUND, val_pixels=(5000, 3000, 2000)))


def test_one_bad_step_in_the_end_is_no_sign_of_a_rate_too_high() -> None:
    causes = [cause.text for cause in likely_causes(ended(losses=(*np.linspace(1.1, 0.4, 59).tolist(), 1.2)))]
    rate = next(text for text in causes if text.startswith("optimizer.lr"))
    # Means of six: 1.1 less 0.03, and of five near 0.42 and 1.2.
    assert "may not suit this data: the loss went from 1.07 to 0.553" in rate


def test_three_causes_are_named_where_nothing_is_odd_and_none_is_made_up() -> None:
    causes = likely_causes(ended())
    assert len(causes) == 3 and all(cause.weight < 0.2 for cause in causes)
    text = " ".join(cause.text for cause in causes)
    assert "optimizer.lr=0.001" in text and "5000 steps" in text and "overlays/val" in text


def test_an_untrained_head_is_not_said_to_exchange_classes() -> None:
    flat = ended(matrix=GOOD[[1, 0, 2]], train_pixels=(3000, 5000, 2000), losses=(1.1, 1.1))
    assert not [cause for cause in likely_causes(flat) if "exchanged" in cause.text]


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize(("settings", "said"), [(["optimizer.lr=0"], True), (["optimizer.lr=1e-2"], False)])
def test_a_training_in_vain_says_so_at_its_end(settings: list[str], said: bool, tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "data", {"train": 3, "val": 2})
    more = ["scheduler.total_iter=20", "eval.eval_interval=20", "trackers=[]", *settings]
    run = train(load_config(tiny_settings(data, tmp_path / "run", *more)), Console(quiet=True))
    log = run.log.read_text(encoding="utf-8")
    assert "always class_0: mIoU" in log
    assert ("no better than a constant on the validation images: mIoU" in log) == said
    if said:
        assert "  1. optimizer.lr=0 (0.001 is usual for this head)" in log
        assert log.index("likeliest causes in this run") < log.index("done: best mIoU")
