"""Pictures of label maps: overlay with legend, error map, strips of pictures side by side."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from dinoseg.labels import LabelClass, LabelSpace

ClassMap = Integer[np.ndarray, "height width"]

_MOST_LEGEND_ENTRIES = 20
_PAPER, _INK = (255, 255, 255), (24, 24, 24)
_HATCH_PERIOD = 8
_STRIPE_ROWS = 256
_LONGEST_NAME = 60


def overlay(
    image: Image.Image,
    class_map: ClassMap,
    label_space: LabelSpace,
    opacity: float = 0.5,
    legend: bool = True,
    note: str | None = None,
    uncertainty: Float[np.ndarray, "height width"] | None = None,
) -> Image.Image:
    """The image with classes drawn over it in their colours, outlines opaque, ignored pixels hatched.

    A class named ``background`` (in any case) is not filled.

    Args:
        image: RGB, of the size of the class map.
        class_map: (H, W) class indices; the ignore index is hatched.
        opacity: of the fill, 0..1.
        legend: adds a strip with swatch and name of the classes in the picture below it.
        note: one more line in the legend.
        uncertainty: 0..1; what is drawn fades with it.

    Returns:
        RGB; as wide as the image (wider where a legend needs it), taller by the legend.

    Raises:
        ValueError: the class map has another size than the image, or a value that is no class index.
    """
    _check(image, class_map, label_space, "class map")
    ignored = class_map == label_space.ignore_index
    picture = np.array(image.convert("RGB"))
    # In stripes: in floating point a large picture takes twelve times its size.
    for top in range(0, picture.shape[0], _STRIPE_ROWS):
        rows = slice(top, top + _STRIPE_ROWS)
        edges = _edges(class_map[top : top + _STRIPE_ROWS + 1])[: picture[rows].shape[0]]
        strength = np.where(edges, 1.0, opacity) * (1.0 if uncertainty is None else 1.0 - uncertainty[rows])
        blended = _fill(picture[rows], np.where(ignored[rows], 0, class_map[rows]), strength, label_space)
        picture[rows] = np.where(ignored[rows, :, None], picture[rows], blended)
    result = Image.fromarray(_hatch(picture, ignored))
    if not legend:
        return result
    entries = _legend_entries(class_map, label_space)
    return stack_below(result, _legend_strip(entries, bool(ignored.any()), note, result.width))


def without_classes(
    drawn: Image.Image, image: Image.Image, class_map: ClassMap, hidden: Collection[int]
) -> Image.Image:
    """An overlay in which some classes are not drawn: there the image shows.

    Args:
        drawn: what ``overlay`` made of the image, with or without a legend below it.
        image: RGB, of the size of the class map.
        hidden: class indices.

    Raises:
        ValueError: the class map has another size than the image.
    """
    if class_map.shape != (image.height, image.width):
        raise ValueError(f"class map is {class_map.shape}, the image {(image.height, image.width)} (height x width)")
    if not hidden:
        return drawn
    picture = np.array(drawn)
    inner = picture[: image.height, : image.width]
    inner[:] = np.where(np.isin(class_map, list(hidden))[..., None], np.asarray(image), inner)
    return Image.fromarray(picture)


def is_filled(entry: LabelClass) -> bool:
    """Whether an overlay draws a class.

    A background is what the rest stands on: filling it would only dim the picture, and so would black.
    """
    return entry.name.lower() != "background" and max(entry.colour) > 0


def error_map(
    image: Image.Image, truth: ClassMap, prediction: ClassMap, label_space: LabelSpace, background: float = 0.35
) -> Image.Image:
    """Where prediction and truth differ: wrong pixels in the predicted class's colour, the rest dim.

    Raises:
        ValueError: a map has another size than the image, or a value that is no class index.
    """
    _check(image, truth, label_space, "truth")
    _check(image, prediction, label_space, "prediction")
    ignored = truth == label_space.ignore_index
    wrong = (truth != prediction) & ~ignored
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None] * background
    drawn = np.repeat(grey, 3, axis=-1).astype(np.uint8)
    # Dark colours would not show on the dim picture; half way to white they do. Ignored as a prediction is white.
    table = np.vstack([(_colour_table(label_space).astype(int) + 255) // 2, [[255, 255, 255]]])
    drawn[wrong] = table[np.minimum(prediction[wrong], label_space.num_classes)]
    return Image.fromarray(_hatch(drawn, ignored))


def side_by_side(pictures: Sequence[tuple[str, Image.Image]], gap: int = 6) -> Image.Image:
    """Pictures in one row, each under its title."""
    size = _font_size(max(picture.width for _, picture in pictures))
    font = ImageFont.load_default(size)
    header = size * 2
    # A column is as wide as its title at least, so that titles of narrow pictures do not run into each other.
    columns = [max(picture.width, int(font.getlength(title)) + 4) for title, picture in pictures]
    width = sum(columns) + gap * (len(pictures) - 1)
    strip = Image.new("RGB", (width, header + max(picture.height for _, picture in pictures)), _PAPER)
    draw = ImageDraw.Draw(strip)
    left = 0
    for (title, picture), column in zip(pictures, columns, strict=True):
        draw.text((left + 2, header // 4), title, fill=_INK, font=font)
        strip.paste(picture, (left, header))
        left += column + gap
    return strip


def stack_below(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Both on paper, one above the other."""
    stacked = Image.new("RGB", (max(upper.width, lower.width), upper.height + lower.height), _PAPER)
    stacked.paste(upper, (0, 0))
    stacked.paste(lower, (0, upper.height))
    return stacked


