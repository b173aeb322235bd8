"""``predict``, ``suggest`` and ``export``: arguments and options."""

from pathlib import Path
from typing import Annotated

import typer

from dinoseg.commands.keys import CheckpointOption, DeviceOption
from dinoseg.system.terminal import terminal


def predict(
    *,
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... IMAGES... [KEY=VALUE]...",
            help="Run folders, or hf:owner/name on the Hub (several: the mean of their probabilities); files, "
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
    style: Annotated[
        bool, typer.Option("--style", help="Maps: names and colours for QGIS, a .qml beside each layer.")
    ] = False,
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
    outputs = OutputFolder(out, mask_ignored, regions, palette, overwrite, overviews, vector, style, wanted)
    if predict_run(chosen, inputs, outputs, terminal(), engine=engine, workers=workers).failed:
        raise typer.Exit(1)


def suggest(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... IMAGES... [KEY=VALUE]...",
            help="Run folders or published heads; files, folders, quoted globs without labels; settings.",
        ),
    ],
    number: Annotated[int, typer.Option("--n", help="How many images.")] = 20,
    out: Annotated[Path, typer.Option(help="Folder for suggestions.csv and contact_sheet.png.")] = Path("suggestions"),
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
) -> None:
    """Say which images to label next: those that a run is unsure of, and that are unlike each other."""
    from dinoseg.verbs.suggest import suggest as suggest_images

    failed = suggest_images(arguments, number, out, checkpoint, device, terminal())
    for message in failed:
        terminal(stderr=True).print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def export(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... OUT [KEY=VALUE]...",
            help="Runs (or hf:owner/name), then a new folder, FILE.onnx or FILE.pt2; settings.",
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
    labels: Annotated[bool, typer.Option("--labels", help="Of a file: label ids of a window, too.")] = False,
) -> None:
    """Write a run, or several as one, as a folder that needs nothing else; or one run as an ONNX file, with proof."""
    from dinoseg.verbs.export import export_arguments
    from dinoseg.verbs.export_file import FileOptions

    export_arguments(arguments, checkpoint, FileOptions(images, fp16, tolerance, labels), terminal())
