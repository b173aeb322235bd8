"""The report of a run: one page that opens from disk and loads nothing."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from rich.console import Console

from dinoseg.config import Config
from dinoseg.config.loading import is_given
from dinoseg.config.unused_keys import note_unused_keys
from dinoseg.data.folders import find_pairs
from dinoseg.data.pairs import Pair, Split
from dinoseg.evaluation.metrics import image_iou, iou
from dinoseg.inference.opening import ChosenRun
from dinoseg.inference.predictor import Predictor
from dinoseg.labels import LabelSpace
from dinoseg.labels.settings import show_label, show_labels
from dinoseg.report.curves import chart_svg, training_charts
from dinoseg.report.learning import learned_images
from dinoseg.report.one_run import refuse_other_than_run
from dinoseg.report.pictures import VIEWS, Picture, choose_images, data_uris, draw_pictures
from dinoseg.report.reliability import reliability_section
from dinoseg.report.summary import is_figure, report_head
from dinoseg.run_folder.calibration_file import CalibrationFile
from dinoseg.run_folder.checkpoint import Checkpoint
from dinoseg.run_folder.folder import CHECKPOINTS, RunFolder
from dinoseg.run_folder.recorded_evaluation import RecordedEvaluation, read_evaluation
from dinoseg.run_folder.training_records import read_training_records
from dinoseg.system.bars import image_progress
from dinoseg.system.files import replace_text
from dinoseg.system.messages import shell_word

_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}
_CLASS_FIGURES = ("IoU", "Dice", "precision", "recall")
_MOST_PICTURE_BYTES = 7_500_000
# In percentage points of image IoU; kernels of another device may change a pixel here and there.
_SAME_IOU = 0.5


def build_report(run: Path, split: str, console: Console, max_images: int = 24, overrides: Iterable[str] = ()) -> Path:
    """Writes ``report.html`` (``report-<split>.html`` for a split other than val) and ``overlays/<split>/``.

    The figures are those of ``eval/<split>/``; the pictures are predicted anew with the checkpoint that was evaluated,
    and with the settings it was evaluated with.

    Args:
        max_images: how many images the page shows; with 0 neither data nor checkpoint is needed.
        overrides: ``key=value`` changes of the run's config beside those that ``eval`` was given: where the data or the
            weights lie now.

    Returns:
        The page.

    Raises:
        ValueError: not a run folder, the split is not evaluated or its files are damaged, config or labels are not
            those of the checkpoint, data or checkpoint cannot be read, or the pictures do not fit.
    """
    if split not in _SPLITS:
        raise ValueError(f"--split {split}: choose {', '.join(_SPLITS)}")
    if max_images < 0:
        raise ValueError(f"--max-images {max_images}: give 0 or more")
    refuse_other_than_run(run)
    folder, overrides = RunFolder(run), tuple(overrides)
    _, label_space = folder.read_config(overrides), folder.read_labels()
    note_unused_keys(overrides, "report")
    recorded = read_evaluation(folder, split, label_space)
    config, overrides = _as_evaluated(folder, recorded, overrides)
    _refuse_other_training(folder, recorded)
    # Whatever is damaged is found before the first picture is written.
    charts = _charts(folder)
    rows = choose_images(recorded.counts, max_images)
    pictures = _draw(folder, config, recorded, rows, console, overrides) if rows else []
    context = _context(folder, config, label_space, recorded, pictures, overrides) | {"charts": charts}
    page = folder.path / ("report.html" if split == "val" else f"report-{split}.html")
    replace_text(page, _environment().get_template("report.html").render(context))
    if context["redrawn_differently"]:
        console.print(f"note: {context['redrawn_differently']}", markup=False, highlight=False)
    note = _calibration_note(folder, recorded)
    if note is not None:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {page}", markup=False, soft_wrap=True)
    return page


def _calibration_note(folder: RunFolder, recorded: RecordedEvaluation) -> str | None:
    """Of a calibration.json that is damaged, or of a temperature that the figures were not measured at."""
    try:
        record = CalibrationFile(folder.calibration).read(f"`dinoseg calibrate {shell_word(folder.path)}`")
        if record is None or record.weights_sha256 != _evaluated_weights(folder, recorded):
            return None
    except ValueError as error:
        return f"{error} (nothing on this page depends on it)"
    if record.temperature == recorded.policy.get("temperature", 1.0):
        return None
    return (
        f"{folder.path} was calibrated after these figures were measured; dinoseg eval {shell_word(folder.path)} "
        f"--split {recorded.split} measures its probabilities, and the report then draws the reliability diagram"
    )


def _as_evaluated(
    folder: RunFolder, recorded: RecordedEvaluation, overrides: tuple[str, ...]
) -> tuple[Config, tuple[str, ...]]:
    """The config that the figures were measured with, and its ``key=value`` changes; those given here come last."""
    # Another machine may have another device.
    checkpoint = _evaluated_checkpoint(folder, recorded)
    holds_backbone = checkpoint is not None and checkpoint.holds_backbone
    unused = ["device", "model.weights"] if holds_backbone else ["device"]
    before = [override for override in recorded.overrides if not any(is_given(key, [override]) for key in unused)]
    given = {override.partition("=")[0] for override in overrides}
    kept = [override for override in before if override.partition("=")[0] not in given]
    try:
        folder.read_config(kept)
    except ValueError as error:
        raise ValueError(
            f"{folder.evaluation(recorded.split) / 'metrics.json'}: overrides: {error}; run `dinoseg eval` again"
        ) from None
    changes = (*kept, *overrides)
    return folder.read_config(changes), changes


def _evaluated_checkpoint(folder: RunFolder, recorded: RecordedEvaluation) -> Checkpoint | None:
    """None where it is gone: a page without pictures can do without."""
    return Checkpoint.find(folder.checkpoint(recorded.checkpoint)) if recorded.checkpoint in CHECKPOINTS else None


def _evaluated_weights(folder: RunFolder, recorded: RecordedEvaluation) -> str | None:
    """Their SHA-256. None where it is not known: those of a training's own figures may be gone."""
    said: str | None = recorded.metrics.get("weights_sha256")
    if said is not None:
        return said
    checkpoint = _evaluated_checkpoint(folder, recorded)
    return checkpoint.weights_sha256 if checkpoint is not None and recorded.is_of(checkpoint) else None


