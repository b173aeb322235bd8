"""The command line: verbs and their options, no logic.

Heavy imports stand inside the verbs, so that ``--help`` answers at once.
"""

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

app = typer.Typer(
    name="dinoseg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Semantic segmentation on frozen DINO backbones. Add --debug anywhere for the traceback of an error.",
)


class CommandWithKeys(TyperCommand):
    """A verb whose ``--help`` also lists every config key with its default."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        from dinoseg.config_loading import describe_keys

        table = Table("key", "default", "meaning", title="config keys", title_justify="left", box=None)
        for entry in describe_keys():
            table.add_row(escape(entry.key), escape(entry.default), escape(entry.help))
        Console().print(table)


KeyValues = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="config=FILE and overrides, any order.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
CheckpointOption = Annotated[str, typer.Option(help="best or last.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@app.command(cls=CommandWithKeys)
def check(
    settings: KeyValues = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Scan a data set: label table, class shares, and everything that would make training wrong."""
    import json

    from dinoseg.config_loading import load_config
    from dinoseg.data.check import check_dataset
    from dinoseg.data.check_report import render_report

    config = load_config(settings or [])
    report = check_dataset(config.datasets, config.decoder_head.num_classes, console=Console(stderr=True))
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        Console().print(render_report(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command(cls=CommandWithKeys)
def train(
    settings: KeyValues = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from checkpoints/last of output_dir.")] = False,
) -> None:
    """Train a head on a frozen backbone and write a run folder."""
    from dinoseg.config_loading import load_config
    from dinoseg.training.setup import train as run_training

    run_training(load_config(settings or []), Console(), resume)


@app.command("eval", cls=CommandWithKeys)
def evaluate(
    run: RunArgument,
    settings: KeyValues = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    checkpoint: CheckpointOption = "best",
) -> None:
    """Evaluate a run on one split at native size."""
    from dinoseg.evaluation.run import evaluate_run

    evaluate_run(run, settings or [], split, checkpoint, Console())


@app.command(cls=CommandWithKeys)
def report(
    run: RunArgument,
    settings: KeyValues = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    max_images: Annotated[int, typer.Option(help="Images shown; 0 needs neither data nor checkpoint.")] = 24,
) -> None:
    """Write report.html: figures, curves, tables, confusion matrix and pictures in one page."""
    from dinoseg.report.html import build_report

    build_report(run, split, Console(), max_images, settings or [])


@app.command()
def predict(
    run: RunArgument,
    inputs: Annotated[
        list[str], typer.Argument(metavar="IMAGES...", help="Files, folders, quoted globs; and KEY=VALUE.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for labels/, overlays/ and predictions.json.")] = Path(
        "predictions"
    ),
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    mask_ignored: Annotated[
        Path | None, typer.Option(metavar="MASKS", help="Folder of true masks whose ignored pixels stay ignored.")
    ] = None,
    palette: Annotated[bool, typer.Option(help="Write label maps with colours (PNG mode P).")] = False,
) -> None:
    """Predict images from a run folder: label ids, overlays, predictions.json."""
    from dinoseg.inference.files import list_inputs, predict_files
    from dinoseg.inference.predictor import load
    from dinoseg.report.progress import image_progress

    console = Console()
    overrides = tuple(entry for entry in inputs if "=" in entry and not Path(entry).exists())
    images = list_inputs(entry for entry in inputs if entry not in overrides)
    predictor = load(run, checkpoint, device, overrides)
    with image_progress(console, len(images), "predicting") as advance:
        summary = predict_files(predictor, images, out, mask_ignored, palette, advance)
    console.print(f"{len(summary.written)} predicted, {len(summary.failed)} failed; see {out}", soft_wrap=True)
    for message in summary.failed.values():
        Console(stderr=True).print(f"error: {message}", style="red", markup=False)
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def backbones() -> None:
    """List backbones: name, parameters, patch size, licence, where the weights come from."""
    from dinoseg.backbone_catalogue import list_backbones

    table = Table("name", "parameters", "patch", "width", "licence", box=None)
    # An address that is cut off is of no use.
    table.add_column("weights", overflow="fold")
    for spec in list_backbones():
        table.add_row(
            spec.name, f"{spec.parameters:.1f} M", str(spec.patch_size), str(spec.embed_dim), spec.licence, spec.origin
        )
    Console().print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, run and predictions.")] = Path("dinoseg-demo"),
    head: Annotated[str, typer.Option(help="linear or m2f.")] = "linear",
) -> None:
    """Show the whole job without data or network: make a retina-like data set, check, train, evaluate, predict."""
    from dinoseg.demo import run_demo

    run_demo(out, head, Console())


def main() -> None:
    """Runs the command line; a user's mistake is one message, ``--debug`` shows where it was raised."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments)
    except (ValueError, OSError) as error:
        if debug:
            traceback.print_exc()
        message: Any = (
            error if isinstance(error, ValueError) else f"{error.filename or 'file'}: {error.strerror or error}"
        )
        Console(stderr=True).print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
