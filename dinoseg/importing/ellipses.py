"""Ellipses to pixels, by the rule of polygons: a pixel belongs to one if its centre lies inside."""

from dataclasses import dataclass

import numpy as np

from dinoseg.importing.runs import Region, Runs


@dataclass(frozen=True)
class Ellipse(Region):
    """Centre (x, y), radii along its own axes, and how far it is turned clockwise."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    degrees: float = 0.0

    def runs(self, height: int, width: int) -> Runs:
        """Its pixels within a picture of this size."""
        cosine, sine = np.cos(np.deg2rad(self.degrees)), np.sin(np.deg2rad(self.degrees))
        along, across = self.radius_x**-2, self.radius_y**-2
        # Of each row: a x^2 + b x + c = 0 where it crosses the ellipse.
        rows = np.arange(height, dtype=np.int64)
        down = rows + 0.5 - self.y
        a = cosine**2 * along + sine**2 * across
        b = 2 * down * cosine * sine * (along - across)
        c = down**2 * (sine**2 * along + cosine**2 * across) - 1
        root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0))
        starts, ends = (
            np.clip(np.ceil(self.x + (sign * root - b) / (2 * a) - 0.5), 0, width).astype(np.int64) for sign in (-1, 1)
        )
        inside = ends > starts
        return Runs(rows[inside], starts[inside], ends[inside])
