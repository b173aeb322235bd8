"""Every rule decides somewhere, and of what was measured they choose what was best."""

from typing import Any

import pytest
from helpers.fingerprints import NO_UP, UP, class_print, machine, retina, street

from dinoseg.config import Config, with_changes
from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.machine import Machine
from dinoseg.planning.positions import Positions
from dinoseg.planning.rule import Facts, Way
from dinoseg.planning.rules import RULES, decide
from dinoseg.planning.ways import FEWEST_STEPS, SCALES, least_steps, wanted_scale, ways

DENSE, SHORT, LINEAR = Way("dense", 1.0, True, long=True), Way("dense", 1.0, True), Way("linear", 1.0, True)
BALANCED = (class_print("a", 0.5, 100.0), class_print("b", 0.5, 90.0))
# Facts under which each rule decides, by topic and condition.
CASES: list[tuple[str, str, Fingerprint, Machine, Way]] = [
    ("head", "there is time for", retina(), machine(), DENSE),
    ("head", "there is not", street(), machine(), LINEAR),
    ("head", "another was asked for", street(), machine(), Way("m2f", 1.0, True)),
    ("scale", "half of the classes", retina(), machine(), DENSE),
    ("cache", "there is time to compute", retina(), machine(), DENSE),
    ("cache", "there is not", retina(), machine(), Way("dense", 1.0, False)),
    ("features left out", "dense, half", retina(), machine(), DENSE),
    ("batch and crop", "dense", street(), machine(), Way("dense", 1.5, True)),
    ("batch and crop", "other heads", street(), machine(), LINEAR),
    ("class weights", "linear, the rarest", street(), machine(), LINEAR),
    ("class weights", "otherwise", retina(), machine(), DENSE),
    ("rare classes", "a class is missing", street(), machine(), DENSE),
    ("redrawn crops", "dense", retina(), machine(), DENSE),
    ("orientation", "classes lie upside down", retina(positions=NO_UP), machine(), DENSE),
    ("orientation", "they do not", retina(positions=UP), machine(), DENSE),
    ("appearance", "dense, no thin", street(), machine(), Way("dense", 1.5, True)),
    ("appearance", "dense, thin", retina(), machine(), DENSE),
    ("evaluation window", "the backbone sees", retina(), machine(), DENSE),
    ("evaluation window", "it does not", retina(largest=(3000, 4000)), machine(), DENSE),
    ("precision", "always", retina(), machine(), DENSE),
    ("data loading", "one process", retina(), machine(), DENSE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[1]}")
def test_each_rule_decides_where_its_condition_holds(case: tuple[str, str, Fingerprint, Machine, Way]) -> None:
    topic, condition, data, found, way = case
    facts = Facts(data, found, way)
    decided = {rule.topic: (rule, values) for rule, values in decide(facts)}
    rule, values = decided[topic]
    assert rule.condition.startswith(condition)
    assert rule.reason(facts) and rule.evidence
    # What is chosen is allowed.
    with_changes(Config(), {key: value for key, value in values.items() if value is not None})


def test_no_rule_is_without_a_case() -> None:
    told = {(topic, condition) for topic, condition, *_ in CASES}
    for rule in RULES:
        assert [topic for topic, condition in told if topic == rule.topic and rule.condition.startswith(condition)]
    assert len(told) == len(RULES)


def _chosen(data: Fingerprint, way: Way, found: Machine | None = None) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for _, values in decide(Facts(data, found or machine(), way)):
        chosen |= values
    return chosen


def test_what_was_measured_to_be_best_on_drive_is_chosen_for_its_like() -> None:
    """recipes/retina.yaml."""
    assert wanted_scale("dense", retina(), 14) == 1.0
    assert ways(retina(), 14)[0] == DENSE
    chosen = _chosen(retina(), DENSE)
    expected = {"bs": 4, "transforms.train.crop_size": 288, "optimizer.lr": 2e-3, "train.ema_decay": 0.99}
    expected |= {"transforms.train.rotation": 180.0, "transforms.train.vertical_flip_prob": 0.5}
    expected |= {"decoder_head.output_stride": 2, "decoder_head.feature_dropout": 0.5}
    expected |= {"eval.mode": "whole", "model_dtype": "BFLOAT16", "num_workers": 1}
    assert expected.items() <= chosen.items()
    assert "transforms.train.foreground_share" not in chosen


def test_in_little_time_crops_are_not_turned_and_keep_their_features() -> None:
    chosen = _chosen(retina(), SHORT)
    expected = {"bs": 4, "decoder_head.output_stride": 2, "transforms.train.rotation": 0.0}
    assert expected.items() <= chosen.items()
    assert "decoder_head.feature_dropout" not in chosen
    assert [way for way in ways(retina(), 14) if way.head == "dense" and way.cached and not way.long] == [SHORT]
    assert not any(way.long for way in ways(street(), 14))
    assert _chosen(retina(), LINEAR)["transforms.train.rotation"] == 180.0


def test_what_was_measured_to_be_best_on_camvid_is_chosen_for_its_like() -> None:
    """recipes/street.yaml; the linear head's, where there is no time for it."""
    assert ways(street(), 14)[0] == Way("dense", 1.5, True)
    chosen = _chosen(street(), Way("dense", 1.5, True))
    expected = {"bs": 4, "decoder_head.output_stride": 2, "transforms.train.foreground_share": 0.3}
    expected |= {"transforms.train.rotation": 0.0, "transforms.train.vertical_flip_prob": 0.0}
    assert expected.items() <= chosen.items()
    linear = _chosen(street(), LINEAR)
    expected = {"decoder_head.backbone_out_layers": "FOUR_LAST", "train.class_weights": "auto", "optimizer.lr": 5e-3}
    assert expected.items() <= linear.items()


def test_wide_classes_may_be_seen_smaller_and_others_may_not() -> None:
    assert {way.scale for way in ways(retina(classes=BALANCED), 14)} == {1.0, 0.75, 0.5}
    assert {way.scale for way in ways(street(), 14)} == {1.5, 1.0}
    assert {way.scale for way in ways(retina(), 14) if way.head == "linear"} == {2.0, 1.5, 1.0}
    assert {way.scale for way in ways(retina(), 14) if way.head == "dense"} == {1.0}
    assert set(SCALES) >= {2.0, 1.5, 1.0}


def test_a_class_without_a_pixel_decides_nothing() -> None:
    never = class_print("never", 0.0, None, images=0.0)
    with_it = retina(classes=(*retina().classes, never))
    assert _chosen(with_it, DENSE) == _chosen(retina(), DENSE)
    assert ways(with_it, 14) == ways(retina(), 14)


def test_crops_are_no_larger_than_images_need() -> None:
    assert _chosen(retina(size=(40, 56)), DENSE)["transforms.train.crop_size"] == 64
    assert _chosen(retina(size=(1, 1)), DENSE)["transforms.train.crop_size"] == 32


def test_few_images_are_not_turned_and_a_gpu_reads_with_more_processes() -> None:
    facts = Facts(retina(positions=Positions(4, 1.0, 1.0)), machine(device="cuda", cores=16), DENSE)
    chosen = {key: value for _, values in decide(facts) for key, value in values.items()}
    assert chosen["transforms.train.rotation"] == 0.0 and chosen["num_workers"] == 8
    reasons = [rule.reason(facts) for rule, _ in decide(facts) if rule.topic == "orientation"]
    assert reasons == ["4 masks are too few to tell whether images have an up, so they are left upright"]
    assert _chosen(retina(), DENSE, machine(cores=1))["num_workers"] == 0


def test_without_a_cache_the_reason_is_the_backbone_or_the_time() -> None:
    uncached, told = Way("linear", 1.0, False), []
    for keeps_features in (True, False):
        facts = Facts(street(), machine(), uncached, keeps_features)
        told += [rule.reason(facts) for rule, _ in decide(facts) if rule.topic == "cache"]
    assert told[0].endswith("there is no time, or no room, for a pass over all images")
    assert told[1].endswith("the backbone is trained, or random")


def test_thin_classes_are_worth_few_steps() -> None:
    assert least_steps(SHORT, retina(), 14) == 80 < least_steps(SHORT, street(), 14) == 385
    assert least_steps(DENSE, retina(), 14) == 800
    assert least_steps(Way("m2f", 1.0, True), retina(), 14) == FEWEST_STEPS
