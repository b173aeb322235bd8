"""``train``, ``plan`` and ``demo``: arguments and options."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dinoseg.commands.keys import CommandWithKeys
from dinoseg.system.terminal import terminal


class TrainCommand(CommandWithKeys):
    """``train``, whose ``--resume`` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_resume_value(args) if "--resume" in args else args)


def _with_resume_value(arguments: list[str]) -> list[str]:
    from dinoseg.training.resume import RESUME_CHOICES

    position = arguments.index("--resume") + 1
    named = position < len(arguments) and arguments[position] in RESUME_CHOICES
    return arguments if named else [*arguments[:position], "last", *arguments[position:]]


def train(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [minutes=MINUTES] [KEY=VALUE]...",
            help="Run folder to go on with; config=FILE, overrides. minutes: plan what is not given, be done by then.",
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[last|auto|previous|best]",
            help="Go on with the run in output_dir: from its last checkpoint; auto: start when there is none yet; "
            "previous: from the one before the last; best.",
        ),
    ] = None,
) -> None:
    """Train a head on a backbone, frozen or not, and write a run folder."""
    from dinoseg.config.loading import is_given, is_setting, load_config

    started, given = time.monotonic(), settings or []
    within = is_given("minutes", given)
    # Before torch is imported, which takes seconds: a wrong key is answered at once.
    config = load_config(given) if all(map(is_setting, given)) and not within else None
    from dinoseg.run_folder.folder import settings_of_run
    from dinoseg.system.processes import leaving_together

    with leaving_together():
        if within:
            from dinoseg.verbs.plan import train_within

            train_within(given, resume, terminal(), started)
        else:
            from dinoseg.verbs.train_folds import train_as_asked

            train_as_asked(config or load_config(settings_of_run(given)), terminal(), resume)


def plan(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[minutes=MINUTES] [KEY=VALUE]...", help="Budget; config=FILE and overrides, which are kept."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the plan as a recipe, for train config=FILE.")
    ] = None,
) -> None:
    """Look at data and machine; choose head, scale, crops, steps and the rest for a budget, each with its reason."""
    started = time.monotonic()
    from dinoseg.verbs.plan import run_plan

    run_plan(settings or [], out, terminal(), started)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, run and predictions.")] = Path("dinoseg-demo"),
    head: Annotated[str, typer.Option(help="linear, dense or m2f.")] = "dense",
) -> None:
    """Show the whole job without data or network: make a retina-like data set, check, train, evaluate, predict."""
    from dinoseg.verbs.demo import run_demo

    run_demo(out, head, terminal())
