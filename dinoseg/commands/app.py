"""``app``: arguments and options."""

from pathlib import Path
from typing import Annotated

import typer

from dinoseg.commands.keys import CheckpointOption, DeviceOption
from dinoseg.system.terminal import terminal


def app(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [KEY=VALUE]...",
            help="Run folders, exports or published heads, hf:owner/name; several are compared, each in a column of "
            "its own, and not averaged (predict averages them); settings.",
        ),
    ],
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 127.0.0.1 when left out, which this machine alone reaches."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; 7860 when left out, 0 for any that is free.")] = None,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Start nothing: write a folder that is a Hugging Face Space. Nothing is uploaded."
        ),
    ] = None,
) -> None:
    """Show in a browser what runs predict on pictures that are dropped there; nothing leaves this machine."""
    from dinoseg.verbs.app import AppRequest, run_app
    from dinoseg.verbs.space import write_space

    request = AppRequest(arguments, checkpoint, device, host, port)
    if space is not None:
        write_space(request, space, terminal())
    else:
        run_app(request, terminal())
