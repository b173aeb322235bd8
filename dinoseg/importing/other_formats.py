"""Files of another format than the one asked for: what they look like, and what to run instead."""

from pathlib import Path
from typing import Any

from dinoseg.system.files import special_kind
from dinoseg.system.json_files import load_json

_START = 1 << 12


def read_document(path: Path, format_name: str) -> Any:
    """The JSON of an annotation file.

    Raises:
        ValueError: missing, damaged, or of another format, which is named where it is known.
    """
    remedy = f"give the JSON file of a {format_name} export"
    start = _start_of(path)
    if start.startswith((b"<?xml", b"<annotations")):
        raise ValueError(f"{path}: an XML file, which looks like cvat; run dinoseg import cvat, or {remedy}")
    document = load_json(path, remedy)
    found = format_of(document)
    if found not in (None, format_name):
        raise ValueError(f"{path}: this looks like {found}; {_advice(found)}")
    return document


def refuse_json(path: Path, format_name: str) -> None:
    """Raises ValueError for a JSON file in the place of one of XML."""
    if _start_of(path)[:1] in (b"{", b"["):
        found = format_of(load_json(path, f"give the file of a {format_name} export"))
        known = (
            f"this looks like {found}; {_advice(found)}" if found else f"JSON; give the XML of a {format_name} export"
        )
        raise ValueError(f"{path}: {known}")


def format_of(document: Any) -> str | None:
    """The format that a JSON document looks like, as ``dinoseg import`` calls it or by its own name."""
    if isinstance(document, list):
        keys: set[str] = set(document[0]) if document and isinstance(document[0], dict) else set()
        if {"data", "annotations"} <= keys or {"data", "completions"} <= keys:
            return "Label Studio"
        return "CreateML" if {"image", "annotations"} <= keys else None
    if not isinstance(document, dict):
        return None
    if "shapes" in document and ("imagePath" in document or "imageData" in document):
        return "labelme"
    if document.get("type") in ("FeatureCollection", "Feature"):
        return "geojson"
    if "_via_img_metadata" in document or "_via_settings" in document:
        return "VGG Image Annotator"
    return "coco" if "images" in document and "annotations" in document else None


def _advice(found: str | None) -> str:
    if found in ("coco", "labelme", "geojson"):
        return f"run dinoseg import {found}"
    return "it is not read: export it as COCO, and run dinoseg import coco"


def _start_of(path: Path) -> bytes:
    if special_kind(path) or not path.is_file():
        return b""  # whoever reads it says why it cannot
    with path.open("rb") as file:
        return file.read(_START).removeprefix(b"\xef\xbb\xbf").lstrip()
