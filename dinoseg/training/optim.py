"""Optimiser and learning-rate schedule: AdamW groups, and schedules as plain functions of the step."""

import bisect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from dinoseg.backbone import Backbone
from dinoseg.config import OptimizerConfig, SchedulerConfig
from dinoseg.models.segmenter import Segmenter

Schedule = Callable[[int], float]


def build_optimizer(segmenter: Segmenter, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over what is trainable; no weight decay on norms, biases and embeddings (anything of one dimension too).

    The backbone gets ``backbone_lr_factor`` times the learning rate, and each of its layers ``layer_decay`` to the
    power of its distance from the head: 1 for the last block, one more than there are blocks for the embeddings
    (Bao et al. 2022, "BEiT", fine-tuning). The first groups are those of the head.
    """
    assert config.lr is not None and config.weight_decay is not None  # filled in when the config was loaded
    embeddings = {id(module.weight) for module in segmenter.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in segmenter.named_parameters():
        if parameter.requires_grad:
            undecayed = (
                parameter.ndim <= 1
                or id(parameter) in embeddings
                or name.endswith(("embed", "token", "level_encoding"))
            )
            rate = config.lr * _rate_factor(segmenter.backbone, name, config)
            groups.setdefault((name.startswith("backbone."), rate, undecayed), []).append(parameter)
    settings = [
        {"params": groups[key], "lr": key[1], "weight_decay": 0.0 if key[2] else config.weight_decay}
        for key in sorted(groups, key=lambda key: key[0])
    ]
    return torch.optim.AdamW(settings, betas=(config.beta1, config.beta2))


def _rate_factor(backbone: Backbone, name: str, config: OptimizerConfig) -> float:
    if not name.startswith("backbone."):
        return 1.0
    # Filled in when the config was loaded.
    assert config.backbone_lr_factor is not None and config.layer_decay is not None
    distance = backbone.layers[-1] + 1 - backbone.layer_of(name.removeprefix("backbone."))
    return config.backbone_lr_factor * config.layer_decay**distance


def build_schedule(config: SchedulerConfig) -> Schedule:
    """The factor on the learning rate as a function of the step, 0 .. total_iter - 1.

    Raises:
        ValueError: an option in ``scheduler.constructor_kwargs`` that the schedule does not have, or a bad value.
    """
    options: dict[str, Any] = dict(config.constructor_kwargs)
    builders = {
        "WarmupOneCycleLR": (
            _one_cycle,
            ("warmup_iters", "warmup_ratio", "pct_start", "div_factor", "final_div_factor", "anneal_strategy"),
        ),
        "WarmupMultiStepLR": (_multi_step, ("warmup_iters", "warmup_ratio", "milestones", "gamma")),
        "WarmupPolyLR": (_poly, ("warmup_iters", "warmup_ratio", "power")),
        "Constant": (_constant, ("warmup_iters", "warmup_ratio")),
    }
    builder, accepted = builders[config.type]
    for key in options:
        if key not in accepted:
            raise ValueError(
                f"scheduler.constructor_kwargs.{key}: {config.type} has no such option; use one of "
                f"{', '.join(accepted)}"
            )
    total = config.total_iter
    # 1500 steps as in the DINOv3 configs, 5 % of a run too short for that.
    warmup = int(options.pop("warmup_iters", min(1500, total // 20)))
    ratio = float(options.pop("warmup_ratio", 1e-6))
    if total and not 0 <= warmup < total:
        raise ValueError(
            f"scheduler.constructor_kwargs.warmup_iters={warmup} does not fit scheduler.total_iter={total}; give less"
        )
    after = builder(total, warmup, options)

    def factor(step: int) -> float:
        if step < warmup:
            return after(warmup) * (ratio + (1 - ratio) * step / warmup)
        return after(min(step, total - 1))

    return factor


def scaled_options(options: Mapping[str, Any], before: int, steps: int) -> dict[str, Any]:
    """Options of a schedule of ``before`` steps for one of ``steps``: warm-up and milestones keep their shares."""
    scaled = dict(options)
    if "warmup_iters" in options:
        scaled["warmup_iters"] = int(options["warmup_iters"]) * steps // max(1, before)
    if "milestones" in options:
        scaled["milestones"] = [int(step) * steps // max(1, before) for step in options["milestones"]]
    return scaled


def _one_cycle(total: int, warmup: int, options: dict[str, Any]) -> Schedule:
    """Rise from 1/div_factor over pct_start of the steps after warm-up, then fall to 1/(div_factor final_div_factor).

    Smith and Topin 2018, "Super-convergence"; with DINOv3's pct_start = 0 only the fall remains.
    """
    rise_share = float(options.get("pct_start", 0.0))
    start = 1.0 / float(options.get("div_factor", 25.0))
    end = start / float(options.get("final_div_factor", 1e4))
    strategy = options.get("anneal_strategy", "cos")
    if strategy not in ("cos", "linear"):
        raise ValueError(f"scheduler.constructor_kwargs.anneal_strategy={strategy!r}; choose cos or linear")

    def between(first: float, last: float, share: float) -> float:
        if strategy == "linear":
            return first + (last - first) * share
        return last + (first - last) * (1 + math.cos(math.pi * share)) / 2

    length = max(1, total - 1 - warmup)
    rise = rise_share * length

    def factor(step: int) -> float:
        position = step - warmup
        if position < rise:
            return between(start, 1.0, position / rise)
        return between(1.0, end, (position - rise) / max(1e-9, length - rise))

    return factor


def _multi_step(total: int, warmup: int, options: dict[str, Any]) -> Schedule:
    milestones = sorted(int(step) for step in options.get("milestones", [total * 2 // 3, total * 8 // 9]))
    gamma = float(options.get("gamma", 0.1))
    return lambda step: gamma ** bisect.bisect_right(milestones, step)


def _poly(total: int, warmup: int, options: dict[str, Any]) -> Schedule:
    power = float(options.get("power", 1.0))
    return lambda step: (1 - (step - warmup) / max(1, total - warmup)) ** power


def _constant(total: int, warmup: int, options: dict[str, Any]) -> Schedule:
    return lambda step: 1.0
