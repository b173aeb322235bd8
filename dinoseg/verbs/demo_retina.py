"""A retina-like data set, drawn: fundus, optic disc, branching arteries and veins that cross. For demo and tests."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from dinoseg.system.files import replace_text

BACKGROUND, ARTERY, VEIN, CROSSING = 0, 1, 2, 3

_SUPERSAMPLING = 2
_MARKER = "synthetic.json"
_STEP = 0.012  # of the picture's side, between points of a vessel
_BENDING_STEPS = 45  # a trunk bends less and less, and runs straight after this many points

Rgb = UInt8[np.ndarray, "side side 3"]
Plane = Float[np.ndarray, "side side"]


@dataclass(frozen=True)
class Vessel:
    """A curve with a width at every point; lengths are shares of the picture's side."""

    points: Float[np.ndarray, "points 2"]
    widths: Float[np.ndarray, " points"]


@dataclass(frozen=True)
class Planes:
    """What covers each pixel, 0..1: arteries, veins, the light on arteries, the field of view."""

    artery: Plane
    vein: Plane
    reflex: Plane
    field: Plane


@dataclass(frozen=True)
class Shoot:
    """Where a vessel starts: position, heading and its bend in radians, width, and branchings before it."""

    start: Float[np.ndarray, "2"]
    heading: float
    bend: float
    width: float
    depth: int


def generate_dataset(root: Path, train: int = 32, val: int = 6, test: int = 6, side: int = 192, seed: int = 0) -> None:
    """Writes ``root/{train,val,test}/{images,masks}/NNN.png``; masks hold label ids 0 background .. 3 crossing.

    The same numbers give the same files. Nothing is written when the folder holds them already; a generation that was
    interrupted is done again.

    Raises:
        ValueError: the folder holds something else.
    """
    recipe = {"train": train, "val": val, "test": test, "side": side, "seed": seed}
    marker, begun = root / _MARKER, {"unfinished": recipe}
    found = json.loads(marker.read_text()) if marker.is_file() else None
    if found == recipe:
        return
    if found != begun and root.exists() and any(root.iterdir()):
        raise ValueError(f"{root}: not empty; a data set can only be generated into an empty or a new folder")
    replace_text(marker, json.dumps(begun))
    for split_number, split in enumerate(("train", "val", "test")):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(recipe[split]):
            picture, mask = draw_retina(side, np.random.default_rng([seed, split_number, number]))
            Image.fromarray(picture).save(root / split / "images" / f"{number:03d}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number:03d}.png")
    # Last, so that an interrupted generation is not taken for a whole one.
    replace_text(marker, json.dumps(recipe))


def draw_retina(side: int, generator: np.random.Generator) -> tuple[Rgb, UInt8[np.ndarray, "side side"]]:
    """One square picture of ``side`` pixels and its mask of label ids."""
    temporal = 1 if generator.random() < 0.5 else -1
    disc = np.array([0.5 - temporal * generator.uniform(0.2, 0.27), 0.5 + generator.uniform(-0.04, 0.04)])
    arteries = _grow_tree(disc, temporal, generator, width=0.021, apart=0.28)
    veins = _grow_tree(disc, temporal, generator, width=0.026, apart=-0.12)
    planes = Planes(
        artery=_coverage(arteries, side),
        vein=_coverage(veins, side),
        reflex=_coverage([Vessel(vessel.points, vessel.widths * 0.3) for vessel in arteries], side),
        field=_field_of_view(side),
    )
    return _paint(disc, temporal, planes, generator), _mask(planes)


def _mask(planes: Planes) -> UInt8[np.ndarray, "side side"]:
    mask = np.zeros(planes.field.shape, dtype=np.uint8)
    mask[planes.artery > 0.5] = ARTERY
    mask[planes.vein > 0.5] = VEIN
    # At the optic disc they overlap all over, as annotators of real pictures mark it too.
    mask[(planes.artery > 0.5) & (planes.vein > 0.5)] = CROSSING
    mask[planes.field < 0.5] = BACKGROUND
    return mask


def _grow_tree(
    disc: np.ndarray, temporal: int, generator: np.random.Generator, width: float, apart: float
) -> list[Vessel]:
    """Four trunks from the optic disc: above and below, to the temporal side in an arc, to the nasal side steeply.

    ``apart`` turns all trunks (radians), so that arteries and veins run beside each other and not on top.
    """
    vessels: list[Vessel] = []
    for vertical in (-1, 1):
        for side, slant in ((temporal, generator.uniform(0.9, 1.15)), (-temporal, generator.uniform(0.5, 0.9))):
            heading = math.atan2(vertical * math.sin(slant + apart), side * math.cos(slant + apart))
            bend = -vertical * side * (0.04 if side == temporal else 0.012) * generator.uniform(0.7, 1.2)
            start = disc + generator.normal(0, 0.008, 2)
            _grow(vessels, Shoot(start, heading, bend, width * generator.uniform(0.85, 1.1), 0), generator)
    return vessels


