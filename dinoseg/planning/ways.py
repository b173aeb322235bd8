"""The ways to train that a data set allows, the best that was measured first, and the steps that each is worth.

Figures are mIoU of the test split: of DRIVE and CamVid, and of drawn data sets (benchmarks/plan_sets.py), on two CPU
cores.
"""

import math
from dataclasses import replace

from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.rule import Way
from dinoseg.training.budget import FEWEST_STEPS

# Shares of the budget that the pass over the images may take while a smaller scale is to be had, by head. Dense: 13 and
# 17 % in the recipes' best runs, 25 % at CamVid's 56.7, while 50 % left 49.7, what the linear head has. Linear: 55 % of
# two minutes left 48.3 of 49.2; its steps take next to nothing.
MOST_FEATURES = {"dense": 1 / 3, "linear": 2 / 3}
# Steps below which another way is better. Dense, a class: CamVid (11) had 42.8 after 328 and 49.7 after some 440, where
# linear has 49.2; drawn regions (3) 88.3 after 38 and 94.7 after 130, linear 93.5. Where classes are thin linear is far
# behind whatever the steps: 37.1 on drawn specks, dense 76.1 after 138; on DRIVE 33, dense 40.6 after 209. Linear:
# CamVid had 48.3 after 560 of 3,411, DRIVE all of it after 350.
DENSE_STEPS_A_CLASS, DENSE_STEPS_WHERE_THIN, LINEAR_STEPS = 35, 80, 350
# A training of the dense head that is long enough for turned crops and for features that are left out. Drawn specks in
# 2 min: 76.1 after 138 steps, turned 63.3 after 99. DRIVE, turned: 55.1 after 801 steps, 57.6 after 1771.
LONG_STEPS = 800
# Steps that are planned without a budget, and the most with one: no longer training was measured.
USUAL_STEPS = {"dense": 2100, "linear": 600, "m2f": 1250, "pmt": 1250, "eomt": 1250}
MOST_STEPS = {"dense": 10_000, "linear": 3400, "m2f": 40_000, "pmt": 40_000, "eomt": 40_000}
# The scales that are chosen from; below 1 none was measured.
SCALES = (2.0, 1.5, 1.0, 0.75, 0.5)
# Half of a class beyond a patch lies in structures that are thinner than so many patches.
THIN, _WIDE = 0.5, 4.0


def is_thin(data: Fingerprint, patch: int) -> bool:
    """Whether half of the classes, the most frequent aside, are thinner than half a patch."""
    others = len(data.learned) - 1
    return others > 0 and 2 * len(data.thinner_than(THIN * patch)) >= others


def ways(data: Fingerprint, patch: int) -> tuple[Way, ...]:
    """The ways to train that the data allows, the best that was measured first."""
    turned = is_thin(data, patch) or not data.positions.has_up
    dense = [Way("dense", scale, True) for scale in _scales("dense", data, patch)]
    linear = [Way("linear", scale, True) for scale in _scales("linear", data, patch)]
    long = [replace(way, long=True) for way in dense if turned]
    without = [Way(head, min(1.0, wanted_scale(head, data, patch)), False) for head in ("dense", "linear")]
    return (*long, *dense, without[0], *linear, without[1])


def _scales(head: str, data: Fingerprint, patch: int) -> list[float]:
    least = 1.0 if _thinnest_width(data) < _WIDE * patch else min(SCALES)
    return [scale for scale in SCALES if least <= scale <= wanted_scale(head, data, patch)]


def wanted_scale(head: str, data: Fingerprint, patch: int) -> float:
    """How much larger the backbone should see the images, were there time for anything.

    Where most classes are thin it is the dense head's stem that draws them, and steps are worth more than finer
    features: DRIVE 56.7 at 2 after 2102 steps, 57.6 at 1 after 1771 of twice the crops. Other heads have only features.
    """
    if is_thin(data, patch):
        return 1.0 if head == "dense" else 2.0
    return 1.5 if _thinnest_width(data) < patch else 1.0


def least_steps(way: Way, data: Fingerprint, patch: int) -> int:
    """Steps below which another way is better; of a head that is never chosen, any that are a training."""
    if way.head == "linear":
        return LINEAR_STEPS
    if way.head != "dense":
        return FEWEST_STEPS
    if way.long:
        return LONG_STEPS
    return DENSE_STEPS_WHERE_THIN if is_thin(data, patch) else DENSE_STEPS_A_CLASS * len(data.learned)


def _thinnest_width(data: Fingerprint) -> float:
    thinnest = data.thinnest
    return math.inf if thinnest is None or thinnest.width is None else thinnest.width.median
