"""Learning-rate schedules by hand, and who gets weight decay."""

from typing import Any

import pytest

from dinoseg.config import SchedulerConfig
from dinoseg.config.loading import load_config
from dinoseg.models.segmenter import Segmenter, build_segmenter
from dinoseg.training.optim import build_optimizer, build_schedule

pytestmark = pytest.mark.filterwarnings("ignore:.*random initialisation.*")


def settings(type: str, total_iter: int, options: dict[str, Any]) -> SchedulerConfig:
    return SchedulerConfig(type=type, total_iter=total_iter, constructor_kwargs=options)


def test_one_cycle_warms_up_then_falls_by_cosine() -> None:
    schedule = build_schedule(
        SchedulerConfig(
            type="WarmupOneCycleLR", total_iter=111, constructor_kwargs={"warmup_iters": 10, "warmup_ratio": 0.0}
        )
    )
    assert schedule(0) == 0.0
    assert schedule(5) == pytest.approx(0.5)
    assert schedule(10) == pytest.approx(1.0)
    assert schedule(60) == pytest.approx(0.5, abs=1e-4)
    assert schedule(110) == pytest.approx(1 / 25 / 1e4)


def test_one_cycle_with_rise_and_linear_anneal() -> None:
    options = {
        "warmup_iters": 0,
        "pct_start": 0.5,
        "div_factor": 10.0,
        "final_div_factor": 1.0,
        "anneal_strategy": "linear",
    }
    schedule = build_schedule(settings("WarmupOneCycleLR", 101, options))
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(25) == pytest.approx(0.55)
    assert schedule(50) == pytest.approx(1.0)
    assert schedule(100) == pytest.approx(0.1)


def test_multi_step_and_poly_and_constant() -> None:
    multi = build_schedule(
        SchedulerConfig(
            type="WarmupMultiStepLR", total_iter=100, constructor_kwargs={"warmup_iters": 0, "milestones": [50, 80]}
        )
    )
    assert [multi(49), multi(50), multi(80)] == pytest.approx([1.0, 0.1, 0.01])
    poly = build_schedule(settings("WarmupPolyLR", 100, {"warmup_iters": 0, "power": 2.0}))
    assert poly(50) == pytest.approx(0.25)
    constant = build_schedule(settings("Constant", 100, {"warmup_iters": 4, "warmup_ratio": 0.0}))
    assert [constant(2), constant(99)] == pytest.approx([0.5, 1.0])


def test_warmup_is_five_percent_of_a_short_run_and_1500_steps_of_a_long_one() -> None:
    short, long = build_schedule(SchedulerConfig(total_iter=200)), build_schedule(SchedulerConfig(total_iter=40000))
    assert short(9) < short(10) == pytest.approx(1.0)
    assert long(1499) < long(1500) == pytest.approx(1.0)


def test_mistakes_name_the_option() -> None:
    with pytest.raises(
        ValueError, match=r"constructor_kwargs\.warmup: WarmupOneCycleLR has no such option; use one of warmup_iters"
    ):
        build_schedule(SchedulerConfig(constructor_kwargs={"warmup": 3}))
    with pytest.raises(ValueError, match=r"warmup_iters=30 does not fit scheduler\.total_iter=20"):
        build_schedule(SchedulerConfig(total_iter=20, constructor_kwargs={"warmup_iters": 30}))
    with pytest.raises(ValueError, match="anneal_strategy='exp'; choose cos or linear"):
        build_schedule(SchedulerConfig(constructor_kwargs={"anneal_strategy": "exp"}))


def _segmenter(*settings: str) -> tuple[Segmenter, dict[str, tuple[float, float]]]:
    """A tiny segmenter, and the learning rate and weight decay of its trained parameters by name."""
    config = load_config(["model.dino_hub=tiny_vit8", "model.weights=none", "optimizer.lr=1.0", *settings])
    segmenter = build_segmenter(config, 3)
    groups = build_optimizer(segmenter, config.optimizer).param_groups
    found = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    return segmenter, {n: found[id(p)] for n, p in segmenter.named_parameters() if id(p) in found}


def test_decay_only_on_weights_and_a_smaller_rate_for_the_backbone() -> None:
    m2f = ["decoder_head.type=m2f", "decoder_head.hidden_dim=32", "decoder_head.decoder_layers=1"]
    segmenter, settings = _segmenter("model.mode=full", "optimizer.weight_decay=0.5", *m2f)
    assert set(settings) == {name for name, parameter in segmenter.named_parameters() if parameter.requires_grad}
    assert settings["backbone.model.blocks.0.attn.qkv.weight"] == (0.1, 0.5)
    assert settings["backbone.model.blocks.0.attn.qkv.bias"] == (0.1, 0.0)
    assert settings["backbone.model.pos_embed"] == settings["backbone.model.cls_token"] == (0.1, 0.0)
    assert settings["head.predictor.class_embed.weight"] == (1.0, 0.5)
    assert settings["head.predictor.post_norm.weight"] == (1.0, 0.0)
    assert settings["head.predictor.query_feat.weight"] == (1.0, 0.0)


def test_a_frozen_backbone_is_not_in_the_optimiser() -> None:
    _, settings = _segmenter()
    assert not [name for name in settings if name.startswith("backbone.")]


@pytest.mark.parametrize(("mode", "factor"), [("full", 0.1), ("lora", 1e-3)])
def test_layer_decay_falls_from_the_last_block_to_the_embeddings(mode: str, factor: float) -> None:
    # The head's rate is 1, of which adapters have 1e-3.
    _, settings = _segmenter(f"model.mode={mode}", "optimizer.layer_decay=0.5")
    for name, (rate, _) in settings.items():
        if name.startswith("backbone.model.blocks."):
            block = int(name.split(".")[3])
            assert rate == pytest.approx(factor * 0.5 ** (4 - block)), name
    assert settings["head.conv.weight"][0] == 1.0
    if mode == "full":
        assert settings["backbone.model.norm.weight"][0] == pytest.approx(0.1)
        for name in ("patch_embed.proj.weight", "pos_embed", "cls_token"):
            assert settings[f"backbone.model.{name}"][0] == pytest.approx(0.1 * 0.5**5)


def test_layer_decay_counts_from_the_last_tapped_layer() -> None:
    _, settings = _segmenter("model.mode=full", "optimizer.layer_decay=0.5", "decoder_head.backbone_out_layers=[1]")
    assert settings["backbone.model.blocks.1.norm1.weight"][0] == pytest.approx(0.1 * 0.5)
    assert settings["backbone.model.pos_embed"][0] == pytest.approx(0.1 * 0.5**3)


def test_the_rate_that_is_logged_is_the_heads() -> None:
    config = load_config(["model.dino_hub=tiny_vit8", "model.weights=none", "model.mode=full", "optimizer.lr=0.5"])
    assert build_optimizer(build_segmenter(config, 3), config.optimizer).param_groups[0]["lr"] == 0.5


def test_a_run_without_steps_needs_no_room_for_its_warm_up() -> None:
    build_schedule(SchedulerConfig(total_iter=0, constructor_kwargs={"warmup_iters": 1500}))