def _grow(vessels: list[Vessel], shoot: Shoot, generator: np.random.Generator) -> None:
    """Adds one vessel and, recursively, its branches; ends at the rim or when it has become too thin."""
    position, heading, width = shoot.start, shoot.heading, shoot.width
    points, widths = [position], [width]
    sway, since_branch, thinnest, side = 0.0, 0, 0.008, int(generator.choice([-1, 1]))
    while np.linalg.norm(position - 0.5) < 0.46 and width > thinnest and len(points) < 70:
        # The sway is pulled back to zero: a vessel winds about its course; a heading that drifts would draw loops.
        sway = 0.85 * sway + generator.normal(0, 0.09)
        heading += shoot.bend * max(0.0, 1 - len(points) / _BENDING_STEPS)
        position = position + _STEP * np.array([math.cos(heading + sway), math.sin(heading + sway)])
        width *= 0.988
        points.append(position)
        widths.append(width)
        since_branch += 1
        if shoot.depth < 2 and since_branch > 7 and generator.random() < 0.13:
            turn = side * generator.uniform(0.5, 0.9)
            branch = Shoot(position, heading + turn, -0.012 * side, width * 0.78, shoot.depth + 1)
            _grow(vessels, branch, generator)
            side = -side
            heading -= 0.15 * turn
            width *= 0.93
            since_branch = 0
    if len(points) > 2:
        vessels.append(Vessel(np.array(points), np.array(widths)))


def _coverage(vessels: list[Vessel], side: int) -> Plane:
    """Share of each pixel that the vessels cover, 0..1."""
    large = side * _SUPERSAMPLING
    canvas = Image.new("L", (large, large))
    draw = ImageDraw.Draw(canvas)
    for vessel in vessels:
        for (x, y), (next_x, next_y), width in zip(
            vessel.points[:-1] * large, vessel.points[1:] * large, vessel.widths * large, strict=False
        ):
            draw.line((x, y, next_x, next_y), fill=255, width=max(1, round(width)))
            radius = width / 2
            draw.ellipse((next_x - radius, next_y - radius, next_x + radius, next_y + radius), fill=255)
    return np.asarray(canvas.resize((side, side), Image.Resampling.BOX), dtype=np.float64) / 255


def _field_of_view(side: int) -> Plane:
    """1 within the round field of view, 0 in the black surround, soft at the rim."""
    radius = _distance(side, np.array([0.5, 0.5]))
    return np.clip((0.475 - radius) * side / 1.5, 0, 1)


def _distance(side: int, centre: np.ndarray) -> Plane:
    """Distance of every pixel from a point, in shares of the side."""
    axis = (np.arange(side) + 0.5) / side
    return np.hypot(axis[None, :] - centre[0], axis[:, None] - centre[1])


def _paint(disc: np.ndarray, temporal: int, planes: Planes, generator: np.random.Generator) -> Rgb:
    side = planes.field.shape[0]
    base = np.array([196.0, 96.0, 50.0]) * generator.uniform(0.88, 1.08, 3)
    lit_from = generator.uniform(0.35, 0.65, 2)
    light = 1.08 - 0.75 * _distance(side, lit_from) ** 1.5
    mottle = gaussian_filter(generator.normal(size=(side, side)), side * 0.02) * side * 0.02
    picture = base * (light * (1 + 0.05 * mottle))[..., None]
    macula = np.exp(-((_distance(side, disc + np.array([temporal * 0.33, 0.02])) / 0.07) ** 2))
    picture *= 1 - 0.35 * macula[..., None]
    glow = 1 / (1 + np.exp((_distance(side, disc) - 0.052) * 130))
    picture += glow[..., None] * (np.array([250.0, 205.0, 140.0]) - picture) * 0.8
    soft = side / 400
    for coverage, tint in ((planes.artery, (0.80, 0.56, 0.55)), (planes.vein, (0.58, 0.36, 0.42))):
        strength = gaussian_filter(coverage, soft)[..., None]
        picture *= 1 - strength * (1 - np.array(tint))
    picture += gaussian_filter(planes.reflex, soft)[..., None] * np.array([34.0, 26.0, 14.0])
    picture = gaussian_filter(picture, (soft, soft, 0)) + generator.normal(0, 3.0, picture.shape)
    return np.clip(picture * planes.field[..., None] + generator.normal(4, 1.0, picture.shape), 0, 255).astype(np.uint8)
