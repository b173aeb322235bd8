"""The rules by which a recipe is chosen: each with its condition, its choice, its reason and its evidence.

Of each topic the first rule that holds decides. Figures are mIoU of the test split from docs/results.md,
benchmarks/quality_minutes.json and the headers of recipes/; where nothing was measured, the evidence says so.
"""

import math
from typing import Any

from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.reasons import (
    no_cache_in_words,
    orientation_in_words,
    rare_in_words,
    scale_in_words,
    width_in_words,
    window_in_words,
)
from dinoseg.planning.rule import Facts, Rule, Way

# Shares of the budget that the pass over the images may take while a smaller scale is to be had, by head. Dense: 13 and
# 17 % in the recipes' best runs, 25 % at CamVid's 56.7, while 50 % left 49.7, what the linear head has. Linear: 55 % of
# two minutes left 48.3 of 49.2; its steps take next to nothing.
MOST_FEATURES = {"dense": 1 / 3, "linear": 2 / 3}
# Steps below which another way is better. Dense: CamVid had 49.7 after about 440, which linear has, too; DRIVE 40.6
# after 209, without features, where linear ends at 33 (fewer were not measured). Linear: CamVid had 48.3 after 560 of
# 3,411; DRIVE all of it after 350.
LEAST_STEPS = {"dense": 440, "linear": 350}
LEAST_STEPS_WHERE_THIN = {"dense": 80, "linear": 350}
# Steps that are planned without a budget, and the most with one: no longer training was measured.
USUAL_STEPS = {"dense": 2100, "linear": 600, "m2f": 1250, "pmt": 1250, "eomt": 1250}
MOST_STEPS = {"dense": 10_000, "linear": 3400, "m2f": 40_000, "pmt": 40_000, "eomt": 40_000}
# A training of fewer steps is none.
FEWEST_STEPS = 20
# The scales that are chosen from; 1.5 and 2 were measured, below 1 none.
SCALES = (2.0, 1.5, 1.0, 0.75, 0.5)
# Half of a class beyond a patch lies in structures that are thinner than so many patches.
_THIN, _WIDE = 0.5, 4.0
_CROP = {"dense": 288, "linear": 336, "m2f": 336, "pmt": 336, "eomt": 336}
# Megapixels that the backbone sees at once: 1168 x 1130 were measured.
_MOST_WHOLE = 4.0


def is_thin(data: Fingerprint, patch: int) -> bool:
    """Whether half of the classes, the most frequent aside, are thinner than half a patch."""
    others = len(data.learned) - 1
    return others > 0 and 2 * len(data.thinner_than(_THIN * patch)) >= others


def ways(data: Fingerprint, patch: int) -> tuple[Way, ...]:
    """The ways to train that the data allows, the best that was measured first."""
    wanted = wanted_scale(data, patch)
    least = 1.0 if _thinnest_width(data) < _WIDE * patch else min(SCALES)
    scales = [scale for scale in SCALES if least <= scale <= wanted]
    dense = [Way("dense", scale, True) for scale in scales]
    linear = [Way("linear", scale, True) for scale in scales]
    without = [Way(head, min(1.0, wanted), False) for head in ("dense", "linear")]
    return (*dense, without[0], *linear, without[1])


def wanted_scale(data: Fingerprint, patch: int) -> float:
    """How much larger the backbone should see the images, were there time for anything."""
    if is_thin(data, patch):
        return 2.0
    return 1.5 if _thinnest_width(data) < patch else 1.0


def least_steps(way: Way, data: Fingerprint, patch: int) -> int:
    """Steps below which another way is better; of a head that is never chosen, any."""
    return (LEAST_STEPS_WHERE_THIN if is_thin(data, patch) else LEAST_STEPS).get(way.head, 1)


def decide(facts: Facts) -> list[tuple[Rule, dict[str, Any]]]:
    """The rule of each topic that holds, and what it chooses."""
    decided: dict[str, Rule] = {}
    for rule in RULES:
        if rule.topic not in decided and rule.holds(facts):
            decided[rule.topic] = rule
    return [(rule, rule.choice(facts)) for rule in decided.values()]


def _thinnest_width(data: Fingerprint) -> float:
    thinnest = data.thinnest
    return math.inf if thinnest is None or thinnest.width is None else thinnest.width.median


def _crop(facts: Facts) -> int:
    """The measured crop, or what the images have."""
    needed = math.ceil(max(facts.data.size) / 32) * 32
    return min(_CROP[facts.way.head], max(32, needed))


