"""Which ways to train fit what was given, and what features they need."""

from dataclasses import replace

from dinoseg.config import Config
from dinoseg.config.defaults import keeps_features
from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.machine import Machine
from dinoseg.planning.request import PlanRequest
from dinoseg.planning.rule import Way
from dinoseg.planning.ways import ways

# fp16 values of four layers.
_BYTES_A_CHANNEL = 8


def allowed_ways(request: PlanRequest, data: Fingerprint, machine: Machine) -> tuple[Way, ...]:
    """At least one, the best first."""
    given = request.alone
    found = ways(data, machine.patch)
    if request.holds("model.backbone_scale"):
        found = tuple(replace(way, scale=given.model.backbone_scale) for way in found)
    if request.holds("decoder_head.type"):
        # A head that no rule chooses sees by features alone, as the linear one does.
        head = given.decoder_head.type
        own = tuple(way for way in found if way.head == head)
        found = own or tuple(replace(way, head=head) for way in found if way.head == "linear")
    wanted = given.train.cache_features
    if wanted is None and not keeps_features(given):
        wanted = False
    if wanted is not None:
        found = tuple(replace(way, cached=wanted) for way in found)
    elif given.train.cached_views:
        # Views of features that are not kept are refused.
        found = tuple(way for way in found if way.cached)
    return tuple(dict.fromkeys(found))


def pictures(config: Config, data: Fingerprint, validated: int) -> int:
    """Whose features are computed in the pass over the images.

    Args:
        validated: validation images that each evaluation sees.
    """
    return data.images["train"] * (1 + config.train.cached_views) + (validated if config.eval.mode == "whole" else 0)


def gigabytes(way: Way, data: Fingerprint, machine: Machine, number: int) -> float:
    """What the features of so many pictures take on disk, about."""
    height, width = data.size
    cells = height * width * way.scale**2 / machine.patch**2
    return cells * machine.channels * _BYTES_A_CHANNEL * number / 1e9
