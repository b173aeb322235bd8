"""``dinoseg plan``, and ``dinoseg train minutes=20``: looks at data and machine, and chooses."""

import math
import os
import shlex
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from dinoseg.check.check import check_dataset
from dinoseg.config import Config
from dinoseg.config.folds import ALL_FOLDS
from dinoseg.data.picture_form import PictureForm
from dinoseg.models.segmenter import build_segmenter
from dinoseg.planning.choices import BESIDE_GIVEN
from dinoseg.planning.fingerprint import take_fingerprint
from dinoseg.planning.machine import measure_machine
from dinoseg.planning.machine_pace import MeasuredPace, measure_pace
from dinoseg.planning.plan import Plan
from dinoseg.planning.planner import Clock, Planner
from dinoseg.planning.recipe_file import EVIDENCE, comment_of, data_in_words, recipe_yaml
from dinoseg.planning.request import PlanRequest
from dinoseg.run_folder.folder import RunFolder, settings_of_run
from dinoseg.system.accelerator import start_accelerator
from dinoseg.system.device import pick_device
from dinoseg.system.files import refuse_unwritable, replace_text
from dinoseg.system.messages import duration_in_words, shell_word
from dinoseg.training.budget import Planned
from dinoseg.training.load_from import refuse_missing
from dinoseg.training.resume import find_resume_point
from dinoseg.training.setup import settled_by_data
from dinoseg.verbs.fit_data import refuse_unfit
from dinoseg.verbs.train import Start, refuse_what_cannot_be, train

# Seconds at most, and share of a budget: for masks, and for the steps of each way that is timed.
_MASKS, _STEPS = (5.0, 0.006), (8.0, 0.01)


def make_plan(request: PlanRequest, console: Console, started: float, trains_now: bool) -> Plan:
    """Checks the data set, looks at masks and machine, and plans.

    Args:
        started: by ``time.monotonic``, when the program began.
        trains_now: a training follows, whose budget runs already.

    Raises:
        ValueError: the data set is not fit for training, weights are not to be had, or the budget has room for nothing.
    """
    config, say = request.alone, partial(console.print, markup=False, highlight=False, soft_wrap=True)
    budget = math.inf if request.minutes is None else 60 * request.minutes
    for_masks, for_steps = (min(most, share * budget) for most, share in (_MASKS, _STEPS))
    # It may take a minute until there is more to say.
    say(
        f"planning: checks the data, looks at masks ({for_masks:.2g} s) and times the ways to train that may fit "
        f"on this machine ({for_steps:.2g} s of steps each)"
    )
    report = check_dataset(config.datasets, config.decoder_head.num_classes, console=console)
    refuse_unfit(report, console)
    config = settled_by_data(config, report)
    space = report.label_space
    assert space is not None
    accelerator = start_accelerator(pick_device(config.device))
    with warnings.catch_warnings():
        backbone = build_segmenter(config, space.num_classes).backbone
        begin = time.monotonic() - started
        machine = measure_machine(backbone, accelerator.device)
        fingerprint = take_fingerprint(report, PictureForm.of(config.datasets), for_masks)

        def measure(candidate: Config) -> MeasuredPace:
            # Said once, of the backbone above.
            warnings.simplefilter("ignore")
            return measure_pace(settled_by_data(candidate, report), report, accelerator, for_steps)

        return Planner(request, fingerprint, machine, Clock(started, begin, trains_now), measure).plan()


