"""The choices of a plan as they are told: by rules, given in their place, or by arithmetic."""

from collections.abc import Mapping
from typing import Any

from dinoseg.config import Config
from dinoseg.planning.machine_pace import MeasuredPace
from dinoseg.planning.plan import Choice, Times
from dinoseg.planning.request import PlanRequest
from dinoseg.planning.rule import Facts
from dinoseg.planning.rules import decide
from dinoseg.system.messages import duration_in_words
from dinoseg.training.budget import MARGIN

# The reason of what a user decided, in whole or in part.
BESIDE_GIVEN = "beside what was given"


def rule_choices(request: PlanRequest, facts: Facts) -> list[Choice]:
    """One of each topic. Of one that a user decided, the rule's reason and evidence are not those."""
    choices = []
    for rule, values in decide(facts):
        given = any(request.holds(key) for key in values)
        reason, evidence = (BESIDE_GIVEN, "") if given else (rule.reason(facts), rule.evidence)
        choices.append(_choice(request, rule.topic, values, reason, evidence))
    return choices


def length_choices(request: PlanRequest, config: Config, pace: MeasuredPace, times: Times, images: int) -> list[Choice]:
    """Steps and evaluations.

    Args:
        images: of the validation split.
    """
    each = f"{pace.step_seconds:.2g} s a step"
    reason, evidence = f"{each}; no budget was given", "as many as the recipes' best runs"
    if request.minutes is not None:
        reason, evidence = (
            f"{each}, in what {request.minutes:g} min leave after {duration_in_words(times.begin)} to begin, "
            f"{duration_in_words(times.features)} of features, {duration_in_words(times.evaluations)} of evaluation, "
            f"less {100 * MARGIN:.0f} %",
            "",
        )
    seen = min(images, config.eval.max_val_samples or images)
    evaluated = {"eval.eval_interval": config.eval.eval_interval, "eval.max_val_samples": config.eval.max_val_samples}
    words = f"{seen} of {images} validation images take {pace.image_seconds * seen:.2g} s"
    return [
        _choice(request, "steps", {"scheduler.total_iter": config.scheduler.total_iter}, reason, evidence),
        _choice(request, "evaluation", evaluated, words),
    ]


def _choice(request: PlanRequest, topic: str, values: Mapping[str, Any], reason: str, evidence: str = "") -> Choice:
    """What was given is left out of what is decided; so is what a rule leaves to its default."""
    decided = {key: value for key, value in values.items() if value is not None and not request.holds(key)}
    given = {key: request.given[key] for key in values if request.holds(key)}
    return Choice(topic, decided, given, reason, evidence)
