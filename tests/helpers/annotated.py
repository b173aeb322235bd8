"""Annotations in the formats that ``dinoseg import`` reads, and their import on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.annotations import corners, row_boxes
from helpers.layouts import SIZE, LaidOut, draw_ids, write_ids, write_picture_of
from helpers.tiny import run_cli

# In the order of the alphabet: every format then numbers them so.
CLASSES = {1: "artery", 2: "vein"}
STEMS = ("p1", "p2", "p3", "p4", "p5", "p6")
DRAWN = {stem: draw_ids(number, [0, *CLASSES]) for number, stem in enumerate(STEMS)}

Box = tuple[int, int, int, int]
# Writes below a folder; gives what is typed after ``dinoseg import``, once for each call, and where each writes to.
Writer = Callable[[Path], list[tuple[str, list[str | Path]]]]


def write_and_import(writer: Writer, root: Path, patch: pytest.MonkeyPatch) -> tuple[LaidOut, list[str]]:
    """The imported data set below ``root``, and the settings that name its classes."""
    for part, arguments in writer(Path("source")):
        assert run_cli(["import", *arguments, "--out", root / part], patch) == 0
    laid = LaidOut()
    for image in sorted(root.rglob("images/*.*")):
        laid.truth[image] = DRAWN[image.stem]
        laid.mask_files[image] = image.parents[1] / "masks" / f"{image.stem}.png"
        split = image.relative_to(root).parts[0]
        if split in ("train", "val"):
            laid.splits.setdefault(split, []).append(image)
    assert {image.stem for image in laid.truth} == set(STEMS)
    return laid, [f"datasets.classes={next(iter(sorted(root.rglob('classes.csv'))))}"]


def _boxes(stem: str) -> list[tuple[str, Box]]:
    return [(name, box) for label_id, name in CLASSES.items() for box in row_boxes(DRAWN[stem] == label_id)]


def _pictures(folder: Path, suffix: str = ".jpg", stems: tuple[str, ...] = STEMS) -> Path:
    for stem in stems:
        write_picture_of(folder / f"{stem}{suffix}", DRAWN[stem])
    return folder


def _coco(source: Path) -> list[tuple[str, list[str | Path]]]:
    numbers = {name: label_id for label_id, name in CLASSES.items()}
    size = {"height": SIZE[0], "width": SIZE[1]}
    document = {
        "images": [{"id": n, "file_name": f"{stem}.jpg"} | size for n, stem in enumerate(STEMS)],
        "categories": [{"id": label_id, "name": name} for label_id, name in CLASSES.items()],
        "annotations": [
            {"id": 100 * n + k, "image_id": n, "category_id": numbers[name], "iscrowd": 0}
            | {"segmentation": [np.ravel(corners(box)).tolist()]}
            for n, stem in enumerate(STEMS)
            for k, (name, box) in enumerate(_boxes(stem))
        ],
    }
    images = _pictures(source / "images")
    (source / "annotations.json").write_text(json.dumps(document))
    return [("", ["coco", source / "annotations.json", images])]


def _labelme(source: Path) -> list[tuple[str, list[str | Path]]]:
    _pictures(source)
    for stem in STEMS:
        shapes = [{"label": name, "shape_type": "polygon", "points": corners(box)} for name, box in _boxes(stem)]
        size = {"imagePath": f"{stem}.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "imageData": None}
        (source / f"{stem}.json").write_text(json.dumps({"version": "5.5.0", "shapes": shapes} | size))
    return [("", ["labelme", source])]


def _cvat(source: Path) -> list[tuple[str, list[str | Path]]]:
    labels = "".join(f"<label><name>{name}</name><attributes/></label>" for name in CLASSES.values())
    lines = [f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"]
    for number, stem in enumerate(STEMS):
        lines.append(f'<image id="{number}" name="{stem}.jpg" width="{SIZE[1]}" height="{SIZE[0]}">')
        for name, (left, top, right, bottom) in _boxes(stem):
            lines.append(
                f'<box label="{name}" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" occluded="0" z_order="0"/>'
            )
        lines.append("</image>")
    images = _pictures(source / "images")
    (source / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))
    return [("", ["cvat", source / "annotations.xml", images])]


def _yolo(source: Path) -> list[tuple[str, list[str | Path]]]:
    numbers = {name: label_id - 1 for label_id, name in CLASSES.items()}
    for split, stems in (("train", STEMS[:4]), ("val", STEMS[4:])):
        _pictures(source / "images" / split, stems=stems)
        (source / "labels" / split).mkdir(parents=True)
        for stem in stems:
            lines = []
            for name, box in _boxes(stem):
                shares = " ".join(f"{x / SIZE[1]!r} {y / SIZE[0]!r}" for x, y in corners(box))
                lines.append(f"{numbers[name]} {shares}\n")
            (source / "labels" / split / f"{stem}.txt").write_text("".join(lines))
    (source / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\nnames: [artery, vein]\n")
    return [("", ["yolo", source])]


def _instances(source: Path) -> list[tuple[str, list[str | Path]]]:
    for stem in STEMS:
        for label_id, name in CLASSES.items():
            for number, half in enumerate((np.s_[:, :16], np.s_[:, 16:])):
                region = np.zeros(SIZE, int)
                region[half] = 255 * (DRAWN[stem][half] == label_id)
                if region.any():
                    write_ids(source / "masks" / f"{stem}_{name}_{number}.png", region)
    images = _pictures(source / "images")
    return [("", ["instances", source / "masks", images, "--class-of", "{class}_{number}"])]


def _geojson(source: Path) -> list[tuple[str, list[str | Path]]]:
    """A map an import; all have the label ids of the first."""
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    source.mkdir()
    calls: list[tuple[str, list[str | Path]]] = []
    for number, stem in enumerate(STEMS):
        features = []
        for name, box in _boxes(stem):
            ring = [[400000 + x / 2, 5500000 - y / 2] for x, y in [*corners(box), corners(box)[0]]]
            geometry = {"type": "Polygon", "coordinates": [ring]}
            features.append({"type": "Feature", "geometry": geometry, "properties": {"kind": name}})
        crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
        document, raster = source / f"{stem}.geojson", source / f"{stem}.tif"
        document.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
        write_picture_of(raster, DRAWN[stem])
        pixels = np.asarray(Image.open(raster)).transpose(2, 0, 1)
        profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "uint8"}
        place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5500000)}
        with rasterio.open(raster, "w", photometric="RGB", **profile, **place) as file:
            file.write(pixels)
        first = ["--classes", Path("data/train/p1/classes.csv")] if number else []
        calls.append((f"{_split(number)}/{stem}", ["geojson", document, raster, "--property", "kind", *first]))
    return calls


def _split(number: int) -> str:
    return "train" if number < 4 else "val"


IMPORTS: dict[str, Writer] = {
    "coco": _coco,
    "labelme": _labelme,
    "cvat": _cvat,
    "yolo": _yolo,
    "instances": _instances,
    "geojson": _geojson,
}