def show_plan(plan: Plan, console: Console) -> None:
    """Prints what the plan rests on, each choice with its reason, and the times."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    for line in plan_in_words(plan):
        say(line)


def plan_in_words(plan: Plan) -> list[str]:
    """The plan, a line each."""
    lines = ["the data", *(f"  {line}" for line in data_in_words(plan)), f"the plan ({EVIDENCE})"]
    # A file may give most topics: of these there is nothing to tell but where they come from.
    taken = [choice for choice in plan.choices if choice.reason == BESIDE_GIVEN and not choice.values]
    for source in dict.fromkeys(source for choice in taken for source in choice.given.values()):
        topics = ", ".join(choice.topic for choice in taken if source in choice.given.values())
        lines.append(f"  {source} (given): {topics}")
    for choice in (choice for choice in plan.choices if choice not in taken):
        settings = ", ".join(f"{key}={_shown(value)}" for key, value in choice.values.items())
        given = ", ".join(f"{source} (given)" for source in dict.fromkeys(choice.given.values()))
        lines.append(f"  {'; '.join(text for text in (settings, given) if text)}")
        lines.append(f"      {comment_of(choice)}")
    lines += [f"  passed over: {words}" for words in plan.passed_over]
    times = plan.times
    parts = zip(
        ("to begin", "features", "steps", "evaluation"),
        (times.begin, times.features, times.steps, times.evaluations),
        strict=True,
    )
    told = ", ".join(f"{name} {duration_in_words(seconds)}" for name, seconds in parts)
    lines.append(f"time         about {duration_in_words(times.total)}: {told}")
    if plan.config.datasets.fold == ALL_FOLDS:
        lines.append(f"             of each of {plan.config.datasets.folds} folds, one after the other")
    if plan.budget is not None and times.total > plan.budget.seconds:
        # Steps that were given, or an end of the features that no way leaves time after.
        lines.append(f"             more than {duration_in_words(plan.budget.seconds)}: the training will end early")
    return lines


def run_plan(arguments: Sequence[str], out: Path | None, console: Console, started: float) -> Plan:
    """``dinoseg plan``: prints the plan, and writes it as a recipe.

    Raises:
        ValueError: as ``make_plan``; or ``out`` is there already.
    """
    if out is not None and os.path.lexists(out):
        raise ValueError(
            f"--out {out}: is there already, and may have been changed by hand; give another file, or remove it"
        )
    if out is not None:
        refuse_unwritable(out.parent, "--out")
    request = PlanRequest.of(arguments)
    plan = make_plan(request, console, started, trains_now=False)
    show_plan(plan, console)
    if out is not None:
        replace_text(out, recipe_yaml(plan, " ".join(["dinoseg plan", *map(shlex.quote, arguments)])))
        following = f"next: dinoseg train config={shell_word(out)} output_dir=RUN"
        console.print(following, markup=False, highlight=False, soft_wrap=True)
    return plan


def train_within(arguments: Sequence[str], resume: str | None, console: Console, started: float) -> RunFolder:
    """``dinoseg train ... minutes=20``: plans, trains, and is done, evaluation included, when the minutes are over.

    Raises:
        ValueError: as ``make_plan`` and ``train``; or a training that goes on, or is of several processes.
    """
    request = PlanRequest.of(settings_of_run(arguments))
    assert request.minutes is not None
    budget = f"minutes={request.minutes:g}"
    if resume is not None:
        raise ValueError(
            f"{budget} with --resume {resume}: how long a run is was settled when it began; leave {budget} out, and it "
            "goes on to the end of its schedule"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            f"{budget} with several processes: a plan is measured in one; make it with dinoseg plan {budget} ... --out "
            "plan.yaml on that machine, and train config=plan.yaml"
        )
    if request.alone.datasets.fold == ALL_FOLDS:
        raise ValueError(
            f"{budget} with datasets.folds={request.alone.datasets.folds}: each fold is a training of its own; name "
            f"one (datasets.fold=0), or plan one with dinoseg plan {budget} ... --out plan.yaml, and train all with "
            "config=plan.yaml"
        )
    # What no plan can help is told before anything is measured.
    refuse_what_cannot_be(request.alone)
    if request.alone.load_from:
        refuse_missing(request.alone.load_from)
    refuse_unwritable(Path(request.alone.output_dir), "output_dir")
    find_resume_point(RunFolder(Path(request.alone.output_dir)), None)
    plan = make_plan(request, console, started, trains_now=True)
    show_plan(plan, console)
    assert plan.budget is not None
    command = " ".join(["dinoseg train", *map(shlex.quote, arguments)])
    planned = Planned(plan.budget, "\n".join(plan_in_words(plan)), recipe_yaml(plan, command))
    return train(plan.config, console, Start(planned=planned))


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
