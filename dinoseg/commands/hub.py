"""``push``: arguments and options."""

from pathlib import Path
from typing import Annotated

import typer

from dinoseg.commands.keys import CheckpointOption, RunArgument
from dinoseg.system.terminal import terminal


def push(
    run: RunArgument,
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Repository on the Hub; made where there is none.")
    ],
    checkpoint: CheckpointOption = "best",
    private: Annotated[bool, typer.Option("--private", help="Nobody else may see it.")] = False,
    with_backbone: Annotated[
        bool,
        typer.Option("--with-backbone", help="Send the whole model, adapters merged."),
    ] = False,
    with_pictures: Annotated[
        bool, typer.Option("--with-pictures", help="Show a few images of the validation in the card.")
    ] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write what would be sent into a folder (new, or of a dry run); send nothing."
        ),
    ] = None,
) -> None:
    """Put a run on the Hugging Face Hub, from where hf:USER/NAME loads it: what was trained, figures, a card.

    Says first what is sent. Without --with-pictures no image leaves this machine, and never a path or the name of one.
    """
    from dinoseg.verbs.push import PushOptions, push_run

    options = PushOptions(checkpoint, private, with_backbone, with_pictures, dry_run)
    push_run(str(run), repository, options, terminal())
