"""Layer styles of QGIS (``.qml``): the classes of a predicted map by name and colour.

QGIS takes up ``NAME.qml`` by itself where it lies beside the layer's file, and writes a user's own there, too.
"""

from pathlib import Path
from xml.etree import ElementTree

from dinoseg.drawing.overlay import is_filled
from dinoseg.labels import LabelClass, LabelSpace
from dinoseg.system.files import replace_text
from dinoseg.system.messages import printable

# QGIS leaves it out when it saves a style.
_MARK = "<!-- written by dinoseg -->"
_FORMAT = {"version": "3.22", "styleCategories": "Symbology"}
# Of the fill of polygons, of 255: what lies below shows.
_FILL_OPACITY = 160


def write_style(layer: Path, style: str) -> bool:
    """Writes the style beside a layer's file, unless one is there that is a user's own.

    Args:
        layer: ``NAME.tif`` or ``NAME.gpkg``; the style becomes ``NAME.qml``.
        style: see ``raster_style`` and ``polygon_style``.

    Returns:
        Whether it was written; False where the same was there before, or a user's.

    Raises:
        OSError: it cannot be written.
    """
    path = layer.with_suffix(".qml")
    if path.exists() and (is_foreign_style(path) or _text(path) == style):
        return False
    replace_text(path, style)
    return True


def is_foreign_style(path: Path) -> bool:
    """Whether a ``.qml`` is none of these, or was changed in QGIS.

    Raises:
        OSError: it cannot be read.
    """
    return _MARK not in _text(path)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def raster_style(space: LabelSpace) -> str:
    """Of a map of label ids: an entry for each; a background and what is ignored are transparent."""
    root = ElementTree.Element("qgis", _FORMAT)
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, "pipe"),
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"},
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for label_id, entry in _entries(space):
        (red, green, blue), alpha = entry.colour, "255" if is_filled(entry) else "0"
        found = {"value": str(label_id), "label": printable(entry.name)}
        found |= {"color": f"#{red:02x}{green:02x}{blue:02x}", "alpha": alpha}
        ElementTree.SubElement(palette, "paletteEntry", found)
    return _document(root)


def polygon_style(space: LabelSpace) -> str:
    """Of polygons with an attribute ``label_id``: an entry for each."""
    root = ElementTree.Element("qgis", _FORMAT)
    renderer = ElementTree.SubElement(root, "renderer-v2", {"type": "categorizedSymbol", "attr": "label_id"})
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, (label_id, entry) in enumerate(_entries(space)):
        (red, green, blue), rendered = entry.colour, str(is_filled(entry)).lower()
        category = {"value": str(label_id), "type": "long", "label": printable(entry.name), "symbol": str(number)}
        category |= {"render": rendered}
        ElementTree.SubElement(categories, "category", category)
        symbol = ElementTree.SubElement(symbols, "symbol", {"type": "fill", "name": str(number), "alpha": "1"})
        layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
        options = ElementTree.SubElement(layer, "Option", {"type": "Map"})
        for option, value in (
            ("color", f"{red},{green},{blue},{_FILL_OPACITY}"),
            ("outline_color", f"{red},{green},{blue},255"),
            ("outline_width", "0.3"),
            ("style", "solid"),
        ):
            ElementTree.SubElement(options, "Option", {"type": "QString", "name": option, "value": value})
    return _document(root)


def _entries(space: LabelSpace) -> list[tuple[int, LabelClass]]:
    """Label ids that a prediction can hold, with their classes."""
    return [(entry.label_ids[0], entry) for entry in space.classes]


def _document(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return f"<!DOCTYPE qgis>\n{_MARK}\n{ElementTree.tostring(root, encoding='unicode')}\n"
