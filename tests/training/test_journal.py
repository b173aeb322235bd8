"""metrics.jsonl holds what its documentation says: no key more, none less."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import tiny_settings, write_tiny_dataset
from rich.console import Console

from dinoseg.config.loading import load_config
from dinoseg.verbs.train import train

DOCUMENT = Path(__file__).parents[2] / "docs" / "run_folder.md"
M2F = [
    "decoder_head.type=m2f",
    "decoder_head.hidden_dim=32",
    "decoder_head.num_heads=2",
    "decoder_head.num_queries=6",
    "decoder_head.encoder_layers=1",
    "decoder_head.decoder_layers=2",
    "decoder_head.adapter_inplane=4",
    "m2f_train.num_points=64",
]
TEXTS = {"kind", "absent_classes"}


def _documented() -> dict[tuple[str, str], str]:
    """When a key is there, by kind and key."""
    section = DOCUMENT.read_text(encoding="utf-8").split("## metrics.jsonl\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (train|val) \| (.+?) \| .+? \| (.*?) ?\|$", section, flags=re.MULTILINE)
    return {(kind, key): when.strip() for kind, keys, when in rows for key in re.findall(r"`(\w+)`", keys)}


def _lines(folder: Path, *more: str) -> list[dict[str, Any]]:
    write_tiny_dataset(folder / "data", {"train": 3, "val": 2})
    settings = tiny_settings(folder / "data", folder / "run", "train.log_interval=3", "trackers=[]", *more)
    train(load_config(settings), Console(quiet=True))
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


CE, DICE, QUERIES = (
    "linear or dense head, `train.celoss_weight` above 0",
    "m2f, pmt or eomt head, or `train.diceloss_weight` above 0",
    "m2f, pmt or eomt head",
)
BOUNDARY = "defined, `eval.boundary_iou=true`"
COARSER, THIN = "dense head", "`train.cldice_weight` above 0"
DENSE = ["decoder_head.type=dense", "decoder_head.stem_widths=[8,8,8,8]", "train.cldice_weight=0.1"]


@pytest.mark.parametrize(
    ("settings", "conditions"),
    [
        (["train.diceloss_weight=1"], {CE, DICE}),
        (["train.celoss_weight=0", "train.diceloss_weight=1"], {DICE}),
        ([*M2F, "eval.boundary_iou=true"], {DICE, QUERIES, BOUNDARY}),
        (DENSE, {CE, DICE, COARSER, THIN}),
    ],
)
def test_every_line_has_the_documented_keys(settings: list[str], conditions: set[str], tmp_path: Path) -> None:
    documented = _documented()
    assert conditions <= set(documented.values())
    lines = _lines(tmp_path, *settings)
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("train", 1),
        ("val", 2),
        ("train", 3),
        ("val", 4),
    ]
    for line in lines:
        expected = {
            key
            for (kind, key), when in documented.items()
            if kind == line["kind"] and when in {"", "defined", *conditions}
        }
        assert set(line) - {"kind"} == expected
        for key, value in line.items():
            if key == "per_class_IoU":
                assert set(value) == {"class_0", "class_1", "class_2"}
                assert all(figure is None or 0 <= figure <= 100 for figure in value.values())
            else:
                assert isinstance(value, str if key in TEXTS else int | float), key
        if line["kind"] == "train":
            terms = [value for key, value in line.items() if key.startswith("loss_")]
            assert line["loss"] == pytest.approx(sum(terms))
