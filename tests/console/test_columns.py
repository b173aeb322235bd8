"""Tables on a console of 80 columns: names fold at spaces, and figures stay whole beside them."""

import io

import pytest
import torch
from rich.console import Console, RenderableType

from dinoseg.check.check import CheckReport
from dinoseg.check.split_summary import SplitSummary
from dinoseg.console.comparison_table import comparison_table
from dinoseg.console.evaluation_table import evaluation_table
from dinoseg.console.label_table import class_table, label_id_table
from dinoseg.data.pairs import SPLITS
from dinoseg.evaluation.compare import Comparison, Difference
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation
from dinoseg.evaluation.measures import Measures
from dinoseg.labels import LabelSpace

NAMES = ("pedestrian", "motorcyclist", "road marking left", "traffic light far")
WORDS = {word for name in NAMES for word in name.split()}
SPACE = LabelSpace.build(dict(enumerate(NAMES)), None, None, [])
EVERY_FIGURE = Measures(boundary_width=0.02, thin_classes=(0, 1))


def words_of(table: RenderableType) -> set[str]:
    """The words of a table that fits 80 columns and is cut nowhere."""
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    return set(text.split())


@pytest.mark.parametrize("splits", [2, 3])
def test_shares_of_every_split(splits: int) -> None:
    pixels, masks = dict.fromkeys(range(4), 10**6), dict.fromkeys(range(4), 1234)
    summaries = [SplitSummary(name, 1234, 1234, {}, {}, {}, pixels, masks) for name in SPLITS[:splits]]
    found = words_of(label_id_table(CheckReport("ids", tuple(summaries), (), SPACE, None)))
    assert found >= WORDS | {"25.00", "1234/1234"}


def test_many_label_ids_of_one_class_fold_and_the_share_does_not() -> None:
    merged = LabelSpace.build({number: NAMES[number < 30] for number in range(60)}, None, None, [])
    assert words_of(class_table(merged, [1, 2])) >= {*NAMES[:2], "33.33", "66.67"}


@pytest.mark.parametrize("measures", [Measures(boundary_width=0.02), EVERY_FIGURE])
def test_figures_of_an_evaluation(measures: Measures) -> None:
    counts = Counts.empty(2, 4, measures)
    for row in range(2):
        truth = torch.zeros(16, 16, dtype=torch.int64)
        counts.count(row, truth, truth, 255, measures)
    policy = {"images": 2, "images_available": 2, "resolution": "native"}
    contents = Evaluation(counts, ("a", "b"), policy, SPACE, measures).to_dict()
    for row in contents["per_class"]:
        row |= {name: 100.0 for name in row if name[0].isupper() or name in ("precision", "recall")}
        row |= {"IoU_interval": [98.7, 100.0], "truth": 12_345_678}
    assert words_of(evaluation_table(contents, "val")) >= WORDS | {"100.00", "98.7-100.0", "12.35"}


def test_differences_of_two_evaluations() -> None:
    difference = Difference(12.34, 45.67, 33.33, (-30.01, 36.02), 20)
    classes = tuple((number, name, difference) for number, name in enumerate(NAMES))
    compared = Comparison("a", "b", 20, None, "skip_empty", difference, classes, (), (), (), ())
    assert words_of(comparison_table(compared)) >= WORDS | {"+33.33", "-30.01", "+36.02"}
