"""Writing label maps as masks are stored, whatever the file format and bit depth."""

from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dinoseg.labels import LabelSpace
from dinoseg.labels.palette import IGNORED_COLOUR
from dinoseg.system.files import replaced_file


def write_label_map(
    path: Path,
    decoded: Integer[np.ndarray, "height width"],
    label_space: LabelSpace,
    palette: bool = False,
    pnginfo: PngInfo | None = None,
) -> None:
    """Writes label ids as ``LabelSpace.decode`` gives them; the file appears whole or not at all.

    The suffix names the format (.png, .tif, .npy). Colours become RGB; ids up to 255 8-bit grey, or a palette with the
    drawing colours when ``palette`` is set; ids up to 65535 16-bit grey. ``pnginfo`` holds text chunks of a PNG.

    Raises:
        ValueError: label ids beyond 65535 in a PNG.
    """
    with replaced_file(path) as temporary:
        if path.suffix.lower() == ".npy":
            np.save(temporary, decoded)
        else:
            _label_image(decoded, label_space, palette, path).save(temporary, pnginfo=pnginfo)


def _label_image(
    decoded: Integer[np.ndarray, "height width"], label_space: LabelSpace, palette: bool, path: Path
) -> Image.Image:
    if label_space.kind == "colours":
        wide = decoded.astype(np.int32)
        return Image.fromarray(np.stack([wide >> 16 & 255, wide >> 8 & 255, wide & 255], axis=-1).astype(np.uint8))
    largest = int(decoded.max()) if decoded.size else 0
    if largest > 65535 and path.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"{path}: label id {largest} does not fit 16 bits; write a .tif or .npy file")
    image = Image.fromarray(decoded)
    if palette and decoded.dtype == np.uint8:
        image.putpalette(_drawing_palette(label_space))
    return image


def _drawing_palette(label_space: LabelSpace) -> list[int]:
    colours = [IGNORED_COLOUR] * 256
    for entry in label_space.classes:
        for label_id in entry.label_ids:
            colours[label_id] = entry.colour
    return [channel for colour in colours for channel in colour]