def _refuse_other_training(folder: RunFolder, recorded: RecordedEvaluation) -> None:
    """Compares labels.json and config.yaml with the checkpoint."""
    checkpoint = _evaluated_checkpoint(folder, recorded)
    if checkpoint is not None:
        folder.refuse_other_training(checkpoint)


def _charts(folder: RunFolder) -> list[dict[str, Any]]:
    """The curves of the training."""
    records = read_training_records(folder.metrics)
    last_step = max([1, *(record["step"] for record in records)])
    return [
        {"title": chart.title, "log": chart.log_scale, "series": chart.series, "svg": chart_svg(chart, last_step)}
        for chart in training_charts(records)
    ]


def _context(
    folder: RunFolder,
    config: Config,
    label_space: LabelSpace,
    recorded: RecordedEvaluation,
    pictures: list[Picture],
    overrides: tuple[str, ...],
) -> dict[str, Any]:
    """What the template shows beside the charts."""
    return {
        "run": folder.path.resolve().name,
        "split": recorded.split,
        "head": report_head(folder, config, recorded, label_space.kind, overrides),
        "learned": learned_images(folder) if recorded.split == "val" else [],
        "figures": _figure_names(recorded),
        "reliability": reliability_section(recorded.metrics),
        "classes": _class_rows(recorded, label_space),
        "labels": _label_rows(label_space),
        "ignored": show_labels(label_space.ignored_ids, label_space.kind),
        "redrawn_differently": _redrawn_differently(recorded, pictures),
        "data": _page_data(recorded, label_space, pictures),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dinoseg.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "count": _count}
    return environment


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _figure_names(recorded: RecordedEvaluation) -> list[str]:
    """Columns of the class table: the usual figures, and whatever else was measured by class."""
    rows = recorded.metrics["per_class"]
    more = [name for name in rows[0] if all(is_figure(name, row[name], recorded.policy) for row in rows)]
    return [*_CLASS_FIGURES, *(name for name in more if name not in _CLASS_FIGURES)]


