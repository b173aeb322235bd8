"""``datasets.bands``, ``datasets.range`` and what depends on them: what is filled in, and what is refused."""

import pytest

from dinoseg.config.bands import Percentiles, parse_range
from dinoseg.config.loading import load_config


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, None),
        ("-1,1", ((-1.0, 1.0),)),
        ([0, 4095], ((0.0, 4095.0),)),
        ([[0, 1], [-1, 1]], ((0.0, 1.0), (-1.0, 1.0))),
        ("p1-p99", Percentiles(1.0, 99.0)),
        ("p0.5 - p99.5", Percentiles(0.5, 99.5)),
    ],
)
def test_ranges(given: object, found: object) -> None:
    assert parse_range(given) == found


def test_what_is_filled_in() -> None:
    plain, three, four = (
        load_config(),
        load_config(["datasets.bands=[3,2,1]"]),
        load_config(["datasets.bands=[3,2,1,4]"]),
    )
    assert plain.transforms.mean == [0.485, 0.456, 0.406] and plain.model.train_bands is None
    assert (three.model.train_bands, three.model.band_weights, three.transforms.mean) == (False, None, None)
    assert (four.model.train_bands, four.model.band_weights, four.transforms.mean) == (True, "mean", None)
    assert (three.optimizer.backbone_lr_factor, four.optimizer.backbone_lr_factor) == (None, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["datasets.bands=[0,1]"],
            "datasets.bands=0 is too small; give a number from 1",
        ),
        (["datasets.bands=[]"], "datasets.bands is empty; name at least one band"),
        (["datasets.bands=[4,3,4]"], r"datasets.bands=\[4, 3, 4\] names band 4 twice; name each band once"),
        (["datasets.range=3,1"], r"datasets.range=3,1: low is not below high \(3 and 1\); exchange the two"),
        (["datasets.range=p9-p1"], "datasets.range=p9-p1: low is not below high; exchange the two"),
        (["datasets.range=p1-p101"], "datasets.range=p1-p101: percentiles are 0 to 100"),
        (["datasets.range=wide"], "datasets.range=wide: no range; give two values, -1,1 or"),
        (["datasets.range=[0,inf]"], "not finite; give two values"),
        (["datasets.range=[[0,1],[0,2]]"], "datasets.range has 2 pairs; give one: datasets.bands is left out"),
        (
            ["datasets.bands=[1,2,3]", "datasets.range=[[0,1],[0,2]]"],
            "has 2 pairs; give 3, one a band of",
        ),
        (["model.band_weights=copy"], "model.band_weights=copy has no effect without datasets.bands; add them"),
        (["model.train_bands=true"], "model.train_bands=true has no effect without datasets.bands"),
        (["datasets.bands=[1,2,3]", "model.band_weights=copy"], "model.band_weights=copy widens nothing"),
        (["datasets.bands=[1]", "transforms.mean=[0.1,0.2]"], "transforms.mean=.* has 2 entries; give 1, one a band"),
        (
            ["datasets.bands=[1]", "model.mode=full", "model.train_bands=false"],
            "train_bands=false with model.mode=full",
        ),
        (
            ["datasets.bands=[1]", "train.cache_features=true"],
            "features change with every step while",
        ),
        (
            ["datasets.bands=[1,2,3]", "train.cached_views=2"],
            "cached_views=2 with datasets.bands: variants",
        ),
    ],
)
def test_what_does_not_go_together(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(settings)