def _check(image: Image.Image, class_map: ClassMap, label_space: LabelSpace, what: str) -> None:
    if class_map.shape != (image.height, image.width):
        raise ValueError(
            f"{what} is {class_map.shape[0]} x {class_map.shape[1]}, the image {image.height} x {image.width} "
            "(height x width); give both at native size"
        )
    outside = (class_map < 0) | (class_map >= label_space.num_classes)
    strange = class_map[outside & (class_map != label_space.ignore_index)]
    if strange.size:
        raise ValueError(
            f"{what} holds {int(strange[0])}, which is no class index (0..{label_space.num_classes - 1}, "
            f"{label_space.ignore_index} for ignored); for label ids use LabelSpace.encode first"
        )


def _fill(
    picture: UInt8[np.ndarray, "rows width 3"],
    index: Integer[np.ndarray, "rows width"],
    strength: Float[np.ndarray, "rows width"],
    label_space: LabelSpace,
) -> UInt8[np.ndarray, "rows width 3"]:
    filled = np.array([is_filled(entry) for entry in label_space.classes])[index]
    strength = (strength * filled)[..., None]
    return (picture * (1 - strength) + _colour_table(label_space)[index] * strength).astype(np.uint8)


def _colour_table(label_space: LabelSpace) -> Integer[np.ndarray, "classes 3"]:
    return np.array([entry.colour for entry in label_space.classes], dtype=np.uint8)


def _edges(class_map: ClassMap) -> Bool[np.ndarray, "height width"]:
    """Pixels whose right or lower neighbour is of another class."""
    edges = np.zeros(class_map.shape, dtype=bool)
    edges[:, :-1] |= class_map[:, :-1] != class_map[:, 1:]
    edges[:-1] |= class_map[:-1] != class_map[1:]
    return edges


def _hatch(
    picture: Integer[np.ndarray, "height width 3"], where: Bool[np.ndarray, "height width"]
) -> Integer[np.ndarray, "height width 3"]:
    rows, columns = np.nonzero(where)
    phase = (rows + columns) % _HATCH_PERIOD
    hatched = picture.copy()
    for stripe, colour in ((phase < 2, (235, 235, 235)), (phase >= _HATCH_PERIOD - 2, (40, 40, 40))):
        hatched[rows[stripe], columns[stripe]] = colour
    return hatched


def _legend_entries(class_map: ClassMap, label_space: LabelSpace) -> list[tuple[str, tuple[int, int, int]]]:
    """Classes of the picture in their order; when they are few, the others follow."""
    present = set(np.unique(class_map).tolist())
    classes = list(enumerate(label_space.classes))
    ordered = [entry for index, entry in classes if index in present]
    if len(classes) <= _MOST_LEGEND_ENTRIES:
        ordered += [entry for index, entry in classes if index not in present]
    shown = [(_short(entry.name), entry.colour) for entry in ordered[:_MOST_LEGEND_ENTRIES]]
    hidden = len(ordered) - len(shown)
    return [*shown, (f"and {hidden} more", _PAPER)] if hidden else shown


def _short(name: str) -> str:
    """A name of a stranger's file may have any length, and a legend is as wide as its longest."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _font_size(width: int) -> int:
    return min(28, max(11, width // 40))


def _legend_strip(
    entries: list[tuple[str, tuple[int, int, int]]], ignored: bool, note: str | None, width: int
) -> Image.Image:
    """Swatches and names, wrapped to the width; as wide as its longest entry at least."""
    size = _font_size(width)
    font, swatch, pad = ImageFont.load_default(size), size, size // 2
    items = [*entries, *([("ignored", None)] if ignored else [])]
    widths = [swatch + pad + int(font.getlength(name)) + 2 * pad for name, _ in items]
    notes = _wrap(note, font, max(width, 160) - 2 * pad) if note else []
    width = max(width, *(w + pad for w in widths), *(int(font.getlength(line)) + 2 * pad for line in notes), 1)
    places, left, row = [], pad, 0
    for item_width in widths:
        if left > pad and left + item_width > width:
            left, row = pad, row + 1
        places.append((left, row))
        left += item_width
    line = size + pad
    strip = Image.new("RGB", (width, pad + line * (row + 1 + len(notes)) + pad), _PAPER)
    draw = ImageDraw.Draw(strip)
    for (name, colour), (x, y) in zip(items, places, strict=True):
        box = (x, pad + y * line, x + swatch, pad + y * line + swatch)
        draw.rectangle(box, fill=colour or _PAPER, outline=_INK)
        if colour is None:
            draw.line((box[0], box[3], box[2], box[1]), fill=_INK)
        draw.text((x + swatch + pad, pad + y * line - 1), name, fill=_INK, font=font)
    for number, text in enumerate(notes):
        draw.text((pad, pad + (row + 1 + number) * line), text, fill=_INK, font=font)
    return strip


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
