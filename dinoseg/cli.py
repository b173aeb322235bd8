"""The command line: verbs and their options, no logic.

Heavy imports stand inside the verbs, so that ``--help`` answers at once.
"""

import difflib
import os
import sys
import time
import traceback
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from dinoseg import __version__
from dinoseg.system.messages import system_error
from dinoseg.system.out_of_memory import memory_advice

app = typer.Typer(
    name="dinoseg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Semantic segmentation on frozen DINO backbones. Add --debug anywhere for the traceback of an error.",
)


class CommandWithKeys(TyperCommand):
    """A verb whose ``--help`` also lists config keys: those changed first, or with ``--help-all`` all it uses."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--help-all" in args:
            self._print_help(ctx, whole=True)
            ctx.exit()
        self._refuse_keys_as_options(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_keys_as_options(self, ctx: Any, args: list[str]) -> None:
        """``--bs 4``, as other tools have it, is answered with ``bs=4``."""
        own = {name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)}
        for word, following in pairwise([*args, ""]):
            name, equals, value = word.partition("=")
            if word == "--":
                return
            if name.startswith("--") and name not in own and not difflib.get_close_matches(name, own, 1, 0.8):
                from dinoseg.config.likely_keys import likely_keys, unit_remark

                key = name[2:].replace("-", "_")
                likely, remark = likely_keys(key, verb=str(self.name)), unit_remark(key)
                if likely:
                    given = value if equals else following if following[:1] not in ("", "-") else "VALUE"
                    said = f"write {likely[0]}={'STEPS' if remark else given}{remark and f'.{remark}'}"
                    raise ValueError(f"{name}: no such option; settings are key=value: {said}")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._print_help(ctx, whole=False)

    def _print_help(self, ctx: Any, whole: bool) -> None:
        from dinoseg.console.option_help import help_of_verb

        super().format_help(ctx, ctx.make_formatter())
        print(help_of_verb(str(self.name), whole))


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

    from dinoseg.check.check import check_dataset
    from dinoseg.config.loading import load_config
    from dinoseg.console.check_report import render_report

    config = load_config(settings or [])
    report = check_dataset(config.datasets, config.decoder_head.num_classes, console=Console(stderr=True))
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        Console().print(render_report(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command("import")
def import_annotations(
    *,
    source_format: Annotated[
        str, typer.Argument(metavar="FORMAT", help="coco, labelme, cvat, yolo, geojson or instances.")
    ],
    annotations: Annotated[
        Path, typer.Argument(metavar="ANNOTATIONS", help="File (coco, cvat, geojson), or folder (the others).")
    ],
    pictures: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="Folder (coco, cvat, instances), or raster (geojson)."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder of the data set.")],
    overlap: Annotated[
        str, typer.Option(help="What lies on top: area (the smaller shape), or order (the later one).")
    ] = "area",
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out annotations of pictures that are not there.")
    ] = False,
    class_property: Annotated[
        str | None, typer.Option("--property", metavar="NAME", help="geojson: property that names the class.")
    ] = None,
    class_of: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="instances: the class in names of masks, '{class}_{number}'."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="FILE", help="classes.csv of another import, whose label ids are kept.")
    ] = None,
) -> None:
    """Turn annotations of other tools into a data set: images, masks, classes.csv, and a report of what was dropped."""
    from dinoseg.importing.formats import ImportOrder
    from dinoseg.importing.mask import overlap_rule
    from dinoseg.verbs.import_annotations import import_annotations as run_import

    order = ImportOrder(source_format, annotations, pictures, skip_missing, class_property, class_of, classes)
    run_import(order, out, overlap_rule(overlap), Console())


class TrainCommand(CommandWithKeys):
    """``train``, whose ``--resume`` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_resume_value(args) if "--resume" in args else args)


def _with_resume_value(arguments: list[str]) -> list[str]:
    from dinoseg.training.resume import RESUME_CHOICES

    position = arguments.index("--resume") + 1
    named = position < len(arguments) and arguments[position] in RESUME_CHOICES
    return arguments if named else [*arguments[:position], "last", *arguments[position:]]


@app.command(cls=TrainCommand)
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

            train_within(given, resume, Console(), started)
        else:
            from dinoseg.verbs.train_folds import train_as_asked

            train_as_asked(config or load_config(settings_of_run(given)), Console(), resume)


@app.command(cls=CommandWithKeys)
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

    run_plan(settings or [], out, Console(), started)


@app.command("eval", cls=CommandWithKeys)
def evaluate(
    *,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]... [KEY=VALUE]...",
            help="Run folder, or published head (hf:owner/name); several: the mean of their probabilities; settings.",
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
            help="Folder for the figures: of several runs; with --predictions PREDICTIONS/eval otherwise.",
        ),
    ] = None,
) -> None:
    """Evaluate a run, or several as one, on one split at native size; or label maps of any tool."""
    from dinoseg.system.processes import leaving_together
    from dinoseg.verbs.evaluation_request import EvaluationRequest, run_request

    request = EvaluationRequest(arguments or [], split, checkpoint, shard, merge, predictions, masks, out)
    with leaving_together():
        run_request(request, Console())


@app.command(cls=CommandWithKeys)
def calibrate(
    arguments: Annotated[
        list[str], typer.Argument(metavar="RUN [KEY=VALUE]...", help="Run folder; settings, any order.")
    ],
    split: Annotated[str, typer.Option(help="val, or train; never test.")] = "val",
    checkpoint: CheckpointOption = "best",
    tune: Annotated[
        str | None,
        typer.Option(metavar="FIGURE", help="dice or iou: weights of classes for its mean, too, for eval.tuned=true."),
    ] = None,
) -> None:
    """Fit the temperature that makes a run's probabilities mean what they say; writes calibration.json into the run."""
    from dinoseg.system.processes import leaving_together
    from dinoseg.verbs.calibrate import calibrate_arguments

    with leaving_together():
        calibrate_arguments(arguments, split, checkpoint, Console(), tune)


