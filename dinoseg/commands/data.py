"""``check``, ``import`` and ``cache``: arguments and options."""

from pathlib import Path
from typing import Annotated

import typer

from dinoseg.commands.keys import KeyValues
from dinoseg.system.terminal import terminal


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
    report = check_dataset(config.datasets, config.decoder_head.num_classes, console=terminal(stderr=True))
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        terminal().print(render_report(report))
    if not report.ok:
        raise typer.Exit(1)


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
    run_import(order, out, overlap_rule(overlap), terminal())


def cache(
    folder: Annotated[Path | None, typer.Option(help="Of the cache; ~/.cache/dinoseg/features when left out.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the features, all or those of NAME.")] = False,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A folder of the list.")] = None,
) -> None:
    """List the features that trainings keep on disk, or remove them."""
    from dinoseg.features.recipe import default_cache_folder
    from dinoseg.verbs.cache import clear_cache, show_cache

    root = folder or default_cache_folder()
    if clear:
        clear_cache(root, name, terminal())
    elif name:
        raise ValueError(f"dinoseg cache {name}: add --clear to remove it; plain `dinoseg cache` lists all")
    else:
        show_cache(root, terminal())
