"""Prediction of files: what ``dinoseg predict`` reads and writes."""

import glob
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dinoseg.data.folders import Pair, list_images
from dinoseg.data.masks import read_pair, write_label_map
from dinoseg.inference.predictor import Predictor


@dataclass(frozen=True)
class InputImage:
    """One image to predict; ``name`` is the path of its outputs without suffix."""

    path: Path
    name: str


@dataclass(frozen=True)
class PredictionSummary:
    """What happened to each input: files written, and messages of those that failed."""

    written: dict[str, str]
    failed: dict[str, str]


def list_inputs(inputs: Iterable[str]) -> list[InputImage]:
    """Files, folders (searched through) and globs, in sorted order, each once.

    Raises:
        ValueError: an input that matches nothing, or two that would write the same output.
    """
    found: dict[Path, InputImage] = {}
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            matched = [InputImage(file, str(file.relative_to(path).with_suffix(""))) for file in list_images(path)]
        elif path.is_file():
            matched = [InputImage(path, path.stem)]
        else:
            matched = [
                InputImage(Path(f), Path(f).stem) for f in sorted(glob.glob(entry, recursive=True)) if os.path.isfile(f)
            ]
        if not matched:
            raise ValueError(f"{entry}: no image there; give image files, a folder of images, or a quoted glob")
        found.update((image.path.resolve(), image) for image in matched)
    owners: dict[str, Path] = {}
    for image in found.values():
        if image.name in owners:
            raise ValueError(
                f"{owners[image.name]} and {image.path} would both write {image.name}.png; "
                "predict them into different --out folders"
            )
        owners[image.name] = image.path
    return list(found.values())


def predict_files(
    predictor: Predictor,
    images: list[InputImage],
    out: Path,
    mask_ignored: Path | None = None,
    palette: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> PredictionSummary:
    """Writes ``labels/<name>.png``, ``overlays/<name>.png`` and ``predictions.json`` under ``out``.

    An image that cannot be read is recorded and the others go on.

    Args:
        mask_ignored: folder of true masks; their ignored pixels keep their label id and are hatched in the overlay.
        palette: write label maps with colours (PNG mode P) in place of plain grey values.
    """
    written, failed = {}, {}
    for image in images:
        try:
            _predict_one(predictor, image, out, mask_ignored, palette)
            written[str(image.path)] = f"labels/{image.name}.png"
        except (ValueError, OSError) as error:
            failed[str(image.path)] = str(error)
        progress()
    classes = [
        {"name": c.name, "label_ids": list(c.label_ids), "colour": list(c.colour)}
        for c in predictor.label_space.classes
    ]
    contents = {"classes": classes, "labels": written, "failed": failed}
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "predictions.json", lambda path: path.write_text(json.dumps(contents, indent=2) + "\n"))
    return PredictionSummary(written, failed)


def _predict_one(predictor: Predictor, image: InputImage, out: Path, mask_ignored: Path | None, palette: bool) -> None:
    prediction = predictor.predict(image.path)
    labels, space = prediction.labels, predictor.label_space
    if mask_ignored is not None:
        _, truth = read_pair(Pair(image.name, image.path, _find_mask(mask_ignored, image)), space.kind)
        labels = space.mask_ignored(labels, truth)
        prediction = prediction.hide_ignored(truth)
    _replace(out / "labels" / f"{image.name}.png", lambda path: write_label_map(path, labels, space, palette=palette))
    _replace(out / "overlays" / f"{image.name}.png", lambda path: prediction.overlay().save(path))


def _find_mask(folder: Path, image: InputImage) -> Path:
    matches = sorted(folder.glob(f"{glob.escape(image.name)}.*"))
    if not matches:
        raise ValueError(f"{image.path}: no mask {image.name}.* in {folder}; leave --mask-ignored out or add the mask")
    return matches[0]


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside the target and renames, so that an interruption leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new{path.suffix}")
    write(temporary)
    os.replace(temporary, path)
