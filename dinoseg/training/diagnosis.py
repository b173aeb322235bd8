"""Why a training may have ended no better than a constant prediction: causes looked up in the run, likeliest first.

Each cause weighs what the run shows of it, 0 to 1. What nothing speaks for weighs little, and comes last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment

from dinoseg.config import Config, with_changes
from dinoseg.config.defaults import settle

MOST_CAUSES = 3
_FEW_STEPS = 300
_FEW_EPOCHS = 3.0
# Shares of pixels by which two mixes of classes, or two accuracies, must differ to say something.
_TELLING = 0.2
_MUCH_FOREGROUND = 0.5


@dataclass(frozen=True)
class Cause:
    """``weight``: how much in the run speaks for it, 0..1."""

    weight: float
    text: str


@dataclass(frozen=True)
class Ended:
    """What a finished training is judged by.

    Attributes:
        names: of the classes.
        matrix: of the validation that is judged; rows truth, columns prediction, in pixels.
        train_pixels: pixels of each class in the training masks.
        losses: as logged, in the order of the steps.
        scores: ``metric_to_save`` of every validation, in the order of the steps.
        steps: optimiser steps done; fewer than ``scheduler.total_iter`` where the training stopped early.
        epochs: how often each training image was seen in them.
        image_size: height and width of a validation image.
        val_pixels: pixels of each class in all validation masks, of which a validation may take a part.
        stopped_early: whether ``train.early_stopping`` ended it.
        budget: the minutes that ended it or that its steps were chosen for; None where they did not decide.
    """

    config: Config
    names: tuple[str, ...]
    matrix: Int[np.ndarray, "classes classes"]
    train_pixels: tuple[int, ...]
    losses: tuple[float, ...]
    scores: tuple[float, ...]
    steps: int
    epochs: float
    image_size: tuple[int, int]
    val_pixels: tuple[int, ...]
    stopped_early: bool = False
    budget: float | None = None

    @cached_property
    def truth(self) -> np.ndarray:
        """Share of each class in the truth, 0..1."""
        return _shares(self.matrix.sum(axis=1))

    @cached_property
    def predicted(self) -> np.ndarray:
        """Share of each class in the prediction, 0..1."""
        return _shares(self.matrix.sum(axis=0))

    @cached_property
    def trained(self) -> np.ndarray:
        """Share of each class in the training masks, 0..1."""
        return _shares(np.array(self.train_pixels))

    @cached_property
    def commonest(self) -> int:
        """The class of the constant."""
        return int(self.truth.argmax())

    @cached_property
    def neglect(self) -> float:
        """By how much of all pixels the commonest class is predicted too seldom, 0..1."""
        return max(0.0, float(self.truth[self.commonest] - self.predicted[self.commonest]))


def likely_causes(ended: Ended) -> list[Cause]:
    """The three that most speaks for, likeliest first."""
    found = [cause for look in _LOOKS for cause in look(ended)]
    return sorted(found, key=lambda cause: -cause.weight)[:MOST_CAUSES]


def _random_backbone(ended: Ended) -> Iterator[Cause]:
    model = ended.config.model
    if model.weights == "none" and model.mode != "full":
        yield Cause(
            0.97,
            f"the backbone is random and not trained (model.weights=none, model.mode={model.mode}): its features say "
            "little; give weights (model.weights=hub or a file), or model.mode=full",
        )


def _nothing_trained(ended: Ended) -> Iterator[Cause]:
    if ended.steps == 0:
        yield Cause(
            0.95,
            f"nothing was trained (scheduler.total_iter=0): the head of load_from={ended.config.load_from} may have "
            "other classes, or the same in another order",
        )


def _exchanged_classes(ended: Ended) -> Iterator[Cause]:
    """Classes that the prediction would fit under other names: masks of two splits that number them differently."""
    if not _moved(ended.losses, -np.inf, -0.1):
        return  # Nothing was learned that could fit other names.
    total = max(1, int(ended.matrix.sum()))
    rows, columns = linear_sum_assignment(ended.matrix, maximize=True)
    better, as_is = ended.matrix[rows, columns].sum() / total, ended.matrix.trace() / total
    if better - as_is < _TELLING or better <= ended.truth.max():
        return
    moved = [(true, guess) for true, guess in zip(rows, columns, strict=True) if true != guess and ended.truth[true]]
    moved.sort(key=lambda pair: -ended.truth[pair[0]])
    listed = ", ".join(f"{ended.names[true]} as {ended.names[guess]}" for true, guess in moved[:3])
    yield Cause(
        min(1.0, 0.8 + float(better - as_is) / 4),
        f"classes look exchanged: {listed}; with their names exchanged accuracy would be {100 * better:.1f} in place "
        f"of {100 * as_is:.1f}: compare the label ids of both splits (`dinoseg check`), and datasets.classes",
    )


def _other_mix(ended: Ended) -> Iterator[Cause]:
    """Training and validation masks of which one has much more of a class."""
    validated = _shares(np.array(ended.val_pixels))
    distance = float(np.abs(validated - ended.trained).sum() / 2)
    if distance < _TELLING:
        return
    index = int(np.abs(validated - ended.trained).argmax())
    yield Cause(
        0.4 + distance / 2,
        f"training and validation masks differ: {ended.names[index]} is {_percent(ended.trained[index])} of the "
        f"pixels in train and {_percent(validated[index])} in val: are both labelled alike, and drawn from the same?",
    )


def _redrawn_crops(ended: Ended) -> Iterator[Cause]:
    most, share = ended.config.transforms.train.max_class_share, ended.trained[ended.commonest]
    # Crops that a redraw cannot mend show the class as it is.
    if most < 1 and share > most and ended.steps:
        name = ended.names[ended.commonest]
        yield Cause(
            0.3 + 0.6 * ended.neglect,
            f"crops with more than {_percent(most)} of one class are redrawn (transforms.train.max_class_share={most}) "
            f"while {name} is {_percent(share)} of the training pixels: {_predicted(ended)}; set it to 1",
        )


def _class_weights(ended: Ended) -> Iterator[Cause]:
    weights = ended.config.train.class_weights
    if weights not in (None, "none") and ended.neglect > 0.02:
        given = f"train.class_weights={weights}" if isinstance(weights, str) else "train.class_weights"
        yield Cause(
            0.3 + 0.6 * ended.neglect,
            f"{given} makes rare classes dearer than {ended.names[ended.commonest]}: {_predicted(ended)}; try none",
        )


def _rare_classes_given_up(ended: Ended) -> Iterator[Cause]:
    train, share = ended.config.train, ended.predicted[ended.commonest]
    if share < 0.98 or train.class_weights not in (None, "none"):
        return
    weighed, remedies = "", ["train.class_weights=auto"]
    if ended.config.decoder_head.type == "linear" and train.diceloss_weight == 0:
        weighed, remedies = "every pixel weighs the same, and ", [*remedies, "train.diceloss_weight=1"]
    if ended.config.transforms.train.foreground_share < _MUCH_FOREGROUND:
        remedies.append(f"transforms.train.foreground_share={_MUCH_FOREGROUND}")
    yield Cause(
        0.6,
        f"nearly all is predicted as {ended.names[ended.commonest]} ({_percent(share)}): {weighed}"
        f"{_percent(ended.trained[ended.commonest])} of the pixels trained on are of it; give {' or '.join(remedies)}",
    )


def _few_steps(ended: Ended) -> Iterator[Cause]:
    steps = ended.steps
    if not steps:
        return
    falling = _still_falling(ended.losses)
    rising = len(ended.scores) > 1 and ended.scores[-1] == max(ended.scores) > ended.scores[-2]
    few = max(0.0, 1 - steps / _FEW_STEPS, 1 - ended.epochs / _FEW_EPOCHS)
    noticed = [f"the loss still fell ({falling[0]:.3g} to {falling[1]:.3g} over the last half)"] if falling else []
    if rising:
        noticed.append(f"{ended.config.metric_to_save} still rose ({ended.scores[-2]:.2f} to {ended.scores[-1]:.2f})")
    told = f": {' and '.join(noticed)}" if noticed else ""
    yield Cause(
        min(0.9, 0.1 + 0.5 * few + 0.2 * bool(falling) + 0.1 * rising),
        f"{steps} steps, which show each training image {ended.epochs:.1f} times, may be too few{told}; "
        + _more_steps(ended),
    )


def _more_steps(ended: Ended) -> str:
    """How to have more of them: the key that decided how many there were."""
    planned, patience = ended.config.scheduler.total_iter, ended.config.train.early_stopping
    if ended.stopped_early:
        return f"train.early_stopping={patience} ended it before its {planned}: raise that, or leave it out"
    if ended.budget is not None:
        return f"give it more than minutes={ended.budget:g}"
    if ended.steps < planned:
        return f"it ended before its {planned}: give it more time"
    return "raise scheduler.total_iter"


def _learning_rate(ended: Ended) -> Iterator[Cause]:
    config, rate = ended.config, ended.config.optimizer.lr
    usual = settle(with_changes(config, {"optimizer.lr": None})).optimizer.lr
    assert rate is not None and usual is not None  # filled in when the config was loaded
    if not ended.steps:
        return
    size, told = f"optimizer.lr={rate:g} ({usual:g} is usual for this head)", _loss_in_words(ended.losses)
    low, high = rate < usual / 5, rate > 5 * usual
    flat, risen = _moved(ended.losses, -0.05, 0.05), _moved(ended.losses, 0.05, np.inf)
    if low or (flat and rate <= usual):
        yield Cause(0.99 if rate == 0 else 0.2 + 0.4 * low + 0.3 * flat, f"{size} looks too low{told}; raise it")
    elif high or risen:
        yield Cause(0.2 + 0.4 * high + 0.3 * risen, f"{size} looks too high{told}; lower it")
    else:
        yield Cause(0.12, f"{size} may not suit this data{told}; try a third of it, and three times as much")


def _scale(ended: Ended) -> Iterator[Cause]:
    """Images that the model learns at another size than it is evaluated at."""
    transforms, short = ended.config.transforms, min(ended.image_size)
    trained, evaluated = (part.img_size or short for part in (transforms.train, transforms.eval))
    low, high = transforms.train.random_img_size_ratio_range
    factor = max(trained * low / evaluated, evaluated / (trained * high), 1.0)
    if factor >= 1.5:
        yield Cause(
            min(0.9, 0.4 + factor / 10),
            f"training shows images at a short side of {trained * low:.0f} to {trained * high:.0f} px, evaluation at "
            f"{evaluated}: set transforms.train.img_size and transforms.eval.img_size alike",
        )


def _small_crop(ended: Ended) -> Iterator[Cause]:
    if ended.config.train.cache_features:
        return  # The backbone saw whole images.
    crop, train = ended.config.transforms.train.crop_size, ended.config.transforms.train
    area = crop[0] * crop[1] if isinstance(crop, list) else crop * crop
    short, size = min(ended.image_size), ended.image_size
    share = area / (size[0] * size[1] * ((train.img_size or short) / short) ** 2)
    if share < 0.1:
        yield Cause(
            0.25 + 3 * (0.1 - share),
            f"a crop of {crop} px shows {_percent(share)} of an image, which may hide what a thing is; raise "
            "transforms.train.crop_size, or lower transforms.train.img_size and transforms.eval.img_size",
        )


def _labels(ended: Ended) -> Iterator[Cause]:
    yield Cause(
        0.11,
        "the masks may not mean what is taken (datasets.classes, datasets.reduce_zero_label), or belong to other "
        "images: look at overlays/val, where truth lies beside prediction",
    )


_LOOKS: tuple[Callable[[Ended], Iterator[Cause]], ...] = (
    _random_backbone,
    _nothing_trained,
    _exchanged_classes,
    _other_mix,
    _redrawn_crops,
    _class_weights,
    _rare_classes_given_up,
    _few_steps,
    _learning_rate,
    _scale,
    _small_crop,
    _labels,
)


def _shares(pixels: np.ndarray) -> np.ndarray:
    return pixels / max(1, pixels.sum())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _predicted(ended: Ended) -> str:
    name = ended.names[ended.commonest]
    return f"{name} is predicted for {_percent(ended.predicted[ended.commonest])} of the pixels, and is " + _percent(
        ended.truth[ended.commonest]
    )


def _still_falling(losses: tuple[float, ...]) -> tuple[float, float] | None:
    """Mean losses of the third quarter and of the last one, where the last is more than 3 % lower."""
    if len(losses) < 4:
        return None
    quarter = len(losses) // 4
    before, last = (float(np.mean(part)) for part in (losses[-2 * quarter : -quarter], losses[-quarter:]))
    return (before, last) if last < 0.97 * before else None


def _ends(losses: tuple[float, ...]) -> tuple[float, float]:
    """Losses in the beginning and in the end: means of a tenth each, since that of a few crops is luck."""
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def _moved(losses: tuple[float, ...], low: float, high: float) -> bool:
    """Whether the loss changed from beginning to end by a share within the bounds; no if there are few."""
    if len(losses) < 2:
        return False
    first, last = _ends(losses)
    return low * first < last - first < high * first


def _loss_in_words(losses: tuple[float, ...]) -> str:
    if len(losses) < 2:
        return ""
    first, last = _ends(losses)
    return f": the loss went from {first:.3g} to {last:.3g}"