@app.command()
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
        Console().print(comparison_table(comparison))


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


@app.command(cls=CommandWithKeys)
def predict(
    *,
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... IMAGES... [KEY=VALUE]...",
            help="Run folders or published heads, hf:owner/name (several: the mean of their probabilities); files, "
            "folders, quoted globs; settings.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for labels/, overlays/ and predictions.json.")] = Path(
        "predictions"
    ),
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    mask_ignored: Annotated[
        Path | None, typer.Option(metavar="MASKS", help="Folder of true masks whose ignored pixels stay ignored.")
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(metavar="MASKS", help="Folder of masks; where they are 0 the ignored label is written."),
    ] = None,
    palette: Annotated[bool, typer.Option(help="Write label maps with colours (PNG mode P).")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict finished outputs anew.")] = False,
    overviews: Annotated[
        bool, typer.Option("--overviews", help="Maps: overviews in the GeoTIFF of label ids.")
    ] = False,
    vector: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Maps: polygons in vectors/, too: gpkg or geojson.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Those of every class, too: probabilities/NAME.npz, of maps .tif.")
    ] = False,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="Of --probabilities, the K largest of each pixel.")
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="The largest probability as a grey picture: confidence/NAME.png.")
    ] = False,
    overlay_uncertainty: Annotated[
        bool, typer.Option("--overlay-uncertainty", help="Overlays fade where the model is unsure.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local (also under torchrun), or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="ray: actors; one a GPU, or one for two CPU cores, when left out.")
    ] = None,
) -> None:
    """Predict images from run folders: label ids, overlays, predictions.json. Finished outputs are kept."""
    from dinoseg.inference.chosen_runs import choose_runs
    from dinoseg.inference.outputs import OutputFolder
    from dinoseg.inference.probability_options import ProbabilityOptions
    from dinoseg.verbs.predict import predict_run, runs_and_images

    runs, inputs = runs_and_images(arguments)
    chosen = choose_runs(runs, checkpoint, device)
    wanted = ProbabilityOptions(probabilities, top_k, confidence, overlay_uncertainty)
    outputs = OutputFolder(out, mask_ignored, regions, palette, overwrite, overviews, vector, wanted)
    if predict_run(chosen, inputs, outputs, Console(), engine=engine, workers=workers).failed:
        raise typer.Exit(1)


@app.command(cls=CommandWithKeys)
def export(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... OUT [KEY=VALUE]...",
            help="Runs (or hf:HEAD), then a new folder, FILE.onnx or FILE.pt2; settings.",
        ),
    ],
    checkpoint: CheckpointOption = "best",
    images: Annotated[
        Path | None, typer.Option(help="Of a file: pictures that prove it; of the run's validation split otherwise.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Of a file: half precision.")] = False,
    tolerance: Annotated[
        float | None, typer.Option(help="Of a file: largest difference of a score, as a share of their range.")
    ] = None,
) -> None:
    """Write a run, or several as one, as a folder that needs nothing else; or one run as an ONNX file, with proof."""
    from dinoseg.verbs.export import export_arguments
    from dinoseg.verbs.export_file import FileOptions

    export_arguments(arguments, checkpoint, FileOptions(images, fp16, tolerance), Console())


@app.command()
def options(
    word: Annotated[str | None, typer.Argument(metavar="[WORD]", help="Part of a key or of its sentence.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all of them as docs/options.md.")] = False,
) -> None:
    """List config keys: default, values and meaning."""
    from dinoseg.console.option_help import find_options, options_markdown

    print(options_markdown() if markdown else find_options(word), end="" if markdown else "\n")


@app.command()
def backbones() -> None:
    """List backbones: name, parameters, patch size, licence, where the weights come from."""
    from dinoseg.backbone.catalogue import list_backbones

    for spec in list_backbones():
        sizes = f"{spec.parameters:>6.1f} M  patch {spec.patch_size}  width {spec.embed_dim:<4}  {spec.licence}"
        print(f"{spec.name:<22} {sizes}\n    {spec.origin}")


@app.command()
def zoo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List published heads: backbone, classes, published figure, licence, where the weights come from."""
    from dinoseg.verbs.zoo import print_heads

    print_heads(Console(), as_json)


@app.command()
def cache(
    folder: Annotated[Path | None, typer.Option(help="Of the cache; that of train.cache_folder.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the features, all or those of NAME.")] = False,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A folder of the list.")] = None,
) -> None:
    """List the features that trainings keep on disk, or remove them."""
    from dinoseg.features.recipe import default_cache_folder
    from dinoseg.verbs.cache import clear_cache, show_cache

    root = folder or default_cache_folder()
    if clear:
        clear_cache(root, name, Console())
    elif name:
        raise ValueError(f"dinoseg cache {name}: add --clear to remove it; plain `dinoseg cache` lists all")
    else:
        show_cache(root, Console())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, run and predictions.")] = Path("dinoseg-demo"),
    head: Annotated[str, typer.Option(help="linear, dense or m2f.")] = "dense",
) -> None:
    """Show the whole job without data or network: make a retina-like data set, check, train, evaluate, predict."""
    from dinoseg.verbs.demo import run_demo

    run_demo(out, head, Console())


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
    Console(stderr=True).print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    """A warning to users is one line without the place in the code; of several processes the first one says it."""
    if issubclass(category, UserWarning) and os.environ.get("RANK", "0") == "0":
        Console(stderr=True).print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
