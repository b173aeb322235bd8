"""What the same validation images looked like at each evaluation, where ``eval.keep_overlays`` kept it."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dinoseg.run_folder.folder import RunFolder

_MOST_IMAGES = 4
_MOST_STEPS = 8
# Of a strip of four views, in pixels.
_WIDTH = 960


@dataclass(frozen=True)
class LearnedImage:
    """One image, and its strips as ``data:`` URIs in the order of the steps."""

    name: str
    strips: tuple[tuple[int, str], ...]


def learned_images(folder: RunFolder) -> list[LearnedImage]:
    """A few of the images kept, each at a few steps, the first and the last among them; none where none were kept."""
    steps = folder.kept_overlays()
    if not steps:
        return []
    chosen = [steps[place] for place in _spread(len(steps))]
    last = chosen[-1][1]
    names = sorted(path.relative_to(last) for path in last.rglob("*.png"))[:_MOST_IMAGES]
    found = [LearnedImage(name.with_suffix("").as_posix(), tuple(_strips(chosen, name))) for name in names]
    return [image for image in found if image.strips]


def _spread(count: int) -> list[int]:
    """Places of some of so many, evenly spread, the first and the last among them."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, _MOST_STEPS)).round()]


def _strips(steps: list[tuple[int, Path]], name: Path) -> list[tuple[int, str]]:
    """Those that can be read."""
    strips = []
    for step, folder in steps:
        try:
            with Image.open(folder / name) as opened:
                picture = opened.convert("RGB")
        except OSError:
            continue
        picture.thumbnail((_WIDTH, _WIDTH))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=82, subsampling=0)
        strips.append((step, "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")))
    return strips
