"""The rules by which a recipe is chosen: each with its condition, its choice, its reason and its evidence.

Of each topic the first rule that holds decides. Figures are mIoU of the test split from docs/results.md,
benchmarks/quality_minutes.json and the headers of recipes/; where nothing was measured, the evidence says so.
"""

import math
from typing import Any

from dinoseg.planning.reasons import (
    no_cache_in_words,
    orientation_in_words,
    rare_in_words,
    scale_in_words,
    width_in_words,
    window_in_words,
)
from dinoseg.planning.rule import Facts, Rule
from dinoseg.planning.ways import THIN, is_thin, wanted_scale

_CROP = {"dense": 288, "linear": 336, "m2f": 336, "pmt": 336, "eomt": 336}
# Megapixels that the backbone sees at once: 1168 x 1130 were measured.
_MOST_WHOLE = 4.0


def decide(facts: Facts) -> list[tuple[Rule, dict[str, Any]]]:
    """The rule of each topic that holds, and what it chooses."""
    decided: dict[str, Rule] = {}
    for rule in RULES:
        if rule.topic not in decided and rule.holds(facts):
            decided[rule.topic] = rule
    return [(rule, rule.choice(facts)) for rule in decided.values()]


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
        "DRIVE 51.1/55.1/57.6 after 5/9/18 min, linear 33, m2f 50.0 after 20; CamVid 56.7 after 20 min, linear 49.2, "
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
        "m2f: DRIVE 50.0 after 20 min, CamVid 52.3 after 125; pmt, eomt: not measured in minutes",
    ),
    Rule(
        "scale",
        "half of the classes are thinner than half a patch: 1 for the dense head, 2 for others; one is thinner than a "
        "patch: 1.5; else 1; less where there is no time for the pass over the images",
        lambda facts: True,
        lambda facts: {"model.backbone_scale": facts.way.scale},
        lambda facts: scale_in_words(
            facts,
            wanted_scale(facts.way.head, facts.data, facts.patch),
            len(facts.data.thinner_than(THIN * facts.patch)),
        ),
        "best runs: DRIVE (vein 4 px) 57.6 at 1, 56.7 at 2, in 5 min 51.1 and 38.6; CamVid (pole 3 px, most classes "
        "wide) 57.5 at 1.5; linear, CamVid: 51.3 at twice the size, 50.1 at 1",
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
        "dense",
        lambda facts: facts.way.head == "dense",
        lambda facts: {
            "bs": 4,
            "transforms.train.crop_size": _crop(facts),
            "decoder_head.output_stride": 2,
            "transforms.train.random_img_size_ratio_range": [0.75, 1.5],
        },
        lambda facts: f"a score for 2 x 2 pixels learns sooner, in half the time; crops of {_crop(facts)} px",
        "both dense recipes: 4 crops of 288 px; drawn specks in 2 min, turned: 63.3 after 99 steps, 47.6 after 140 of "
        "2 crops and single pixels",
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
        "features left out",
        "dense, half of the classes are thin, and there is time for many steps",
        lambda facts: facts.way.head == "dense" and facts.way.long and is_thin(facts.data, facts.patch),
        lambda facts: {"decoder_head.feature_dropout": 0.5},
        lambda facts: "half of the crops go without features, so that the stem learns what it can alone",
        "DRIVE, at twice the size: 56.2 without, 56.7 with; without features at all 56.6",
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
        "classes lie upside down where they lie upright, and there is time for many steps",
        lambda facts: not facts.data.positions.has_up and (facts.way.long or facts.way.head != "dense"),
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
        "they do not, there are too few images to tell, or there is no time",
        lambda facts: True,
        lambda facts: {"transforms.train.vertical_flip_prob": 0.0, "transforms.train.rotation": 0.0},
        lambda facts: (
            orientation_in_words(facts.data)
            + ("" if facts.data.positions.has_up else "; in few steps they are learned sooner as they lie")
        ),
        "recipes/street.yaml: mirrored, not turned; drawn specks, 2 min: 70.5 after 111 steps, turned 63.3 after 99",
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
