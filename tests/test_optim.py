"""Learning-rate schedules by hand, and who gets weight decay."""

import pytest
from torch import nn

from dinoseg.config import OptimizerConfig, SchedulerConfig
from dinoseg.training.optim import build_optimizer, build_schedule


def test_one_cycle_warms_up_then_falls_by_cosine() -> None:
    schedule = build_schedule(SchedulerConfig("WarmupOneCycleLR", 111, {"warmup_iters": 10, "warmup_ratio": 0.0}))
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
    schedule = build_schedule(SchedulerConfig("WarmupOneCycleLR", 101, options))
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(25) == pytest.approx(0.55)
    assert schedule(50) == pytest.approx(1.0)
    assert schedule(100) == pytest.approx(0.1)


def test_multi_step_and_poly_and_constant() -> None:
    multi = build_schedule(SchedulerConfig("WarmupMultiStepLR", 100, {"warmup_iters": 0, "milestones": [50, 80]}))
    assert [multi(49), multi(50), multi(80)] == pytest.approx([1.0, 0.1, 0.01])
    poly = build_schedule(SchedulerConfig("WarmupPolyLR", 100, {"warmup_iters": 0, "power": 2.0}))
    assert poly(50) == pytest.approx(0.25)
    constant = build_schedule(SchedulerConfig("Constant", 100, {"warmup_iters": 4, "warmup_ratio": 0.0}))
    assert [constant(2), constant(99)] == pytest.approx([0.5, 1.0])


def test_warmup_is_five_percent_of_a_short_run_and_1500_steps_of_a_long_one() -> None:
    short, long = build_schedule(SchedulerConfig(total_iter=200)), build_schedule(SchedulerConfig(total_iter=40000))
    assert short(9) < short(10) == pytest.approx(1.0)
    assert long(1499) < long(1500) == pytest.approx(1.0)


def test_mistakes_name_the_option() -> None:
    with pytest.raises(
        ValueError, match=r"constructor_kwargs\.warmup: WarmupOneCycleLR has no such option; it has warmup_iters"
    ):
        build_schedule(SchedulerConfig(constructor_kwargs={"warmup": 3}))
    with pytest.raises(ValueError, match=r"warmup_iters=30 does not fit scheduler\.total_iter=20"):
        build_schedule(SchedulerConfig(total_iter=20, constructor_kwargs={"warmup_iters": 30}))
    with pytest.raises(ValueError, match="anneal_strategy='exp'; choose cos or linear"):
        build_schedule(SchedulerConfig(constructor_kwargs={"anneal_strategy": "exp"}))


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.Embedding(3, 4))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_decay_only_on_weights_and_a_smaller_rate_for_the_backbone() -> None:
    model = _Model()
    optimizer = build_optimizer(model, OptimizerConfig(lr=1.0, weight_decay=0.5, backbone_lr_factor=0.1))
    settings = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert settings[id(model.backbone.weight)] == (0.1, 0.5)
    assert settings[id(model.backbone.bias)] == (0.1, 0.0)
    assert settings[id(model.head[0].weight)] == (1.0, 0.5)
    assert settings[id(model.head[1].weight)] == (1.0, 0.0)
    assert settings[id(model.head[2].weight)] == (1.0, 0.0)
    assert id(model.frozen.weight) not in settings
