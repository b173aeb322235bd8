"""Fingerprints, machines and paces made by hand, for tests of plans."""

from collections.abc import Mapping
from typing import Any

from dinoseg.planning.fingerprint import ClassPrint, Fingerprint
from dinoseg.planning.machine import Machine
from dinoseg.planning.machine_pace import MeasuredPace
from dinoseg.planning.positions import Positions
from dinoseg.planning.widths import Width

NO_UP, UP = Positions(16, 0.11, 0.13), Positions(24, 0.2, 0.7)


def class_print(name: str, share: float, width: float | None, images: float = 1.0) -> ClassPrint:
    return ClassPrint(name, share, images, None if width is None else Width(width, width / 2, 1000))


def retina(**changes: Any) -> Fingerprint:
    """As DRIVE: three thin classes of four, no up."""
    classes = (
        class_print("background", 0.92, 50.0),
        class_print("artery", 0.035, 4.0),
        class_print("vein", 0.042, 4.0),
        class_print("crossing", 0.007, 2.0),
    )
    given: dict[str, Any] = {"images": {"train": 16, "val": 4}, "size": (584, 565), "largest": (584, 565), "bands": 3}
    return Fingerprint(**(given | {"classes": classes, "positions": NO_UP, "masks": 14} | changes))


def street(**changes: Any) -> Fingerprint:
    """As CamVid: wide classes, a thin one, rare ones, an up."""
    classes = (
        class_print("sky", 0.17, 100.0),
        class_print("road", 0.32, 150.0),
        class_print("building", 0.23, 76.0),
        class_print("pole", 0.01, 3.0),
        class_print("pavement", 0.06, 50.0),
        class_print("tree", 0.1, 60.0),
        class_print("sign", 0.01, 20.0),
        class_print("fence", 0.01, 25.0),
        class_print("car", 0.06, 60.0),
        class_print("pedestrian", 0.006, 16.0),
        class_print("bicyclist", 0.003, 23.0, images=0.55),
    )
    given: dict[str, Any] = {"images": {"train": 367, "val": 101}, "size": (360, 480), "largest": (360, 480)}
    return Fingerprint(**(given | {"bands": 3, "classes": classes, "positions": UP, "masks": 24} | changes))


def machine(paces: Mapping[str, float] | None = None, **changes: Any) -> Machine:
    """Two cores; 0.9 s a megapixel."""
    given: dict[str, Any] = {"device": "cpu", "cores": 2, "threads": 2, "memory": 16.0, "patch": 14, "channels": 384}
    return Machine(**(given | {"seconds_per_megapixel": dict(paces or {"FLOAT32": 2.4, "BFLOAT16": 0.9})} | changes))


def pace(scale: float = 2.0, picture: float = 1.5, step: float = 0.4) -> MeasuredPace:
    """As of the dense head on two cores."""
    return MeasuredPace(scale, build_seconds=1.0, picture_seconds=picture, step_seconds=step, image_seconds=0.5)
