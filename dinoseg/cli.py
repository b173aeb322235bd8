"""The command line: which verbs there are, and what becomes of a mistake."""

import os
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from dinoseg import __version__
from dinoseg.commands.app import app as show_app
from dinoseg.commands.data import cache, check, import_annotations
from dinoseg.commands.figures import calibrate, compare, evaluate, report
from dinoseg.commands.hub import push
from dinoseg.commands.keys import CommandWithKeys
from dinoseg.commands.lists import backbones, options, zoo
from dinoseg.commands.predictions import export, predict, suggest
from dinoseg.commands.training import TrainCommand, demo, plan, train
from dinoseg.system.messages import system_error
from dinoseg.system.out_of_memory import memory_advice
from dinoseg.system.terminal import terminal

app = typer.Typer(
    name="dinoseg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Semantic segmentation on frozen DINO backbones. Add --debug anywhere for the traceback of an error.",
)


def _show_version(asked: bool | None) -> None:
    if asked:
        print(f"dinoseg {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = None,
) -> None:
    """What stands before a verb."""


# As --help lists them.
app.command(cls=CommandWithKeys)(check)
app.command("import")(import_annotations)
app.command(cls=TrainCommand)(train)
app.command(cls=CommandWithKeys)(plan)
app.command("eval", cls=CommandWithKeys)(evaluate)
app.command(cls=CommandWithKeys)(calibrate)
app.command()(compare)
app.command(cls=CommandWithKeys)(report)
app.command(cls=CommandWithKeys)(predict)
app.command(cls=CommandWithKeys)(suggest)
app.command("app", cls=CommandWithKeys)(show_app)
app.command(cls=CommandWithKeys)(export)
app.command()(push)
app.command()(options)
app.command()(backbones)
app.command()(zoo)
app.command()(cache)
app.command()(demo)


def main() -> None:
    """Runs the command line; a user's mistake is one message, ``--debug`` shows where it was raised."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app(args=arguments)
    except (ValueError, OSError) as error:
        if debug:
            traceback.print_exc()
        _fail(system_error(error) if isinstance(error, OSError) else error)
    except (RuntimeError, MemoryError) as error:
        advice = memory_advice(error, next((argument for argument in arguments if not argument.startswith("-")), ""))
        if advice is None or debug:
            raise
        _fail(advice)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: Any) -> None:
    terminal(stderr=True).print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    """A warning to users is one line without the place in the code; of several processes the first one says it."""
    if issubclass(category, UserWarning) and os.environ.get("RANK", "0") == "0":
        terminal(stderr=True).print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)
