"""``eval``, ``calibrate``, ``compare`` and ``report``: arguments and options."""

from pathlib import Path
from typing import Annotated

import typer

from dinoseg.commands.keys import CheckpointOption, KeyValues, RunArgument
from dinoseg.system.terminal import terminal


def evaluate(
    *,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]... [KEY=VALUE]...",
            help="Run folder, or one on the Hub (hf:owner/name); several: the mean of their probabilities; settings.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; val when left out.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="best or last; best when left out.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Count the i-th of n parts of the images, for job arrays.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Put the shards together; loads no model.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Score label maps of any tool, in place of a run; or a glob.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The true masks for --predictions, or a glob.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for figures of several runs, of a published head, or of --predictions (DIR/eval otherwise).",
        ),
    ] = None,
) -> None:
    """Evaluate a run, or several as one, on one split at native size; or label maps of any tool."""
    from dinoseg.system.processes import leaving_together
    from dinoseg.verbs.evaluation_request import EvaluationRequest, run_request

    request = EvaluationRequest(arguments or [], split, checkpoint, shard, merge, predictions, masks, out)
    with leaving_together():
        run_request(request, terminal())


def calibrate(
    arguments: Annotated[
        list[str], typer.Argument(metavar="RUN [KEY=VALUE]...", help="Run folder; settings, any order.")
    ],
    split: Annotated[str, typer.Option(help="val, or train; never test.")] = "val",
    checkpoint: CheckpointOption = "best",
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="FIGURE",
            help="dice or iou: find weights of classes that raise its mean; eval.tuned=true uses them.",
        ),
    ] = None,
    patches: Annotated[
        str | None,
        typer.Option(
            metavar="FIGURE",
            help="dice or iou: find least sizes of patches that raise its mean; eval.least_patches=true uses them.",
        ),
    ] = None,
) -> None:
    """Fit a run's temperature, so that its probabilities mean what they say; find weights of classes and least sizes of
    patches, where asked for. Writes calibration.json into the run."""
    from dinoseg.system.processes import leaving_together
    from dinoseg.verbs.calibrate import Wanted, calibrate_arguments

    with leaving_together():
        calibrate_arguments(arguments, split, checkpoint, terminal(), Wanted.parse(tune, patches))


def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="Run folder, or a folder with a metrics.json.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="The same; differences are second less first.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON, too.")] = None,
) -> None:
    """Compare two evaluations of the same images: differences with intervals, images that differ most."""
    import json

    from dinoseg.console.comparison_table import comparison_table
    from dinoseg.evaluation.compare import compare as compare_evaluations
    from dinoseg.system.files import replace_text

    comparison = compare_evaluations(first, second, split)
    text = json.dumps(comparison.to_dict(), indent=2)
    if out is not None:
        replace_text(out, text + "\n")
    if as_json:
        print(text)
    else:
        terminal().print(comparison_table(comparison))


def report(
    run: RunArgument,
    settings: KeyValues = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    max_images: Annotated[int, typer.Option(help="Images shown; 0 needs neither data nor checkpoint.")] = 24,
) -> None:
    """Write report.html: figures, curves, tables, confusion matrix and pictures in one page."""
    from dinoseg.report.html import build_report

    build_report(run, split, terminal(), max_images, settings or [])
