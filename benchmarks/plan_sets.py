"""Three data sets drawn from a seed, each of another kind than the real ones: for ``plan.py``.

    python benchmarks/plan_sets.py sets/

- ``blobs``: large smooth regions of three textures, no up.
- ``many``: fourteen classes of shapes on a ground and below a sky, some of them rare; an up.
- ``tiny``: two kinds of specks of 5 pixels, half of a per cent of the image, no up.

A class shows by its texture and colour, neither of which is sure: both overlap with those of its neighbours.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 384
COUNTS = {"train": 40, "val": 10, "test": 40}
CLASSES = {
    "blobs": ("smooth", "coarse", "fine"),
    "many": ("sky", "ground", *(f"{shape}_{tone}" for shape in ("disc", "bar", "box") for tone in range(4))),
    "tiny": ("ground", "round", "long"),
}
Drawing = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def blobs(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Picture, float of 0..255 (height, width, 3), and class indices (height, width)."""
    fields = np.stack([gaussian_filter(generator.normal(size=(SIDE, SIDE)), 28) for _ in range(3)])
    class_map = fields.argmax(0)
    picture = np.zeros((SIDE, SIDE, 3))
    for index, grain in enumerate((6.0, 2.5, 0.8)):
        texture = np.stack([gaussian_filter(generator.normal(size=(SIDE, SIDE)), grain) for _ in range(3)], -1)
        drawn = 120 + generator.normal(0, 18, 3) + 32 * texture / texture.std()
        picture[class_map == index] = drawn[class_map == index]
    return picture, class_map


def many(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Likewise; shapes stand on the ground, large ones in front."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    horizon = int(generator.uniform(0.35, 0.5) * SIDE)
    class_map = (rows >= horizon).astype(int)
    picture = np.where(class_map[..., None] == 0, [150.0, 170, 200], [110.0, 105, 95]) + generator.normal(0, 12, 3)
    for _ in range(14):
        # Kinds at the end of the list are rare.
        kind = min(11, int(generator.exponential(4)))
        shape, tone = divmod(kind, 4)
        foot = generator.integers(horizon, SIDE)
        size = 8 + 60 * (foot - horizon) / (SIDE - horizon) * generator.uniform(0.6, 1.2)
        across = np.abs(columns - generator.integers(0, SIDE))
        above = foot - rows
        inside = (across**2 + (above - size / 2) ** 2 < (size / 2) ** 2) if shape == 0 else np.zeros_like(across, bool)
        if shape:
            width, height = ((0.05 * size + 1.5, 1.6 * size), (0.5 * size, 0.7 * size))[shape - 1]
            inside = (across < width) & (above >= 0) & (above < height)
        class_map[inside] = 2 + kind
        colour = np.array([[200, 80, 70], [80, 160, 90], [90, 100, 190], [190, 180, 80]][tone])
        picture[inside] = colour + generator.normal(0, 22, 3)
    return picture, class_map


def tiny(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Likewise; specks of two forms in one colour."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ground = np.stack([gaussian_filter(generator.normal(size=(SIDE, SIDE)), 5) for _ in range(3)], -1)
    picture, class_map = 120 + 9 * ground / ground.std(), np.zeros((SIDE, SIDE), int)
    for _ in range(generator.integers(15, 40)):
        down, right = rows - generator.integers(0, SIDE), columns - generator.integers(0, SIDE)
        turn, long = generator.uniform(0, np.pi), int(generator.random() < 0.5)
        along, across = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right
        length, width = ((2.6, 2.6), (6.0, 1.3))[long]
        inside = (along / length) ** 2 + (across / width) ** 2 <= 1
        class_map[inside] = 1 + long
        picture[inside] += [60, -40, 25]
    return picture, class_map


SETS: dict[str, Drawing] = {"blobs": blobs, "many": many, "tiny": tiny}


def write_set(root: Path, name: str, seed: int = 0, counts: dict[str, int] | None = None) -> Path:
    """Writes ``root/name/{train,val,test}/{images,masks}``; the same numbers give the same files."""
    for split_number, (split, count) in enumerate((counts or COUNTS).items()):
        for kind in ("images", "masks"):
            (root / name / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            generator = np.random.default_rng([seed, list(SETS).index(name), split_number, number])
            picture, class_map = SETS[name](generator)
            picture = np.clip(gaussian_filter(picture, (0.7, 0.7, 0)) + generator.normal(0, 7, picture.shape), 0, 255)
            for kind, pixels in (("images", picture), ("masks", class_map)):
                Image.fromarray(pixels.astype(np.uint8)).save(root / name / split / kind / f"{number:03d}.png")
    return root / name


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for set_name in SETS:
        print(write_set(Path(sys.argv[1]), set_name))
