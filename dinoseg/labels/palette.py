"""Drawing colours of classes that bring none of their own."""

import colorsys

Colour = tuple[int, int, int]

# At least 35 CIELAB units apart from each other, for normal sight and for a simulated deuteranope (Machado et al. 2009,
# severity 1): found by farthest-point selection. The first is dark because class 0 is most often the background.
DISTINCT_COLOURS: tuple[Colour, ...] = (
    (30, 30, 30),
    (230, 60, 50),
    (60, 120, 230),
    (250, 200, 50),
    (90, 255, 240),
    (180, 30, 150),
    (240, 240, 180),
    (180, 120, 120),
    (30, 75, 0),
    (0, 0, 255),
    (15, 0, 75),
    (0, 15, 165),
)

IGNORED_COLOUR: Colour = (128, 128, 128)

_GOLDEN_RATIO = 0.618033988749895


def class_colour(index: int) -> Colour:
    """RGB colour (0..255) of a class index; distinct for the first twelve, generated after that."""
    if index < len(DISTINCT_COLOURS):
        return DISTINCT_COLOURS[index]
    step = index - len(DISTINCT_COLOURS)
    hue = (step * _GOLDEN_RATIO) % 1.0
    saturation = (0.85, 0.55, 0.7)[step % 3]
    value = (0.95, 0.7, 0.5, 0.82)[step % 4]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