def _class_rows(recorded: RecordedEvaluation, label_space: LabelSpace) -> list[dict[str, Any]]:
    pixels = max(1, sum(row["truth"] for row in recorded.metrics["per_class"]))
    return [
        {
            "index": index,
            "label": show_label(entry.label_ids[0], label_space.kind),
            "colour": _css(entry.colour),
            "share": 100 * row["truth"] / pixels,
            **row,
        }
        for index, (entry, row) in enumerate(zip(label_space.classes, recorded.metrics["per_class"], strict=True))
    ]


def _label_rows(label_space: LabelSpace) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "name": entry.name,
            "labels": show_labels(entry.label_ids, label_space.kind),
            "colour": _css(entry.colour),
        }
        for index, entry in enumerate(label_space.classes)
    ]


def _css(colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def _draw(
    folder: RunFolder,
    config: Config,
    recorded: RecordedEvaluation,
    rows: list[int],
    console: Console,
    overrides: tuple[str, ...],
) -> list[Picture]:
    pairs = _find_evaluated(folder.with_recorded_splits(config, overrides), recorded, rows)
    opened = ChosenRun(folder.path, recorded.checkpoint, None, overrides).open().for_label_maps()
    with warnings.catch_warnings():
        # The run was trained, whatever its weights were initialised with.
        warnings.filterwarnings("ignore", message=".*random.*")
        predictor = Predictor.load(opened)
    target = folder.overlays / recorded.split
    with image_progress(console, len(rows), "drawing") as advance:
        return draw_pictures(predictor, pairs, rows, target, f"overlays/{recorded.split}", advance)


def _find_evaluated(config: Config, recorded: RecordedEvaluation, rows: list[int]) -> list[Pair]:
    try:
        pairs = {pair.name: pair for pair in find_pairs(config.datasets, _SPLITS[recorded.split]).pairs}
    except ValueError as error:
        raise ValueError(f"{error}; or leave the pictures out with --max-images 0") from None
    missing = [recorded.names[row] for row in rows if recorded.names[row] not in pairs]
    if missing:
        raise ValueError(
            f"image {missing[0]} was evaluated but is not in split {recorded.split} now (missing: {len(missing)}); "
            "give the data as datasets.root=PATH, or leave the pictures out with --max-images 0"
        )
    return [pairs[recorded.names[row]] for row in rows]


def _redrawn_differently(recorded: RecordedEvaluation, pictures: list[Picture]) -> str:
    """A warning when what is drawn is not what was scored, else nothing."""
    if not pictures:
        return ""
    drawn = image_iou(np.stack([picture.counts for picture in pictures]))
    scored = image_iou(recorded.counts[[picture.row for picture in pictures]])
    difference = np.nan_to_num(100 * np.abs(drawn - scored))
    other = int((difference > _SAME_IOU).sum())
    if not other:
        return ""
    return (
        f"{other} of {len(pictures)} pictures are not what was scored (image IoU differs by up to "
        f"{difference.max():.1f} points): the checkpoint or the settings changed since; run "
        f"`dinoseg eval` again, or leave out key=value settings that it was not given"
    )


def _page_data(recorded: RecordedEvaluation, label_space: LabelSpace, pictures: list[Picture]) -> dict[str, Any]:
    """What the page's script needs: classes, matrix, and the pictures with their figures."""
    uris = data_uris(pictures, _MOST_PICTURE_BYTES)
    return {
        "views": VIEWS,
        "classes": [{"name": entry.name, "colour": _css(entry.colour)} for entry in label_space.classes],
        "matrix": recorded.matrix.tolist(),
        "available": len(recorded.names),
        "images": [
            _picture_data(picture, views, recorded.counts[picture.row])
            for picture, views in zip(pictures, uris, strict=True)
        ],
    }


def _picture_data(picture: Picture, views: dict[str, str], counts: np.ndarray) -> dict[str, Any]:
    mean = float(image_iou(counts[None])[0])
    present = np.flatnonzero(counts[1] + counts[2])
    values = iou(counts)
    return {
        "name": picture.name,
        "iou": None if np.isnan(mean) else 100 * mean,
        "size": picture.size,
        "ignored": picture.ignored,
        "classes": [
            {
                "index": int(c),
                "iou": 100 * float(values[c]),
                "prediction": int(counts[1, c]),
                "truth": int(counts[2, c]),
            }
            for c in present
        ],
        "views": views,
        "full": {view: quote(link) for view, link in picture.full.items()},
    }