RULES: tuple[Rule, ...] = (
    Rule(
        "head",
        "there is time for the dense head's steps",
        lambda facts: facts.way.head == "dense",
        lambda facts: {"decoder_head.type": "dense", "optimizer.lr": 2e-3, "train.ema_decay": 0.99},
        lambda facts: (
            f"a score for every pixel; {width_in_words(facts.data.thinnest)}"
            if is_thin(facts.data, facts.patch)
            else "the best head that was measured, once there is time for its steps"
        ),
        "DRIVE 47.0/54.4/56.2 after 5/10/19 min, linear 33, m2f 48.3 after 62; CamVid 56.7 after 20 min, linear 49.2, "
        "m2f 52.3 after 125 (lr 2e-3, moving average 0.99)",
    ),
    Rule(
        "head",
        "there is not",
        lambda facts: facts.way.head == "linear",
        lambda facts: {
            "decoder_head.type": "linear",
            "decoder_head.backbone_out_layers": "FOUR_LAST",
            "optimizer.lr": 5e-3,
        },
        lambda facts: "learns in a minute of steps what it can; the dense head would need more than there is time for",
        "CamVid 48.3 after 2 min and 49.2 after 6 (four layers), where dense has 49.7 after 10; 43.7 from one layer",
    ),
    Rule(
        "head",
        "another was asked for",
        lambda facts: True,
        lambda facts: {"decoder_head.type": facts.way.head, "optimizer.lr": {"m2f": 2e-4}.get(facts.way.head)},
        lambda facts: "as given",
        "m2f: DRIVE 48.3 after 62 min, CamVid 52.3 after 125; pmt, eomt: not measured in minutes",
    ),
    Rule(
        "scale",
        "half of the classes are thinner than half a patch: 2; one is thinner than a patch: 1.5; else 1; less where "
        "there is no time for the pass over the images",
        lambda facts: True,
        lambda facts: {"model.backbone_scale": facts.way.scale},
        lambda facts: scale_in_words(
            facts, wanted_scale(facts.data, facts.patch), len(facts.data.thinner_than(_THIN * facts.patch))
        ),
        "best runs: DRIVE (vein 4 px) 2, CamVid (pole 3 px, most classes wide) 1.5; linear, CamVid: 51.3 at twice the "
        "size, 50.1 at 1",
    ),
    Rule(
        "cache",
        "there is time to compute the features of all images once",
        lambda facts: facts.way.cached,
        lambda facts: {"train.cache_features": True},
        lambda facts: "a step then runs no backbone",
        "dense step 0.41 s for 1.72, linear 0.014 for 0.58 (docs/performance.md)",
    ),
    Rule(
        "cache",
        "there is not, or the backbone is trained",
        lambda facts: True,
        lambda facts: {"train.cache_features": False},
        no_cache_in_words,
        "by the same steps; no budget was measured where it would be better",
    ),
    Rule(
        "batch and crop",
        "dense, half of the classes are thin",
        lambda facts: facts.way.head == "dense" and is_thin(facts.data, facts.patch),
        lambda facts: {
            "bs": 2,
            "transforms.train.crop_size": _crop(facts),
            "decoder_head.output_stride": 1,
            "transforms.train.random_img_size_ratio_range": [0.7, 1.4],
        },
        lambda facts: f"a score for every pixel, since classes are thin; crops of {_crop(facts)} px",
        "recipes/retina.yaml: DRIVE, 2 crops of 288 px",
    ),
    Rule(
        "batch and crop",
        "dense otherwise",
        lambda facts: facts.way.head == "dense",
        lambda facts: {
            "bs": 4,
            "transforms.train.crop_size": _crop(facts),
            "decoder_head.output_stride": 2,
            "transforms.train.random_img_size_ratio_range": [0.75, 1.5],
        },
        lambda facts: f"a score for 2 x 2 pixels takes half of the time; crops of {_crop(facts)} px",
        "recipes/street.yaml: CamVid, 4 crops of 288 px",
    ),
    Rule(
        "batch and crop",
        "other heads",
        lambda facts: True,
        lambda facts: {
            "bs": 4 if facts.way.head == "linear" else 2,
            "transforms.train.crop_size": _crop(facts),
            "transforms.train.random_img_size_ratio_range": [0.75, 1.5],
        },
        lambda facts: f"crops of {_crop(facts)} px",
        "recipes/street_linear.yaml and street_m2f.yaml at the images' own size",
    ),
    Rule(
        "class weights",
        "linear, the rarest class has less than 2 % of the pixels, and no class most of them",
        lambda facts: (
            facts.way.head == "linear" and facts.data.rarest.share < 0.02 and facts.data.most_frequent.share < 0.6
        ),
        lambda facts: {"train.class_weights": "auto"},
        lambda facts: f"{facts.data.rarest.name} has {100 * facts.data.rarest.share:.3g} % of the pixels",
        "CamVid, linear: 43.7 with equal weights and the last layer, 50.1 with these and four layers",
    ),
    Rule(
        "class weights",
        "otherwise",
        lambda facts: True,
        lambda facts: {"train.class_weights": "none"},
        lambda facts: (
            "the dense head's Dice loss minds rare classes"
            if facts.way.head == "dense"
            else "nothing measured speaks for them here"
        ),
        "both dense recipes are without; m2f on CamVid gained nothing by them (48.8, 49.0)",
    ),
    Rule(
        "rare classes",
        "a class is missing from a tenth of the images, or the most frequent one has 97 % of the pixels",
        lambda facts: facts.data.rarest.images < 0.9 or facts.data.most_frequent.share > 0.97,
        lambda facts: {"transforms.train.foreground_share": 0.3},
        lambda facts: rare_in_words(facts.data),
        "recipes/street.yaml (CamVid: bicyclist in 55 % of the images); not measured by itself",
    ),
    Rule(
        "redrawn crops",
        "dense",
        lambda facts: facts.way.head == "dense",
        lambda facts: {"transforms.train.max_class_share": 1.0},
        lambda facts: "crops are taken as they are drawn",
        "both dense recipes; linear: no difference on CamVid (60.4, 60.3) and DRIVE (30.5, 30.8)",
    ),
    Rule(
        "orientation",
        "classes lie upside down where they lie upright",
        lambda facts: not facts.data.positions.has_up,
        lambda facts: {
            "transforms.train.vertical_flip_prob": 0.5,
            "transforms.train.rotation": 180.0,
            "transforms.train.shear": 8.0,
        },
        lambda facts: orientation_in_words(facts.data),
        "recipes/retina.yaml: 13 % on DRIVE, 70 % on CamVid",
    ),
    Rule(
        "orientation",
        "they do not, or there are too few images to tell",
        lambda facts: True,
        lambda facts: {"transforms.train.vertical_flip_prob": 0.0, "transforms.train.rotation": 0.0},
        lambda facts: orientation_in_words(facts.data),
        "recipes/street.yaml: mirrored, not turned",
    ),
    Rule(
        "appearance",
        "dense, no thin classes",
        lambda facts: facts.way.head == "dense" and not is_thin(facts.data, facts.patch),
        lambda facts: {"transforms.train.gamma": 0.4, "transforms.train.noise": 0.03, "transforms.train.blur": 1.0},
        lambda facts: "the stem sees pixels: brightness, noise and blur vary",
        "recipes/street.yaml; not measured by itself",
    ),
    Rule(
        "appearance",
        "dense, thin classes",
        lambda facts: facts.way.head == "dense",
        lambda facts: {"transforms.train.gamma": 0.4, "transforms.train.noise": 0.03},
        lambda facts: "the stem sees pixels: brightness and noise vary; a blur would take thin classes away",
        "recipes/retina.yaml; not measured by itself",
    ),
    Rule(
        "evaluation window",
        "the backbone sees the largest image whole in 4 megapixels",
        lambda facts: facts.megapixels <= _MOST_WHOLE,
        lambda facts: {"eval.mode": "whole"},
        lambda facts: window_in_words(facts),
        "all figures of the cache are of whole images; 1168 x 1130 pixels take 3.1 s (docs/performance.md)",
    ),
    Rule(
        "evaluation window",
        "it does not",
        lambda facts: True,
        lambda facts: {"eval.mode": "slide", "eval.crop_size": 512, "eval.stride": 341},
        lambda facts: f"{window_in_words(facts)}: windows of 512",
        "windows of 518 gave the linear and m2f heads' figures; memory by docs/performance.md",
    ),
    Rule(
        "precision",
        "always the quicker one",
        lambda facts: True,
        lambda facts: {"model_dtype": facts.machine.quickest_dtype},
        lambda facts: (
            "seconds a megapixel of the backbone: "
            + ", ".join(f"{name.lower()} {pace:.2f}" for name, pace in facts.machine.seconds_per_megapixel.items())
        ),
        "features in bf16 are off by 0.006 (docs/performance.md); all figures are of bf16",
    ),
    Rule(
        "data loading",
        "one process on a CPU, where the model itself uses the cores; up to eight beside a GPU",
        lambda facts: True,
        lambda facts: {
            "num_workers": (
                min(facts.machine.cores - 1, 1) if facts.machine.device == "cpu" else min(8, facts.machine.cores - 1)
            )
        },
        lambda facts: f"{facts.machine.cores} cores, model on {facts.machine.device}",
        "all figures are of one process on two cores",
    ),
)
